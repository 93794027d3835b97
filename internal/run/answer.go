package run

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Answer is one usable answer of the API about a run, or the union of several.
type Answer struct {
	Run          ID     `json:"run"`
	App          string `json:"app,omitempty"`
	Status       Status `json:"status"`
	StartedAt    string `json:"started_at,omitempty"`
	CompletedAt  string `json:"completed_at,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`

	Assets  []Listed                   `json:"assets,omitempty"`  // in the answer's order within each kind
	Ignored map[string]json.RawMessage `json:"ignored,omitempty"` // other fields with URLs, by name
	Extra   map[string]json.RawMessage `json:"extra,omitempty"`   // unknown fields, for the manifest

	Date time.Time `json:"date,omitzero"` // the API's clock when it answered, or the local one where it said none
}

// Listed is one asset in an answer. URL is a secret: it never leaves the answer
// files and the transfer that uses it.
type Listed struct {
	Kind   Kind      `json:"kind"`
	ID     string    `json:"id"`               // unique within kind and answer
	URL    string    `json:"url,omitempty"`    // as it came, see signedurl.Clean; empty: nothing to fetch
	Source string    `json:"source,omitempty"` // the URL without its secrets
	Expiry time.Time `json:"expiry,omitzero"`  // zero: unknown

	Tool      string                     `json:"tool,omitempty"`
	Width     *int                       `json:"width,omitempty"`
	Height    *int                       `json:"height,omitempty"`
	Duration  *float64                   `json:"duration,omitempty"`
	CreatedAt string                     `json:"created_at,omitempty"`
	Extra     map[string]json.RawMessage `json:"extra,omitempty"`
}

// URLHash tells two URLs apart without telling either: 16 hex digits of the
// SHA-256 of the URL, empty for none.
func (l Listed) URLHash() string {
	if l.URL == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(l.URL))
	return hex.EncodeToString(sum[:8])
}

// Unite is a with the newer answer b brought in: nothing known is removed, what b
// says anew replaces what a said. Assets are matched by kind and id; those only
// in a are kept, those only in b come after them.
func (a Answer) Unite(b Answer) Answer {
	u := b
	u.App = either(b.App, a.App)
	u.StartedAt = either(b.StartedAt, a.StartedAt)
	u.CompletedAt = either(b.CompletedAt, a.CompletedAt)
	u.ErrorMessage = either(b.ErrorMessage, a.ErrorMessage)
	if u.Run == "" {
		u.Run = a.Run
	}
	u.Assets = uniteListed(a.Assets, b.Assets)
	u.Ignored = uniteFields(a.Ignored, b.Ignored)
	u.Extra = uniteFields(a.Extra, b.Extra)
	return u
}

func either(s, or string) string {
	if s != "" {
		return s
	}
	return or
}

func uniteFields(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	if len(a) == 0 {
		return b
	}
	u := make(map[string]json.RawMessage, len(a)+len(b))
	for k, v := range a {
		u[k] = v
	}
	for k, v := range b {
		u[k] = v
	}
	return u
}

func uniteListed(a, b []Listed) []Listed {
	if len(a) == 0 {
		return b
	}
	type name struct {
		kind Kind
		id   string
	}
	newer := make(map[name]Listed, len(b))
	for _, l := range b {
		newer[name{l.Kind, l.ID}] = l
	}
	u := make([]Listed, 0, max(len(a), len(b)))
	for _, l := range a {
		n := name{l.Kind, l.ID}
		if fresh, ok := newer[n]; ok {
			if fresh.URL == "" { // a URL once answered is not taken back
				fresh.URL, fresh.Source, fresh.Expiry = l.URL, l.Source, l.Expiry
			}
			fresh.Extra = uniteFields(l.Extra, fresh.Extra)
			l = fresh
			delete(newer, n)
		}
		u = append(u, l)
	}
	for _, l := range b {
		if _, ok := newer[name{l.Kind, l.ID}]; ok {
			u = append(u, l)
		}
	}
	return u
}

// IgnoredNames names the fields of Ignored for people: the first ten, quoted.
func (a Answer) IgnoredNames() string {
	names := slices.Sorted(maps.Keys(a.Ignored))
	const most = 10
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%.64q", name)
	}
	return strings.Join(names, ", ") + more
}

// Verdict is what one poll means for a run: decided by the poller, recorded by
// the queue.
type Verdict struct {
	Polls    Polls         // the run's new memory of polling
	Next     time.Time     // when to ask again, local clock; zero: not
	Answer   *Answer       // what was learned; nil: nothing
	Terminal bool          // Answer.Status is believed and ends the run
	GiveUp   string        // not empty: the run is ended for this reason
	Unlisted bool          // a downloading run was refused for itself (404, 410, own 403): an answer without any URL (4.4 c)
	At       time.Time     // the API's clock
	Service  time.Duration // the service clock (clock.Service)
	Sample   Sample        // what this end says of its app; zero: nothing
}

// Sample is how one run of an app went.
type Sample struct {
	Took time.Duration // from its start to its end
	Life time.Duration // from its end to the death of its first URL; 0: unknown
}

// Change is what a Verdict changed in the queue.
type Change struct {
	Run    Run     // as it is now
	Ended  bool    // this verdict was the first terminal one, or gave the run up
	Assets []Asset // assets that are new or got another URL, expiry or index; all waiting ones at Ended and after a renewal
}
