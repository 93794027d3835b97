package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Verdicts.
const (
	met      = "met"
	missed   = "missed"
	unpaired = "not measured" // the goal is against a peer that is not installed
	failed   = "failed"
)

// row is one figure with its goal.
type row struct {
	Name       string   `json:"name"`
	Work       string   `json:"work"`
	Goal       goal     `json:"goal"`
	Figure     *spread  `json:"figure"` // in the goal's unit; null: not measured
	Contenders []result `json:"contenders,omitempty"`
	Verdict    string   `json:"verdict"`
	Note       string   `json:"note,omitempty"`
}

// rowOf judges the figures of all rounds.
func rowOf(name, work string, g goal, values []float64) row {
	s := spreadOf(values)
	return row{Name: name, Work: work, Goal: g, Figure: &s, Verdict: g.judge(s)}
}

// result is what a contender took for the work, over all rounds.
type result struct {
	Name      string  `json:"name"`
	Seconds   spread  `json:"seconds"`
	Sync      float64 `json:"sync_seconds,omitempty"` // median, of a peer: part of Seconds
	PeakMiB   float64 `json:"peak_mib"`               // resident, of the whole process, in the worst round
	CPU       spread  `json:"cpu_seconds"`            // user and system
	Saved     *spread `json:"saved,omitempty"`
	Saveable  *spread `json:"saveable,omitempty"` // the most that anybody could save
	Installed bool    `json:"installed"`
}

// document is the JSON file.
type document struct {
	Machine string `json:"machine"` // and how quiet it was
	Rounds  int    `json:"rounds"`
	Rows    []row  `json:"rows"`
}

// printTables prints Markdown that reads well as it is, so that a README can take
// it over: the goals, then what each contender took.
func printTables(w io.Writer, machine string, rows []row) error {
	goals := [][]string{{"", "work", "goal", "median", "spread", "verdict"}}
	contenders := [][]string{{"", "contender", "seconds", "spread", "of it sync", "peak MiB", "CPU seconds", "saved"}}
	for _, r := range rows {
		goals = append(goals, r.cells())
		for _, c := range r.Contenders {
			contenders = append(contenders, append([]string{r.Name}, c.cells()...))
		}
	}
	text := machine + "\n\n" + table(goals)
	if len(contenders) > 1 {
		text += "\n" + table(contenders)
	}
	_, err := io.WriteString(w, text)
	return err
}

// table aligns cells, of which the first line is the head.
func table(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, cells := range lines {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for i, cells := range lines {
		b.WriteString(joined(cells, widths, " "))
		if i == 0 {
			b.WriteString(joined(make([]string, len(cells)), widths, "-"))
		}
	}
	return b.String()
}

// joined is a line of the table.
func joined(cells []string, widths []int, fill string) string {
	var b strings.Builder
	for i, c := range cells {
		b.WriteString("|" + fill + c + strings.Repeat(fill, widths[i]-utf8.RuneCountInString(c)) + fill)
	}
	return b.String() + "|\n"
}

func (r row) cells() []string {
	median, extent := "", ""
	if r.Figure != nil {
		median, extent = number(r.Figure.Median), r.Figure.extent()
	}
	verdict := r.Verdict
	if r.Note != "" {
		verdict += ": " + strings.Join(strings.Fields(strings.ReplaceAll(r.Note, "|", "/")), " ")
	}
	return []string{r.Name, r.Work, r.Goal.String(), median, extent, verdict}
}

func (r result) cells() []string {
	if !r.Installed {
		return []string{r.Name, "not installed", "", "", "", "", ""}
	}
	saved := ""
	if r.Saved != nil {
		saved = fmt.Sprintf("%s of %s", number(r.Saved.Median), number(r.Saveable.Median))
	}
	return []string{r.Name, number(r.Seconds.Median), r.Seconds.extent(), number(r.Sync), number(r.PeakMiB), number(r.CPU.Median), saved}
}
