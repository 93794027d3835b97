package poller

import (
	"time"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
)

const (
	retryFirst = time.Second             // after one failure; doubled by each further one
	ageShare   = 10                      // a run is asked again after a tenth of its age
	emptyGap   = 2500 * time.Millisecond // between answers that are `completed` without assets
	farthest   = 15 * time.Minute        // no run is put off longer: the most a Retry-After can say
)

// interval is when to ask a run of this age again of whose app nothing is known, or
// that takes longer than any of its app did. It lies between MinInterval and
// MaxInterval: after a tenth of its age and up to half as much again, by the
// roll in [0, 1). So the end of a run is seen after a tenth of its time at the
// latest, and runs handed in together drift apart.
func (c Config) interval(age time.Duration, roll float64) time.Duration {
	// The range of the jitter lies within the bounds, also at their ends.
	low := min(max(age/ageShare, c.MinInterval), max(c.MaxInterval*2/3, c.MinInterval))
	return min(low+time.Duration(roll*float64(low)/2), max(c.MaxInterval, c.MinInterval))
}

// backoff returns the delay after so many failures in a row: anything up to 1 s,
// doubled by each (full jitter), at most MaxInterval.
func (c Config) backoff(failures int, roll float64) time.Duration {
	return backoff.FullJitter(backoff.Delay(failures, retryFirst, c.MaxInterval), roll)
}

// steady is a wall clock that never goes back: where the local one is set back
// it goes on by the monotonic one, so that no run is put off by the difference.
type steady struct {
	start time.Time // with its monotonic reading
	last  time.Time
	mono  time.Duration
}

// at is the time when the wall clock says wall, mono after the start.
func (s *steady) at(wall time.Time, mono time.Duration) time.Time {
	now := wall
	if on := s.last.Add(mono - s.mono); !s.last.IsZero() && on.After(wall) {
		now = on
	}
	s.last, s.mono = now, mono
	return now
}

// renewals are the runs for which fresh URLs are wanted, and when each was last
// asked for that.
type renewals map[run.ID]*renewal

type renewal struct {
	wanted  bool
	death   time.Time // of the first URL
	at      time.Time // not before
	backoff time.Time // after a failure: not before, whoever asks
	last    time.Time // when the last poll for it began; zero: none yet
}

// renewalKept bounds what is remembered of a renewal that is done: the longest
// spacing. Beyond so many entries the older ones go.
const (
	renewalKept  = time.Hour
	renewalsMost = 1024
)

func (rs renewals) ask(id run.ID, death time.Time, spacing time.Duration, now time.Time) {
	r := rs[id]
	if r == nil {
		rs.sweep(now)
		r = &renewal{}
		rs[id] = r
	}
	at := now
	if !r.last.IsZero() && r.last.Add(spacing).After(now) {
		at = r.last.Add(spacing)
	}
	if r.wanted {
		if r.death.Before(death) {
			death = r.death
		}
		if r.at.Before(at) {
			at = r.at
		}
	}
	if r.backoff.After(at) {
		at = r.backoff
	}
	r.wanted, r.death, r.at = true, death, at
}

func (rs renewals) sweep(now time.Time) {
	if len(rs) < renewalsMost {
		return
	}
	for id, r := range rs {
		if !r.wanted && now.Sub(r.last) > renewalKept {
			delete(rs, id)
		}
	}
}

// next is the run whose URL dies first among those that may be asked now; next
// time is when another one may.
func (rs renewals) next(now time.Time, flying map[run.ID]bool) (id run.ID, later time.Time) {
	var first *renewal
	for candidate, r := range rs {
		switch {
		case !r.wanted || flying[candidate]:
		case r.at.After(now):
			if later.IsZero() || r.at.Before(later) {
				later = r.at
			}
		case first == nil || r.death.Before(first.death) || r.death.Equal(first.death) && candidate < id:
			id, first = candidate, r
		}
	}
	return id, later
}

// begin notes that the run is asked now; true: for fresh URLs.
func (rs renewals) begin(id run.ID, now time.Time) bool {
	r := rs[id]
	if r == nil || !r.wanted {
		return false
	}
	r.wanted, r.last = false, now
	return true
}

// failed notes that the API did not answer: it is asked again at next.
func (rs renewals) failed(id run.ID, next time.Time) {
	if r := rs[id]; r != nil {
		r.wanted, r.at, r.backoff = true, next, next
	}
}

// trouble is the backoff after errors of the queue.
type trouble struct {
	failures int
	until    time.Time
}

func (t *trouble) failed(now time.Time) {
	if now.Before(t.until) { // one of several that were under way
		return
	}
	t.failures++
	t.until = now.Add(backoff.Delay(t.failures, retryFirst, time.Minute))
}

// bounds are the least and the greatest gap of a plan: with its jitter it stays
// within MinInterval and MaxInterval.
func (c Config) bounds() (low, high time.Duration) {
	return c.MinInterval, max(c.MaxInterval-c.jitter(c.MaxInterval)/2, c.MinInterval)
}

// jitter is how far apart the roll sets runs that a plan would ask together:
// little, since a plan may be sure of the second.
func (c Config) jitter(gap time.Duration) time.Duration {
	return min(gap/10, c.MinInterval/3)
}

// planned is when to ask a run of an app again of which there is a plan; false:
// the run is older than the plan reaches.
func (c Config) planned(p *plan, age time.Duration, roll float64) (time.Duration, bool) {
	low, high := c.bounds()
	gap, ok := p.gap(age, low)
	if !ok {
		return 0, false
	}
	gap = min(gap, high) // made with other bounds, perhaps
	gap += time.Duration((roll - 0.5) * float64(c.jitter(gap)))
	return min(max(gap, low), max(c.MaxInterval, low)), true
}
