package download

import (
	"context"
	"errors"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
)

// A transfer that brings next to nothing is parked: it goes on, and its worker is
// another's. So neither hosts nor assets that answer nothing, or a byte now and then,
// hold up others.
const (
	lookEvery   = 200 * time.Millisecond
	probeMute   = 750 * time.Millisecond // without a response, where it is its host's only one
	openMute    = 3 * time.Second        // without a response, where the host answers others
	trickleTime = 5 * time.Second        // with less than trickleRate
	trickleRate = 1 << 10                // bytes/s; what is slower all the time is ended by transfer, too
	mostParked  = 64                     // the first of more is stopped
)

// errParked stops a transfer that was parked for longest, where there are too many.
var errParked = errors.New("stopped: it brought next to nothing, as many others did")

// watch parks transfers.
func (p *Pool) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if p.look() {
			rest(ctx, nil, lookEvery)
		} else {
			rest(ctx, p.begun, longestSleep)
		}
	}
}

// look parks what brings next to nothing, and reports whether anything runs.
func (p *Pool) look() (some bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for t, f := range p.flights {
		if !f.over {
			p.lookAt(t, f, now)
		}
	}
	for n := p.backlog.Parked() - mostParked; n > 0; n-- {
		if f := p.parkedLongest(); f != nil {
			f.stop(errParked)
			f.parked = 0
		}
	}
	return len(p.flights) > 0
}

// lookAt parks a transfer, or takes that back. The pool is locked.
func (p *Pool) lookAt(t *backlog.Ticket, f *flight, now time.Duration) {
	sent := time.Duration(f.sent.Load())
	switch {
	case f.since.IsZero() || f.ctx.Err() != nil:
	case f.answered.Load():
		p.measureIdle(t, f, now)
	case sent == 0:
		if t.Probe() && time.Since(f.since) >= probeMute {
			p.park(t, f, now, backlog.Dialing)
		}
	case now-sent >= openMute || t.Probe() && now-sent >= probeMute:
		p.park(t, f, now, backlog.Mute)
	}
}

// measureIdle parks a transfer whose response trickles. The pool is locked.
func (p *Pool) measureIdle(t *backlog.Ticket, f *flight, now time.Duration) {
	if t.Idle() == 0 {
		f.parked = 0 // it was answered meanwhile
	}
	if f.looked > 0 && now-f.looked < trickleTime {
		return
	}
	moved := f.throttle.Moved()
	slow := f.looked > 0 && float64(moved-f.moved) < trickleRate*(now-f.looked).Seconds() && f.throttle.Reading() && !f.held
	f.looked, f.moved = now, moved
	if slow {
		p.park(t, f, now, backlog.Trickling)
	} else {
		f.parked = 0
		p.backlog.Unpark(t)
	}
}

func (p *Pool) park(t *backlog.Ticket, f *flight, now time.Duration, why backlog.Idle) {
	if f.parked == 0 {
		f.parked = now
	}
	if t.Idle() < why {
		p.backlog.Park(t, now, why)
		signal(p.wake)
	}
}

// parkedLongest is the transfer that was parked first, nil where none is. The pool is
// locked.
func (p *Pool) parkedLongest() (first *flight) {
	for _, f := range p.flights {
		if f.parked > 0 && (first == nil || f.parked < first.parked) {
			first = f
		}
	}
	return first
}
