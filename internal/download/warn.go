package download

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/download/triage"
	"github.com/assetd/assetd/internal/run"
)

const (
	// warnBefore is how long before its URL's expiry an asset is reported that
	// something holds up: a quarter of an hour, and what may pass before it is looked
	// for and another warning of the same cause is long enough ago.
	warnBefore = 15*time.Minute + longestSleep + warnSpacing
	// warnSpacing is the least time between two warnings for the same cause: a set of
	// assets is reported once, not as it grows one by one.
	warnSpacing = time.Minute
	// forever is later than anything expires.
	forever = time.Duration(math.MaxInt64)
	// mostWarned is how many assets held up by one cause are looked at.
	mostWarned = 1000
	// blockedSpacing is how often what cannot be started is looked at; aWhile is how
	// long a host has to hold assets up before it is reported.
	blockedSpacing = 5 * time.Second
	aWhile         = 30 * time.Second
)

// warn tells which assets may be lost before they are. The pool is locked.
func (p *Pool) warn(d triage.Decision, w triage.Window, who []backlog.Candidate, now time.Duration) {
	for _, r := range d.Risks {
		threat := threat{bytes: r.Bytes, left: r.Left, held: r.Held}
		for _, i := range r.Assets {
			threat.assets = append(threat.assets, who[i])
		}
		threat.why = "the link is too slow"
		if r.Server >= 0 {
			threat.host = who[r.Assets[0]].Host
			threat.cause = threat.host
			threat.why = threat.host + " is too slow"
		}
		threat.why += fmt.Sprintf(": at %s/s they take %s", size(r.Rate), r.Needed.Round(time.Second))
		p.threatened(threat, now)
	}
	p.warnOfBlocked(now)
	if len(p.scarce.warned) == 0 && len(p.scarce.told) > 0 {
		clear(p.scarce.told)
		p.scarce.events = append(p.scarce.events, run.Event{Kind: run.RiskOver})
	}
}

// threat is a set of assets that may be lost, and why.
type threat struct {
	assets []backlog.Candidate // first to expire first
	cause  string              // what is reported once a while for it; empty: the link
	host   string              // whose fault it is; empty: no host's
	bytes  int64               // that are still to come
	held   int                 // assets that are or will be held open
	left   time.Duration       // until the first of them expires
	why    string
}

// threatened reports the threat unless all its assets were reported, or of the same
// cause, or some of them of another, a moment ago. The pool is locked.
func (p *Pool) threatened(t threat, now time.Duration) {
	s := &p.scarce
	fresh, first := 0, forever
	for _, c := range t.assets {
		if death, told := s.warned[c.Key]; !told || death != c.Expiry.UnixMilli() {
			fresh++
			first = min(first, p.on(c, c.Expiry, now))
		}
	}
	last, known := s.told[t.cause]
	if !known && fresh < len(t.assets) { // another cause was named for some of them
		last, known = s.lastTold()
	}
	if fresh == 0 || known && !last.again(now, fresh, first) {
		return
	}
	s.told[t.cause] = told{now, len(t.assets)}
	for _, c := range t.assets {
		s.warned[c.Key] = c.Expiry.UnixMilli()
	}
	note := fmt.Sprintf("%s, %s, the first dies in %s: %s", count(len(t.assets), "asset"), size(t.bytes), t.left.Round(time.Second), t.why)
	if t.held > 0 {
		note += fmt.Sprintf("; %d of them are held open past it", t.held)
	}
	s.events = append(s.events, run.Event{
		Kind: run.AtRisk, Asset: t.assets[0].Key, Host: t.host, Count: len(t.assets), Bytes: t.bytes, Took: t.left, Note: note, Runs: t.runs(),
	})
}

// told is when a cause was reported, and of how many assets.
type told struct {
	at     time.Duration
	assets int
}

// lastTold is what was reported last, of any cause.
func (s *scarcity) lastTold() (last told, known bool) {
	for _, t := range s.told {
		if !known || t.at > last.at {
			last, known = t, true
		}
	}
	return last, known
}

// again reports whether to tell of the same cause for the sake of so many more
// assets, of which the first expires then: after a while; and at once where they are more
// than were reported, and some would have expired by then.
func (last told) again(now time.Duration, more int, first time.Duration) bool {
	next := last.at + warnSpacing
	return now >= next || more > last.assets && first < next
}

// mostNamed is how many runs a warning names.
const mostNamed = 8

// runs is the first of the runs concerned.
func (t threat) runs() (ids []run.ID) {
	for _, c := range t.assets {
		if len(ids) == mostNamed {
			break
		}
		if !slices.Contains(ids, c.Key.Run) {
			ids = append(ids, c.Key.Run)
		}
	}
	return ids
}

// AtRisk is the assets that were reported as possibly late, before their
// URLs expire, and that are not stored yet, in no order.
func (p *Pool) AtRisk() []run.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.scarce.warned))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// warnOfBlocked reports what cannot be started and expires soon. The pool is locked.
func (p *Pool) warnOfBlocked(now time.Duration) {
	if s := &p.scarce; s.looked > 0 && now-s.looked < blockedSpacing {
		return
	}
	p.scarce.looked = max(now, 1)
	p.backlog.Promote(now)
	byHost, byRoom := p.backlog.Blocked(mostWarned)
	switch {
	case p.volume.offline:
		all := append(byHost, p.backlog.Nearest(mostWarned)...)
		p.blocked(threat{why: "the volume is offline"}, append(all, byRoom...), now)
		return
	case p.volume.full:
		byRoom = append(byRoom, p.backlog.Nearest(mostWarned)...)
	}
	p.blocked(threat{why: "there is no room on the volume"}, byRoom, now)
	hosts := map[string][]backlog.Candidate{}
	for _, c := range append(byHost, p.failing(now)...) {
		hosts[c.Host] = append(hosts[c.Host], c)
	}
	for name := range p.scarce.since {
		if hosts[name] == nil && !p.probing(name) {
			delete(p.scarce.since, name) // it was a moment's
		}
	}
	for name, all := range hosts {
		if _, known := p.scarce.since[name]; !known {
			p.scarce.since[name] = now
		}
		p.blocked(threat{host: name, why: name + " turns requests away or does not answer"}, all, now)
	}
}

// probing reports whether a transfer from a host that did not answer is under way: its
// other assets are not blocked at that moment. The pool is locked.
func (p *Pool) probing(host string) bool {
	for _, f := range p.flights {
		if f.Host == host && !f.Open {
			return true
		}
	}
	return false
}

// failing is what has failed again and again, and waits for its next try. The pool
// is locked.
func (p *Pool) failing(now time.Duration) (some []backlog.Candidate) {
	const again = 3
	for _, c := range p.backlog.Delayed(10*mostWarned, p.Clock.Server("").Add(2*warnBefore)) {
		if notes := p.cases[c.Key]; notes != nil && notes.tries >= again {
			some = append(some, c)
		}
	}
	return some
}

// blocked reports those that expire soon; of a host's only when that has lasted a
// while, or there is no time to see whether it will. The pool is locked.
func (p *Pool) blocked(t threat, all []backlog.Candidate, now time.Duration) {
	t.left = warnBefore
	for _, c := range all {
		left := p.on(c, c.Expiry, now) - now
		if c.Expiry.IsZero() || left <= 0 || left > warnBefore {
			continue
		}
		t.assets = append(t.assets, c)
		t.bytes += p.waiting(c).Bytes
		t.left = min(t.left, left)
	}
	if len(t.assets) == 0 || t.host != "" && now-p.scarce.since[t.host] < min(aWhile, t.left/4) {
		return
	}
	slices.SortStableFunc(t.assets, func(a, b backlog.Candidate) int { return a.Expiry.Compare(b.Expiry) })
	t.cause = t.why
	p.threatened(t, now)
}
