package download

import (
	"cmp"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/download/triage"
	"github.com/assetd/assetd/internal/run"
)

// Figures are the state of the pool at a moment.
type Figures struct {
	Running   int   // transfers at full speed
	Held      int   // transfers held open at a trickle
	Throttled int   // hosts that are left alone for a while
	AtRisk    int   // assets that were reported as at risk, and are neither stored nor lost
	Received  int64 // bytes that came since the start, of what was in vain, too
	Link      int64 // bytes/s that the link was seen to bring; 0: not known
	Drain     Drain
}

// Drain is how much time there is for the assets that expire first: whether what has to come
// by then can.
type Drain struct {
	Known bool          // an asset has an expiry that is known, and the link a rate
	Needs time.Duration // to bring all that expire no later than the tightest of them
	Slack time.Duration // what is left after that until that one expires; negative: too little
}

// Figures returns the figures of this moment and changes nothing. It looks at what runs
// and at the nearest assets that wait, as a decision does, and costs the same however
// many there are.
func (p *Pool) Figures() Figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	f := Figures{Throttled: p.backlog.Closed(), AtRisk: len(p.scarce.warned), Received: p.scarce.moved}
	for _, t := range p.flights {
		f.Received += t.throttle.Moved() - t.seen // since the last decision
		if t.held {
			f.Held++
		} else {
			f.Running++
		}
	}
	w, _ := p.window(now)
	f.Link, f.Drain = w.Rate, drain(w)
	return f
}

// Left is the time from now until the asset should be there, by its server's clock.
// It may be negative.
func (p *Pool) Left(a run.Asset) time.Duration {
	p.mu.Lock()
	margin := p.config.Margin
	p.mu.Unlock()
	return a.Deadline(margin).Sub(p.Clock.Server(hostOf(a)))
}

// drain looks for the asset whose expiry leaves the least time besides what has to come until
// then, when all is brought in the order of expiry. What has expired waits for fresh URLs,
// and is not counted.
func drain(w triage.Window) (d Drain) {
	if w.Rate <= 0 {
		return d
	}
	timed := slices.DeleteFunc(slices.Clone(w.Assets), func(a triage.Asset) bool { return a.Unknown || a.Expiry <= w.Now })
	slices.SortFunc(timed, func(a, b triage.Asset) int { return cmp.Compare(a.Expiry, b.Expiry) })
	bytes := int64(0)
	for _, a := range timed {
		bytes += max(a.Bytes, 0)
		needs := time.Duration(float64(bytes) / float64(w.Rate) * float64(time.Second))
		if slack := a.Expiry - w.Now - needs; !d.Known || slack < d.Slack {
			d = Drain{true, needs, slack}
		}
	}
	return d
}
