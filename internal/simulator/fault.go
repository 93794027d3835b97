package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Fault is one way to answer wrongly. Given to AddRun it strikes the run's polls,
// given to an asset the asset's downloads, given to FailAPI or FailCDN every
// request; the first that puts another answer in place of the right one ends the
// list. It is a value: its methods return changed copies.
//
// A fault strikes only where the right answer comes about: a refused key, a dead
// token, an unknown run are refused as ever, but for FailAPI and FailCDN, which
// strike these answers too.
type Fault struct {
	name   string
	stage  stage
	times  int  // 0: always
	after  int  // requests spared first
	deadly bool // an asset that always meets it can never be had
	apply  func(*exchange) bool
}

// stage is when a fault has its say.
type stage int

const (
	rules  stage = iota // before the right answer is made: it changes how
	spoils              // after: it changes what came out
)

// Times lets the fault strike n times only.
func (f Fault) Times(n int) Fault {
	f.times = n
	return f
}

// After spares the first n requests that it could strike.
func (f Fault) After(n int) Fault {
	f.after = n
	return f
}

// With adds a header to the answers that it spoils; an empty value takes it away.
func (f Fault) With(name, value string) Fault {
	return f.then(func(x *exchange) { x.setHeader(name, value) })
}

// RetryAfter adds a Retry-After in seconds, rounded up.
func (f Fault) RetryAfter(d time.Duration) Fault { return f.With("Retry-After", seconds(d)) }

// RetryAfterDate adds a Retry-After that is a date, by the server's clock.
func (f Fault) RetryAfterDate(d time.Duration) Fault {
	return f.then(func(x *exchange) {
		at, err := http.ParseTime(x.header.Get("Date"))
		if err != nil {
			at = x.now
		}
		x.header.Set("Retry-After", at.Add(d).UTC().Format(http.TimeFormat))
	})
}

// String names the fault and how it was set.
func (f Fault) String() string { return f.name }

func (f Fault) then(more func(*exchange)) Fault {
	apply := f.apply
	f.apply = func(x *exchange) bool {
		struck := apply(x)
		if struck {
			more(x)
		}
		return struck
	}
	return f
}

func (f Fault) applyRun(r *script) {
	r.faults = append(r.faults, &Armed{fault: f, sim: r.sim, where: string(r.id)})
}

func (f Fault) applyAsset(a *asset) {
	a.faults = append(a.faults, &Armed{fault: f, sim: a.run.sim})
}

// Armed is a fault where it was put.
type Armed struct {
	fault Fault
	sim   *Sim
	where string
	seen  int // requests that it could have struck
	fired int
	off   bool
}

// Fired is how often it struck.
func (a *Armed) Fired() int {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	return a.fired
}

// Disarm ends it.
func (a *Armed) Disarm() {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	a.off = true
}

// strike lets the faults of a stage have their say, in order. The caller holds
// s.mu.
func (x *exchange) strike(faults []*Armed, at stage) {
	for _, a := range faults {
		f := a.fault
		if f.stage != at || a.off || x.replaced || f.times > 0 && a.fired >= f.times {
			continue
		}
		if a.seen++; a.seen <= f.after {
			continue
		}
		if f.apply(x) {
			a.fired++
			x.rec.Faults = append(x.rec.Faults, f.name)
		}
	}
}

func (x *exchange) setHeader(name, value string) {
	if value == "" {
		x.header[http.CanonicalHeaderKey(name)] = nil // so that net/http does not fill it in
		return
	}
	x.header.Set(name, value)
}

// FailAPI arms a fault for every call of the API.
func (s *Sim) FailAPI(f Fault) *Armed { return s.arm(f, "API", &s.apiWide) }

// FailCDN arms a fault for every request to the CDN.
func (s *Sim) FailCDN(f Fault) *Armed { return s.arm(f, "CDN", &s.cdnWide) }

// FailRun arms a fault for the polls of a run; it is nil where there is no such run.
func (s *Sim) FailRun(id run.ID, f Fault) *Armed {
	s.mu.Lock()
	r := s.runs[id]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return s.arm(f, string(id), &r.faults)
}

// FailAsset arms a fault for the downloads of an asset; it is nil where there is
// no such asset.
func (s *Sim) FailAsset(key run.Key, f Fault) *Armed {
	s.mu.Lock()
	a := s.assets[key]
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	return s.arm(f, key.String(), &a.faults)
}

func (s *Sim) arm(f Fault, where string, list *[]*Armed) *Armed {
	a := &Armed{fault: f, sim: s, where: where}
	s.mu.Lock()
	defer s.mu.Unlock()
	*list = append(*list, a)
	s.all = append(s.all, a)
	return a
}

// Fired is how often a fault of that name struck the asset's downloads.
func (s *Sim) Fired(key run.Key, f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.assets[key]; a != nil {
		return fired(a.faults, f)
	}
	return 0
}

// FiredPoll is how often a fault of that name struck the run's polls.
func (s *Sim) FiredPoll(id run.ID, f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[id]; r != nil {
		return fired(r.faults, f)
	}
	return 0
}

func fired(faults []*Armed, f Fault) int {
	n := 0
	for _, a := range faults {
		if a.fault.name == f.name {
			n += a.fired
		}
	}
	return n
}

// Unfired lists the faults that never struck, each with what it was put on: a test
// of faults wants none.
func (s *Sim) Unfired() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, a := range s.all {
		if a.fired == 0 {
			names = append(names, a.where+": "+a.fault.name)
		}
	}
	slices.Sort(names)
	return names
}

func numbered(name string, n int64) string { return name + " " + strconv.FormatInt(n, 10) }
