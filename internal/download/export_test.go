package download

// Row is a row of the table of responses, in words, for tests from outside.
type Row struct {
	Name                  string
	Before, Past, Unknown [2]string // what it means for the asset and for the host
}

// Responses is the table of responses.
func Responses() (rows []Row) {
	assets := map[forAsset]string{again: "again", denied: "denied", expired: "expired", last: "last", ruled: "ruled"}
	hosts := map[forHost]string{
		nothing: "nothing", answers: "answers", errs: "errs", undecided: "undecided", slows: "slows", silent: "silent", unreachable: "unreachable",
	}
	words := func(m meaning) [2]string { return [2]string{assets[m.asset], hosts[m.host]} }
	for _, r := range responses {
		rows = append(rows, Row{r.name, words(r.before), words(r.past), words(r.unknown)})
	}
	return rows
}
