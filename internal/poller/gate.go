package poller

import (
	"time"

	"github.com/assetd/assetd/internal/run"
)

const (
	probeFirst = time.Second
	probeMost  = time.Minute
	othersFor  = 5 * time.Minute // so long a 200 shows that a 403 is one run's own
	downAfter  = 3               // failures in a row before people are told
	askedMost  = 4096            // runs remembered as asked in this round of probes
)

// gate is what is known of the API as a whole: whether it takes the key, and
// whether it answers. It is pure; the caller holds the poller's mu.
type gate struct {
	refused bool // the key is not accepted: nothing but probes goes out
	delay   time.Duration
	next    time.Time           // when to probe
	probing run.ID              // in flight
	asked   map[run.ID]struct{} // in this round

	okAt time.Time // of the last 200
	okBy string    // its fingerprint

	failures int  // calls in a row without an answer
	down     bool // and people were told
	limited  bool // the last call was a 429
}

// closed reports whether the API cannot be asked: time does not count meanwhile.
func (g *gate) closed() bool { return g.refused || g.failures > 0 || g.limited }

// own reports whether a 403 is the run's own: with this very key another run was
// answered a short time ago.
func (g *gate) own(fingerprint string, now time.Time) bool {
	return fingerprint != "" && g.okBy == fingerprint && now.Sub(g.okAt) <= othersFor
}

// note takes what a call about the run said, and gives the event that tells a
// change, if there is one to tell. An empty fingerprint: the key was changed
// while the call was under way, so what it says of the key is old.
func (g *gate) note(id run.ID, what reply, fingerprint string, now time.Time) run.EventKind {
	says := what.meaning()
	if says == keyRefused {
		return g.refuse(id, fingerprint, now)
	}
	if g.refused && id == g.probing && says != answered {
		g.putOff(id, now)
	}
	g.limited = says == limited
	switch says {
	case answered:
		if fingerprint != "" {
			g.okAt, g.okBy = now, fingerprint
		}
		g.delay = 0
		return g.open()
	case missing:
		// A 404 shows that the key is taken only where it has worked before. The
		// delay stays: where only some calls are refused, probes stay seldom.
		if g.refused && !what.proven {
			g.failures = 0
			return ""
		}
		return g.open()
	case garbled, rejected, noAccess: // the API answers; of the key it says nothing
		g.failures = 0
		if !g.refused && g.down {
			return g.open()
		}
	case failed:
		g.failures++
		if g.failures >= downAfter && !g.down && !g.refused {
			g.down = true
			return run.APIDown
		}
	}
	return ""
}

func (g *gate) open() run.EventKind {
	was := g.refused || g.down
	g.refused, g.down, g.failures, g.asked = false, false, 0, nil
	if was {
		return run.APIBack
	}
	return ""
}

func (g *gate) refuse(id run.ID, fingerprint string, now time.Time) run.EventKind {
	g.limited, g.failures = false, 0
	switch {
	case fingerprint == "": // said of a key that is no longer in use
		return ""
	case !g.refused:
		g.refused, g.down, g.asked = true, false, map[run.ID]struct{}{}
		g.putOff(id, now)
		return run.APIRefused
	case id == g.probing:
		g.putOff(id, now)
		return run.APIRefused
	}
	g.remember(id) // was under way when the gate closed: no news
	return ""
}

// putOff waits for the next probe: 1 s at first, doubled each time.
func (g *gate) putOff(id run.ID, now time.Time) {
	g.remember(id)
	g.delay = min(max(2*g.delay, probeFirst), probeMost)
	g.next = now.Add(g.delay)
}

func (g *gate) remember(id run.ID) {
	if len(g.asked) >= askedMost {
		clear(g.asked)
	}
	g.asked[id] = struct{}{}
}

// handedIn begins the probes anew at 1 s.
func (g *gate) handedIn(now time.Time) {
	if !g.refused {
		return
	}
	g.delay = probeFirst
	if first := now.Add(probeFirst); first.Before(g.next) {
		g.next = first
	}
}

// probeNow makes the next probe due; the one after it comes 1 s later.
func (g *gate) probeNow(now time.Time) {
	g.delay, g.next = 0, now
}

// choose is the run to probe: those never answered first, another one each time,
// until all were asked; then round again. Empty: there is none.
func (g *gate) choose(runs []run.Due, renewals []run.ID) run.ID {
	for range 2 {
		var other run.ID
		for _, r := range runs {
			if _, done := g.asked[r.ID]; done {
				continue
			}
			if r.Polls.Answered.IsZero() {
				return r.ID
			}
			if other == "" {
				other = r.ID
			}
		}
		for _, id := range renewals {
			if _, done := g.asked[id]; !done && other == "" {
				other = id
			}
		}
		if other != "" {
			return other
		}
		clear(g.asked)
	}
	return ""
}
