package poller

import (
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// When `completed` without any asset is believed.
const (
	emptyTimes = 3
	emptyFor   = 5 * time.Second
)

// reply is what one poll brought: an answer or a refusal.
type reply struct {
	answer  *run.Answer
	refusal *run.Refusal
	own     bool // a 403 is this run's own: others are answered with the same key
	proven  bool // URL, path and key together have answered 200 before
}

// moment is when it came.
type moment struct {
	now     time.Time     // local
	api     time.Time     // the API's clock
	server  time.Time     // the API's clock, as it goes on between its answers
	service time.Duration // the service clock
	roll    float64       // in [0, 1), for jitter
	plan    *plan         // of the run's app; nil: it is not known
}

// meaning is what a reply says, to the run and to all.
type meaning int

const (
	answered   meaning = iota // 2xx that can be used
	garbled                   // 2xx that cannot
	missing                   // 404
	rejected                  // another 4xx, which is about this run alone
	noAccess                  // 403 of this run alone
	keyRefused                // 401, or 403 that may be everybody's
	limited                   // 429
	failed                    // 5xx, network, a redirect
)

func (r reply) meaning() meaning {
	if r.refusal == nil {
		return answered
	}
	switch r.refusal.Kind {
	case run.Unauthorized:
		return keyRefused
	case run.Forbidden:
		if r.own {
			return noAccess
		}
		return keyRefused
	case run.NotFound:
		return missing
	case run.Rejected:
		return rejected
	case run.RateLimited:
		return limited
	case run.Unusable:
		if r.refusal.Status/100 == 2 {
			return garbled
		}
	}
	return failed
}

// judge is what the reply means for the run (design 4.3). It is pure.
func judge(r run.Run, what reply, c Config, m moment) run.Verdict {
	v := run.Verdict{Polls: r.Polls, At: m.api, Service: m.service}
	v.Polls.Count++
	v.Polls.LastError = ""
	if what.refusal != nil {
		v.Polls.LastError = what.refusal.Error()
	}
	switch what.meaning() {
	case answered:
		judgeAnswer(&v, r, *what.answer, c, m)
	case garbled:
		judgeGarbled(&v, r, c, m)
	case missing, rejected:
		judgeMissing(&v, r, what, c, m, c.interval(m.now.Sub(r.HandedIn), m.roll))
	case noAccess:
		judgeMissing(&v, r, what, c, m, c.MaxInterval)
	case keyRefused:
		v.Polls = unanswered(v.Polls)
		v.Next = m.now // the gate decides when; behind all that were due before it
	case limited:
		v.Polls = unanswered(v.Polls)
		v.Next = m.now.Add(max(what.refusal.RetryAfter, c.wait(r, nil, m)))
	case failed:
		v.Polls = unanswered(v.Polls)
		v.Polls.Failures++
		v.Next = m.now.Add(max(what.refusal.RetryAfter, c.backoff(v.Polls.Failures, m.roll)))
	}
	return v
}

// unanswered stops what counts time in which the API answered.
func unanswered(p run.Polls) run.Polls {
	p.EmptyFor, p.MissingFor, p.OpenFor = p.EmptyFor.Stop(), p.MissingFor.Stop(), p.OpenFor.Stop()
	return p
}

// found forgets what spoke for the run not being there.
func found(p run.Polls) run.Polls {
	p.NotFound, p.MissingFor, p.NoAccess = 0, run.Stopwatch{}, false
	return p
}

func judgeAnswer(v *run.Verdict, r run.Run, a run.Answer, c Config, m moment) {
	p := found(v.Polls)
	p.Failures = 0
	if p.Answered.IsZero() {
		p.Answered = m.api
	}
	v.Answer = &a
	empty := a.Status.Is(run.Completed) && len(a.Assets) == 0
	switch {
	case r.Ended(): // a renewal; a first terminal status stands
		v.Terminal = a.Status.Terminal() && !empty
	case empty:
		p.Empty++
		p.EmptyFor = p.EmptyFor.Tick(m.service)
		v.Terminal = p.Empty >= emptyTimes && p.EmptyFor.Total >= emptyFor
		if !v.Terminal {
			v.Next = m.now.Add(max(c.MinInterval, emptyGap))
		}
	case a.Status.Terminal():
		v.Terminal = true
	default:
		p.Empty, p.EmptyFor = 0, run.Stopwatch{}
		p.OpenFor = p.OpenFor.Tick(m.service)
		if p.OpenFor.Total >= c.GiveUpAfter {
			v.GiveUp = fmt.Sprintf("still %.64q %v after its first answer", a.Status, c.GiveUpAfter)
		} else {
			v.Next = m.now.Add(c.wait(r, &a, m))
		}
	}
	if v.Terminal && !r.Ended() {
		v.Sample = sampleOf(r, a, m)
	}
	v.Polls = p
}

func judgeGarbled(v *run.Verdict, r run.Run, c Config, m moment) {
	p := found(v.Polls)
	p.Failures++
	v.Next = m.now.Add(c.backoff(p.Failures, m.roll))
	if !r.Ended() {
		p.Empty, p.EmptyFor = 0, run.Stopwatch{}
		p.OpenFor = p.OpenFor.Tick(m.service)
		if p.OpenFor.Total >= c.GiveUpAfter {
			v.GiveUp = fmt.Sprintf("no answer that can be used %v after its first one: %s", c.GiveUpAfter, p.LastError)
			v.Next = time.Time{}
		}
	}
	v.Polls = p
}

// judgeMissing takes a 404 or another refusal of this run alone, after which the run is asked again
// after wait.
func judgeMissing(v *run.Verdict, r run.Run, what reply, c Config, m moment, wait time.Duration) {
	p := v.Polls
	p.Failures = 0
	p.NoAccess = what.meaning() == noAccess
	if r.Ended() {
		v.Unlisted = true
		v.Polls = p
		return
	}
	p.Empty, p.EmptyFor = 0, run.Stopwatch{}
	p.NotFound++
	p.MissingFor = p.MissingFor.Tick(m.service)
	// A key that never worked, or a wrong path, finds no run at all.
	if what.proven && p.MissingFor.Total >= c.NotFoundAfter {
		v.GiveUp = fmt.Sprintf("nothing but %q for %v", p.LastError, c.NotFoundAfter)
	} else {
		v.Next = m.now.Add(wait)
	}
	v.Polls = p
}
