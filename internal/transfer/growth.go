package transfer

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
	window     = 50 * time.Millisecond  // that a rate is taken over, at least
	longWindow = 200 * time.Millisecond // at most
	joinTime   = 100 * time.Millisecond // that a step waits for its last connections after its first
	openTime   = 5 * time.Second        // that a step waits for its first
	stepTime   = time.Second
	firstPause = 5 * time.Second // after a step that was taken back, doubling
	mostPause  = time.Minute
)

// sample is what had come at a moment, in bytes: over this transfer's connections
// and over all of the client's.
type sample struct {
	at       time.Time
	own, all int64
}

// rates are bytes a second.
type rates struct{ own, all float64 }

// growth decides when to open connections and when to close them again. It is a
// pure function of what it is told.
type growth struct {
	samples []sample
	steady  time.Time // since when the number of connections has not changed

	stage  stage
	since  time.Time // of the stage
	first  time.Time // when the step's first connection brought bytes; zero: none has
	before rates     // the step
	begun  sample    // of the judging
	share  float64   // that the step's connections are of those before
	rests  int       // steps taken back in a row
	again  time.Time // no step before
}

type stage int

const (
	idle    stage = iota
	opening       // the step's connections are being made
	judging       // they bring bytes
)

// verdict is what is to be done.
type verdict int

const (
	goOn     verdict = iota
	stepUp           // more connections may be opened now
	stepBack         // those of the last step have brought nothing
)

// note takes a sample and forgets those that are no longer needed.
func (g *growth) note(s sample) {
	if g.steady.IsZero() {
		g.steady = s.at
	}
	g.samples = append(g.samples, s)
	for len(g.samples) > 2 && s.at.Sub(g.samples[1].at) > longWindow {
		g.samples = g.samples[1:]
	}
}

// rate is the rates since a moment, but over no more than longWindow, and false
// while that is less than a window.
func (g *growth) rate(since time.Time) (rates, bool) {
	last := g.samples[len(g.samples)-1]
	for _, s := range g.samples {
		if s.at.Before(since) {
			continue
		}
		d := last.at.Sub(s.at)
		if d < window {
			break
		}
		return rates{float64(last.own-s.own) / d.Seconds(), float64(last.all-s.all) / d.Seconds()}, true
	}
	return rates{}, false
}

// opened says that a step's connections are being made, so many to the so many that
// there are.
func (g *growth) opened(now time.Time, more, there int) {
	g.stage, g.since, g.first, g.share = opening, now, time.Time{}, float64(more)/float64(there)
}

// changed says that connections ended by themselves: no step for a while, and no
// judgement on what was measured with them.
func (g *growth) changed(now time.Time) {
	g.stage, g.steady = idle, now
	g.rest(now)
}

func (g *growth) rest(now time.Time) {
	g.rests++
	g.again = now.Add(backoff.Delay(g.rests, firstPause, mostPause))
}

// judge says what is to be done now. Of the step's connections so many have not
// brought a byte yet, and some have.
func (g *growth) judge(now time.Time, waiting int, some bool, left int64) verdict {
	switch g.stage {
	case idle:
		r, ok := g.rate(g.steady)
		if ok && !now.Before(g.again) && float64(left) > r.own*leastTime.Seconds() {
			g.before = r
			return stepUp
		}
	case opening:
		if some && g.first.IsZero() {
			g.first = now
			if r, ok := g.rate(g.steady); ok {
				g.before = r // it may have grown by itself meanwhile
			}
		}
		switch {
		case some && (waiting == 0 || now.Sub(g.first) >= joinTime):
			g.stage, g.since, g.begun = judging, now, g.samples[len(g.samples)-1]
		case now.Sub(g.since) >= openTime:
			return g.back(now)
		}
	case judging:
		if r, ok := g.rate(g.since); ok && g.gained(r, clearGain*g.share) {
			return g.hold(now, left)
		}
		if d := now.Sub(g.since); d >= stepTime {
			last := g.samples[len(g.samples)-1]
			r := rates{float64(last.own-g.begun.own) / d.Seconds(), float64(last.all-g.begun.all) / d.Seconds()}
			if g.gained(r, leastGain) {
				return g.hold(now, left)
			}
			return g.back(now)
		}
	}
	return goOn
}

// gained reports whether the rate has grown by so much of what it was before, and
// not at the cost of the client's other transfers.
func (g *growth) gained(r rates, least float64) bool {
	gain := r.own - g.before.own
	return gain > 0 && gain >= least*g.before.own && r.all-g.before.all >= gain/2
}

// hold keeps the step's connections, and may ask for the next step at once.
func (g *growth) hold(now time.Time, left int64) verdict {
	g.stage, g.steady, g.rests = idle, g.since, 0
	return g.judge(now, 0, false, left)
}

func (g *growth) back(now time.Time) verdict {
	g.stage, g.steady = idle, now
	g.rest(now)
	return stepBack
}
