package ranges

import (
	"time"

	"github.com/assetd/assetd/internal/backoff"
)

// How the number of connections of one transfer is found. A step doubles it. It
// holds at once where its connections have brought, for a window, half as much as as
// many of those before; and else if the sum has grown at all over stepTime, in which
// a connection leaves its slow start. If not, it is taken back.
const (
	clearGain  = 0.5                    // of what was expected
	leastGain  = 0.15                   // of the rate before
	leastTime  = 3 * time.Second        // what is over sooner anyway is worth no step
	Window     = 50 * time.Millisecond  // that a rate is taken over, at least
	longWindow = 200 * time.Millisecond // at most
	joinTime   = 100 * time.Millisecond // that a step waits for its last connections after its first
	openTime   = 5 * time.Second        // that a step waits for its first
	stepTime   = time.Second
	firstPause = 5 * time.Second // after a step that was taken back, doubling
	mostPause  = time.Minute
)

// Sample is what had come at a moment, in bytes: over this transfer's connections
// and over all of the client's.
type Sample struct {
	At       time.Time
	Own, All int64
}

// Rates are bytes per second: of this transfer and of all.
type Rates struct{ Own, All float64 }

// Autoscaler decides when to open connections and when to close them again. It is a
// pure function of what is reported to it.
type Autoscaler struct {
	samples []Sample
	steady  time.Time // since when the number of connections has not changed

	stage  stage
	since  time.Time // of the stage
	first  time.Time // when the step's first connection brought bytes; zero: none has
	before Rates     // the step
	begun  Sample    // of the judging
	share  float64   // that the step's connections are of those before
	rests  int       // steps taken back in a row
	Again  time.Time // no step before
}

type stage int

const (
	idle    stage = iota
	opening       // the step's connections are being made
	judging       // they bring bytes
)

// Decision is what is to be done.
type Decision int

const (
	Keep   Decision = iota
	Grow            // more connections may be opened now
	Shrink          // those of the last step have brought nothing
)

// Note takes a sample and forgets those that are no longer needed.
func (a *Autoscaler) Note(s Sample) {
	if a.steady.IsZero() {
		a.steady = s.At
	}
	a.samples = append(a.samples, s)
	for len(a.samples) > 2 && s.At.Sub(a.samples[1].At) > longWindow {
		a.samples = a.samples[1:]
	}
}

// rate is the rates since a moment, but over no more than longWindow, and false
// while that is less than a window.
func (a *Autoscaler) rate(since time.Time) (Rates, bool) {
	last := a.samples[len(a.samples)-1]
	for _, s := range a.samples {
		if s.At.Before(since) {
			continue
		}
		d := last.At.Sub(s.At)
		if d < Window {
			break
		}
		return Rates{float64(last.Own-s.Own) / d.Seconds(), float64(last.All-s.All) / d.Seconds()}, true
	}
	return Rates{}, false
}

// Opened says that a step's connections are being made, so many to the so many that
// there are.
func (a *Autoscaler) Opened(now time.Time, more, there int) {
	a.stage, a.since, a.first, a.share = opening, now, time.Time{}, float64(more)/float64(there)
}

// Changed says that connections ended by themselves: no step for a while, and no
// judgement on what was measured with them.
func (a *Autoscaler) Changed(now time.Time) {
	a.stage, a.steady = idle, now
	a.rest(now)
}

func (a *Autoscaler) rest(now time.Time) {
	a.rests++
	a.Again = now.Add(backoff.Delay(a.rests, firstPause, mostPause))
}

// Judge says what is to be done now. Of the step's connections so many have not
// brought a byte yet, and some have.
func (a *Autoscaler) Judge(now time.Time, waiting int, some bool, left int64) Decision {
	switch a.stage {
	case idle:
		r, ok := a.rate(a.steady)
		if ok && !now.Before(a.Again) && float64(left) > r.Own*leastTime.Seconds() {
			a.before = r
			return Grow
		}
	case opening:
		if some && a.first.IsZero() {
			a.first = now
			if r, ok := a.rate(a.steady); ok {
				a.before = r // it may have grown by itself meanwhile
			}
		}
		switch {
		case some && (waiting == 0 || now.Sub(a.first) >= joinTime):
			a.stage, a.since, a.begun = judging, now, a.samples[len(a.samples)-1]
		case now.Sub(a.since) >= openTime:
			return a.back(now)
		}
	case judging:
		if r, ok := a.rate(a.since); ok && a.gained(r, clearGain*a.share) {
			return a.hold(now, left)
		}
		if d := now.Sub(a.since); d >= stepTime {
			last := a.samples[len(a.samples)-1]
			r := Rates{float64(last.Own-a.begun.Own) / d.Seconds(), float64(last.All-a.begun.All) / d.Seconds()}
			if a.gained(r, leastGain) {
				return a.hold(now, left)
			}
			return a.back(now)
		}
	}
	return Keep
}

// gained reports whether the rate has grown by so much of what it was before, and
// not at the cost of the client's other transfers.
func (a *Autoscaler) gained(r Rates, least float64) bool {
	gain := r.Own - a.before.Own
	return gain > 0 && gain >= least*a.before.Own && r.All-a.before.All >= gain/2
}

// hold keeps the step's connections, and may ask for the next step at once.
func (a *Autoscaler) hold(now time.Time, left int64) Decision {
	a.stage, a.steady, a.rests = idle, a.since, 0
	return a.Judge(now, 0, false, left)
}

func (a *Autoscaler) back(now time.Time) Decision {
	a.stage, a.steady = idle, now
	a.rest(now)
	return Shrink
}

// Idle reports whether no step is being tried.
func (a *Autoscaler) Idle() bool { return a.stage == idle }

// SteadyRate is the rates since the number of connections last changed; false: not known
// yet.
func (a *Autoscaler) SteadyRate() (Rates, bool) { return a.rate(a.steady) }
