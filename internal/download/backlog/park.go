package backlog

import "time"

// Idle is why a transfer brings next to nothing.
type Idle uint8

// The reasons.
const (
	Dialing   Idle = iota + 1 // there is no connection yet
	Mute                      // its request was not answered yet
	Trickling                 // its response brings next to nothing
)

// Park lets another asset have the worker of one that is being fetched and brings
// next to nothing, also one of the same host, if after those of others. Where it is
// its host's probe and Mute there may be the next one. It may be called again with a
// later reason.
func (b *Backlog) Park(t *Ticket, now time.Duration, why Idle) {
	if t.host == nil || t.held || t.idle >= why {
		return
	}
	h := t.host
	if t.idle == 0 {
		if h.probe == t {
			b.probes--
		}
		b.parked++
		h.running--
	}
	t.idle = why
	switch why {
	case Trickling:
		h.trickling++
	case Mute:
		if h.probe == t && b.sweeps(h, now) {
			h.probe, h.until = nil, 0
		}
	case Dialing:
	}
	b.place(h)
}

// sweeps reports whether a host whose probe is mute gets another one, now or when an
// asset comes.
func (b *Backlog) sweeps(h *host, now time.Duration) bool {
	if h.strikes == 0 && h.sweep.end == 0 {
		h.grant(now, sweepMost)
	}
	return h.sweep.probes(now, sweepMost) > 0
}

// Unpark takes the worker of one that was parked into account again.
func (b *Backlog) Unpark(t *Ticket) {
	if t.idle == 0 {
		return
	}
	h := t.host
	h.running++
	if t.idle == Trickling {
		h.trickling--
	}
	b.parked--
	t.idle = 0
	if h.probe == t {
		b.probes++
	}
	b.place(h)
}

// Parked is how many are parked.
func (b *Backlog) Parked() int { return b.parked }

// Probe reports whether the ticket is its host's probe.
func (t *Ticket) Probe() bool { return t.host != nil && t.host.probe == t }

// Idle is why the ticket is parked; 0: it is not.
func (t *Ticket) Idle() Idle { return t.idle }
