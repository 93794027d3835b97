package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// RunOption scripts a run. A Fault is one, too: it strikes the run's polls. So is
// a Signing: of the run's assets that have none of their own.
type RunOption interface{ applyRun(*script) }

type runOption func(*script)

func (o runOption) applyRun(r *script) { o(r) }

// Phase is a stretch of a run's life. It ends after For or after so many polls,
// whichever comes first; where neither is set it lasts for ever.
type Phase struct {
	Status run.Status // empty: the API does not know the run, 404
	For    time.Duration
	Polls  int
	Empty  bool // lists nothing, whatever the status
	Lists  bool // lists the assets, whatever the status
}

// script is a run as the API has it.
type script struct {
	sim    *Sim
	id     run.ID
	app    string
	phases []Phase
	assets []*asset
	faults []*Armed

	signing *Signing
	late    bool // progress begins with the first poll

	message  string
	bare     bool
	answerID run.ID
	shape    Shape
	form     Form
	fields   map[string]any
	lists    map[string][]string // of URLs, by name

	at        int       // the phase
	entered   time.Time // zero: not begun
	polls     int       // in this phase
	listings  int       // answers that listed assets
	started   time.Time
	completed time.Time
}

// AddRun makes a run known to the API, with the options in their order. Where the
// last phase of its life ends, and where it has none, it is completed. The error
// says what cannot be: an ID twice, a size too small for its format.
func (s *Sim) AddRun(id run.ID, opts ...RunOption) error {
	r := &script{sim: s, id: id, app: "uqzQLDr2Aw", answerID: id, bare: s.cfg.bare}
	for _, o := range opts {
		o.applyRun(r)
	}
	if n := len(r.phases); n == 0 || r.phases[n-1].For > 0 || r.phases[n-1].Polls > 0 {
		r.phases = append(r.phases, Phase{Status: run.Completed})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.runs[id]; twice {
		return fmt.Errorf("run %s is there already", id)
	}
	for i, a := range r.assets {
		if err := s.addAsset(r, a); err != nil {
			for _, added := range r.assets[:i] {
				delete(s.assets, added.key)
				delete(s.paths, added.path)
			}
			return fmt.Errorf("run %s: %w", id, err)
		}
	}
	if !r.late {
		r.enter(0, time.Now())
	}
	s.all = append(s.all, r.faults...)
	for _, a := range r.assets {
		s.all = append(s.all, a.faults...)
	}
	s.runs[id] = r
	s.order = append(s.order, r)
	return nil
}

// App names the app that the run belongs to.
func App(id string) RunOption { return runOption(func(r *script) { r.app = id }) }

// Timeline adds phases to the run's life.
func Timeline(phases ...Phase) RunOption {
	return runOption(func(r *script) { r.phases = append(r.phases, phases...) })
}

// lasting adds a phase that lasts so long: none where that is 0.
func lasting(status run.Status, d time.Duration) RunOption {
	if d <= 0 {
		return Timeline()
	}
	return Timeline(Phase{Status: status, For: d})
}

// repeating adds a phase that lasts so many polls: none where that is 0.
func repeating(p Phase) RunOption {
	if p.Polls <= 0 {
		return Timeline()
	}
	return Timeline(p)
}

// Unknown lets the API answer 404 for so long; 0: not at all.
func Unknown(d time.Duration) RunOption { return lasting("", d) }

// UnknownPolls lets the API answer 404 so often; 0: not at all.
func UnknownPolls(n int) RunOption { return repeating(Phase{Polls: n}) }

// Pending lets the run wait for so long; 0: not at all.
func Pending(d time.Duration) RunOption { return lasting(run.Pending, d) }

// Running lets the run work for so long; 0: not at all.
func Running(d time.Duration) RunOption { return lasting(run.Running, d) }

// EmptyPolls lets the run say so often that it is completed before it lists
// anything; 0: not at all.
func EmptyPolls(n int) RunOption {
	return repeating(Phase{Status: run.Completed, Polls: n, Empty: true})
}

// Ends is the status with which the run ends, or stays for ever; empty: the API
// forgets it.
func Ends(status run.Status) RunOption { return Timeline(Phase{Status: status}) }

// FromFirstPoll lets the run's life begin with its first poll, not when it is
// added.
func FromFirstPoll() RunOption { return runOption(func(r *script) { r.late = true }) }

// ErrorMessage is the run's error_message.
func ErrorMessage(text string) RunOption { return runOption(func(r *script) { r.message = text }) }

// Bare answers without the outer `data`.
func Bare() RunOption { return runOption(func(r *script) { r.bare = true }) }

// AnswersAs answers with another run's ID.
func AnswersAs(id run.ID) RunOption { return runOption(func(r *script) { r.answerID = id }) }

// NaN is a value for a Field that is written as Python's json.dumps writes it, which
// is no JSON.
const NaN notJSON = "NaN"

// notJSON is text that encodeJSON writes as it is.
type notJSON string

// MarshalJSON marks the text for encodeJSON.
func (n notJSON) MarshalJSON() ([]byte, error) { return json.Marshal(rawMark + string(n) + rawMark) }

// rawMark encloses what stands in JSON without its quotes.
const rawMark = "\uE000"

// Field adds a field that is not documented.
func Field(name string, value any) RunOption {
	return runOption(func(r *script) {
		if r.fields == nil {
			r.fields = map[string]any{}
		}
		r.fields[name] = value
	})
}

// List adds to the result a list of objects with these URLs, of a kind that is
// not documented.
func List(name string, urls ...string) RunOption {
	return runOption(func(r *script) {
		if r.lists == nil {
			r.lists = map[string][]string{}
		}
		r.lists[name] = urls
	})
}

// Shape is how an answer says that there is nothing in a list.
type Shape int

// The shapes. As RunOptions they choose one.
const (
	EmptyLists Shape = iota // "videos": []
	NullLists               // "videos": null
	NoLists                 // not named
	NullResult              // "result": null, where no list has anything
)

func (n Shape) applyRun(r *script) { r.shape = n }

// enter goes to a phase.
func (r *script) enter(phase int, at time.Time) {
	r.at, r.entered, r.polls = phase, at, 0
	switch status := r.phases[phase].Status; {
	case status.Terminal():
		if r.completed.IsZero() {
			r.completed = at
		}
		fallthrough
	case status == run.Running:
		if r.started.IsZero() {
			r.started = at
		}
	}
}

// poll moves the run to where it stands at a poll at that time.
func (r *script) poll(now time.Time) Phase {
	if r.entered.IsZero() {
		r.enter(0, now)
	}
	for r.at+1 < len(r.phases) {
		p := r.phases[r.at]
		end := r.entered.Add(p.For)
		switch {
		case p.Polls > 0 && r.polls >= p.Polls && (p.For == 0 || now.Before(end)):
			r.enter(r.at+1, now)
		case p.For > 0 && !now.Before(end):
			r.enter(r.at+1, end)
		default:
			r.polls++
			return p
		}
	}
	r.polls++
	return r.phases[r.at]
}

// body is the answer to a poll in that phase.
func (r *script) body(p Phase) []byte {
	result := r.result(p)
	doc := map[string]any{
		"run_id": r.answerID, "status": p.Status, "app_id": r.app, "result": result,
		"started_at": r.stamp(r.started), "completed_at": nil, "error_message": nil,
	}
	if p.Status.Terminal() {
		doc["completed_at"] = r.stamp(r.completed)
		if r.message != "" {
			doc["error_message"] = r.message
		}
	}
	r.form.apply(doc)
	maps.Copy(doc, r.fields)
	var body any = doc
	if !r.bare {
		body = map[string]any{"data": doc}
	}
	return encodeJSON(body)
}

// result is the answer's result: nil where the phase has none.
func (r *script) result(p Phase) any {
	if !p.Lists && !p.Status.Terminal() {
		return nil
	}
	lists := map[run.Kind][]any{}
	if !p.Empty {
		r.listings++
		for _, a := range r.assets {
			if a.listed(r.listings) {
				lists[a.kind] = append(lists[a.kind], slices.Repeat([]any{a.entry(r)}, a.copies)...)
			}
		}
	}
	if r.shape == NullResult && len(lists) == 0 && len(r.lists) == 0 {
		return nil
	}
	result := map[string]any{}
	for _, kind := range run.Kinds() {
		switch list := lists[kind]; {
		case len(list) > 0:
			result[string(kind)] = list
		case r.shape == EmptyLists:
			result[string(kind)] = []any{}
		case r.shape == NullLists:
			result[string(kind)] = nil
		}
	}
	for name, urls := range r.lists {
		list := []any{}
		for i, url := range urls {
			list = append(list, map[string]any{"id": fmt.Sprintf("%s-%d", name, i+1), "url": url})
		}
		result[name] = list
	}
	return result
}

// stamp is a time as the API writes it, by its own clock; null where there is none.
func (r *script) stamp(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.Add(r.sim.skewAPI).UTC().Format("2006-01-02T15:04:05.000Z")
}

// encodeJSON writes & in URLs as they are, as the API does.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // a Field that is no JSON
		return fmt.Appendf(nil, `{"message":%q}`, err.Error())
	}
	unquoted := bytes.ReplaceAll(b.Bytes(), []byte(`"`+rawMark), nil)
	return bytes.ReplaceAll(unquoted, []byte(rawMark+`"`), nil)
}
