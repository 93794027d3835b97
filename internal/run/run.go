// Package run is the vocabulary of assetd: runs and assets, their states and
// the transitions that are legal, and what the stages say to each other: the
// API's answer, a refusal, what a poll means for a run, an event.
//
// It is pure: nothing here opens a file, a connection or a clock. Time comes in
// as an argument. The values are plain data; those that several goroutines
// share are copied, never written through.
package run

import "time"

// ID is a run's identifier: the API's `workflow_run_identifier`, a SQID.
type ID string

// MinID and MaxID bound a run ID's length in bytes.
const (
	MinID = 4
	MaxID = 64
)

// ValidID reports whether s can be a run ID: 4 to 64 of A-Z a-z 0-9 _ -.
// Only such values ever reach a URL or a path.
func ValidID(s string) bool {
	if len(s) < MinID || len(s) > MaxID {
		return false
	}
	return plain(s)
}

// plain reports whether s holds nothing but A-Z a-z 0-9 _ -.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// HandIn is one run ID as it was handed in, with the labels that came with it.
type HandIn struct {
	ID     ID
	Labels map[string]string
	// Submission numbers those that were submitted together, such as the runs of one
	// drop file, within one call: those of different submissions take turns.
	Submission int
	Again      bool // read once more from a file that was taken before: a run that was removed since stays so
}

// Taken counts what became of hand-ins.
type Taken struct {
	New   int  // runs that were not known before
	Known int  // runs that were: counted, not fetched again
	Late  []ID // known runs whose new labels came after their directory was chosen and were ignored

	Refused []Refused // what no further try will bring in
}

// Refused is a hand-in that was not taken, or not with its labels, for good.
type Refused struct {
	At       int    // its place in the list that was handed in
	Reason   string // names cause and fix
	NotTaken bool   // the run itself; else only its labels
}

// Run is what the queue knows of a run. Wall times are UTC; which clock they
// come from is said at each.
type Run struct {
	ID       ID                `json:"id"`
	State    State             `json:"state"`
	Labels   map[string]string `json:"labels,omitempty"`
	HandedIn time.Time         `json:"handed_in"` // local clock

	// Submission is the number of the submission that the run came with, from 1, the
	// later the higher; 0: it is not known.
	Submission int64 `json:"submission,omitempty"`

	// As the API has it; times are kept in the API's own words.
	App          string `json:"app,omitempty"`
	Status       Status `json:"status,omitempty"` // the first terminal one stands
	StartedAt    string `json:"started_at,omitempty"`
	CompletedAt  string `json:"completed_at,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`

	Polls Polls `json:"polls"`

	// EndedAt is when the first terminal answer came or the run was given up, by
	// the API's clock; zero while it is neither. EndedService is the same moment
	// on the service clock (clock.Service), from which lost_after counts.
	EndedAt      time.Time     `json:"ended_at,omitzero"`
	EndedService time.Duration `json:"ended_service,omitempty"`
	GaveUp       string        `json:"gave_up,omitempty"` // why, where the run never ended by itself

	Dir       string    `json:"dir,omitempty"` // below storage.dir, slashes; chosen once
	Outcome   Outcome   `json:"outcome,omitempty"`
	BadRecord string    `json:"bad_record,omitempty"` // what verify found of its manifest or SHA256SUMS; empty: nothing
	Revision  int       `json:"revision,omitempty"`   // of the last manifest written; 0: none
	SettledAt time.Time `json:"settled_at,omitzero"`

	Ignored int `json:"ignored,omitempty"` // fields of its first terminal answer with URLs that are no known asset's

	Assets int   `json:"assets,omitempty"` // all known
	Stored int   `json:"stored,omitempty"`
	Lost   int   `json:"lost,omitempty"`
	Marked int   `json:"marked,omitempty"` // of the stored ones, found damaged by verify
	Bytes  int64 `json:"bytes,omitempty"`  // of the stored ones
}

// Open is the number of assets neither stored nor lost.
func (r Run) Open() int { return r.Assets - r.Stored - r.Lost }

// Repairable reports whether a retry may bring what is not there: something is
// lost or was found damaged, or the run failed or was given up.
func (r Run) Repairable() bool {
	return r.State.Settled() && (r.Lost > 0 || r.Marked > 0 || r.BadRecord != "" || r.State == FailedRun || r.GaveUp != "")
}

// Ended reports whether nothing more is expected of the API but fresh URLs: the
// run had a terminal answer or was given up.
func (r Run) Ended() bool { return !r.EndedAt.IsZero() }

// Polls is the memory of polling of one run.
type Polls struct {
	Count      int       `json:"count,omitempty"`      // requests made
	Failures   int       `json:"failures,omitempty"`   // 5xx, network, unusable bodies in a row
	Answered   time.Time `json:"answered,omitzero"`    // first usable answer, API's clock
	Empty      int       `json:"empty,omitempty"`      // `completed` without assets, in a row
	EmptyFor   Stopwatch `json:"empty_for,omitzero"`   // since the first of these
	NotFound   int       `json:"not_found,omitempty"`  // 404s and other refusals of this run alone since the last other answer
	MissingFor Stopwatch `json:"missing_for,omitzero"` // how long nothing else was answered
	OpenFor    Stopwatch `json:"open_for,omitzero"`    // since the first answer that was 200 and not terminal
	NoAccess   bool      `json:"no_access,omitempty"`  // 403 for this run while others are answered
	LastError  string    `json:"last_error,omitempty"` // redacted; empty after a usable answer
}

// Stopwatch sums time in which the daemon ran and the other side answered. Its
// base is the service clock, which stands still during outages, so that no
// outage is ever counted against a run or an asset. The zero value is ready.
type Stopwatch struct {
	Total   time.Duration `json:"total,omitempty"`
	Mark    time.Duration `json:"mark,omitempty"` // service time of the last answer that counted
	Running bool          `json:"running,omitempty"`
}

// Tick notes an answer that counts at service time now: what passed since the
// last one is added if that, too, counted.
func (s Stopwatch) Tick(now time.Duration) Stopwatch {
	if s.Running && now > s.Mark {
		s.Total += now - s.Mark
	}
	s.Mark, s.Running = now, true
	return s
}

// Stop notes that no answer came: the time until the next Tick is not counted.
func (s Stopwatch) Stop() Stopwatch {
	s.Running = false
	return s
}
