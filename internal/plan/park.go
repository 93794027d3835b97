package plan

import "time"

// Park lets another asset have the worker of one that is being fetched and brings
// next to nothing. mute: its request was not answered yet; then its host, too, may get
// another one in its place, and where it is that host's probe the next one.
func (b *Backlog) Park(t *Ticket, now time.Duration, mute bool) {
	if t.host == nil || t.held || t.parked {
		return
	}
	h := t.host
	if h.probe == t {
		b.probes--
	}
	t.parked, t.mute = true, mute
	b.parked++
	switch {
	case !mute:
		h.trickling++
	default:
		h.running--
		if h.probe == t && b.sweeps(h, now) {
			h.probe, h.until = nil, 0
		}
	}
	b.place(h)
}

// sweeps reports whether a host whose probe is mute gets another one.
func (b *Backlog) sweeps(h *host, now time.Duration) bool {
	if h.strikes == 0 && h.sweep.end == 0 {
		h.sweep.grant(now, sweepMost)
	}
	return h.sweep.probes(now, h.ready.unrefused()) > 0
}

// Unpark takes the worker of one that was parked into account again.
func (b *Backlog) Unpark(t *Ticket) {
	if !t.parked {
		return
	}
	h := t.host
	if t.mute {
		h.running++
	} else {
		h.trickling--
	}
	b.parked--
	t.parked, t.mute = false, false
	if h.probe == t {
		b.probes++
	}
	b.place(h)
}

// Parked is how many are parked.
func (b *Backlog) Parked() int { return b.parked }

// Probe reports whether the ticket is its host's probe.
func (t *Ticket) Probe() bool { return t.host != nil && t.host.probe == t }

// Mute reports whether the ticket is parked and was not answered.
func (t *Ticket) Mute() bool { return t.mute }
