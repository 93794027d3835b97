package backlog

import (
	"time"

	"github.com/assetd/assetd/internal/run"
)

// A throttled host is probed with one asset at a time, each later than the one
// before. As a failure may be an asset's own, not the host's, the assets that wait
// for it are gone through within a minute: so many at most, in so much time. After
// that the host is taken to refuse everything.
const (
	sweepMost  = 64
	sweepTime  = 40 * time.Second
	sweepGrace = 20 * time.Second // for probes that take their time
	sweepLeast = sweepTime / (sweepMost + 1)
)

// sweep bounds the waits between probes.
type sweep struct {
	left int           // probes
	end  time.Duration // by when they should have been made
}

// grant allows so many probes more. The assets for which no request was made keep the
// time that they were given first, however often the host opens and closes meanwhile.
func (h *host) grant(now time.Duration, probes int) {
	end, waiting := now+sweepTime, len(h.ready[untried].Items)
	switch {
	case waiting == 0:
		h.due = 0
	case h.due == 0:
		h.due = end
	default:
		end = min(end, max(h.due, now+sweepLeast*time.Duration(waiting+1)))
	}
	h.sweep.left, h.sweep.end = min(h.sweep.left+probes, sweepMost), end
}

// probes is how many more there may be where so many assets wait.
func (s *sweep) probes(now time.Duration, assets int) int {
	if now >= s.end+sweepGrace {
		return 0
	}
	return min(s.left, assets)
}

// within is the wait, shortened for the sake of the assets that wait.
func (s *sweep) within(wait, now time.Duration, assets int) time.Duration {
	n := s.probes(now, assets)
	if n <= 0 {
		return wait
	}
	return min(wait, max((s.end-now)/time.Duration(n+1), sweepLeast))
}

// throttled reports whether the host failed since it was last answered.
func (h *host) throttled() bool { return !h.open && h.strikes > 0 }

// head is the asset that is the host's next; there must be one. Those that fail for
// their own sake get every other turn at most while others wait.
func (h *host) head() *item {
	if h.throttled() {
		return h.ready.probe()
	}
	return h.ready.urgent(h.suspected)
}

// turnOf is the item's turn.
func (h *host) turnOf(it *item) turn {
	switch {
	case it.own:
		return suspect
	case it.failed > 0 && it.failed >= h.since && h.throttled():
		return refused
	case it.tried:
		return tried
	}
	return untried
}

// wait is how long the host waits from now on, if it has to for so long.
func (h *host) wait(wait, now time.Duration) time.Duration {
	return h.sweep.within(min(wait, maxDelay), now, h.ready.unrefused())
}

// Answered notes that the host answered the ticket's request as it should: the first
// answer to a request made since the host was closed opens it. back: it had been
// closed.
func (b *Backlog) Answered(t *Ticket, now time.Duration) (back bool) {
	h := t.host
	h.success = max(h.success, t.pick)
	h.limit.answered++
	if it := t.item; it.host == h {
		if it.failed > 0 && !it.own {
			h.limit.proven, h.limit.provenAt = true, now
		}
		it.failed, it.own = 0, false
	}
	return b.alive(t, now)
}

// alive notes that the host answered the ticket's request, if only with an error.
func (b *Backlog) alive(t *Ticket, now time.Duration) (back bool) {
	h := t.host
	h.answered = now
	if t.idle == Dialing || t.idle == Mute {
		b.Unpark(t)
	}
	if h.open || t.pick <= h.closedAt {
		return false
	}
	back = h.strikes > 0
	b.probed(h, h.probe)
	h.open, h.strikes, h.until, h.sweep = true, 0, 0, sweep{}
	h.ready.forgive()
	b.place(h)
	return back
}

// blame notes that the ticket's request failed in a way that may be the host's. own:
// it is the asset's, which failed before, others were answered that were asked for
// after that, and now it fails again though the host is not throttled.
func (b *Backlog) blame(t *Ticket) (own bool) {
	it, h := t.item, t.host
	if it.host != h {
		return false
	}
	if it.failed > 0 && h.success > it.failed && !it.own && !h.throttled() {
		it.own = true
		h.limit.forgive(it.seq)
	}
	it.failed = b.picks
	return it.own
}

// Own reports whether the ticket's asset is known to fail while others of its host are
// answered.
func (t *Ticket) Own() bool { return t.item.own }

// goOn ends the ticket's probe without a say about a throttled host: it waits for the
// next one as after a first failure.
func (b *Backlog) goOn(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	h := t.host
	if !h.throttled() {
		return 0
	}
	if t.pick > h.closedAt {
		b.probed(h, t)
		wait = RetryDelay(1, p.Left, p.Random)
	}
	h.until = max(h.until, now+h.wait(wait, now))
	b.place(h)
	return h.until - now
}

// Spoke notes that the host answered with an error that may be nobody's fault but
// its own: it lives, so it is opened if that was all that was in doubt; one that
// was closed for a reason stays so, as by Slow.
func (b *Backlog) Spoke(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	switch {
	case !t.host.throttled():
		b.alive(t, now)
		return 0
	case b.blame(t):
		b.goOn(t, now, p)
		return 0
	}
	return b.shut(t, now, p)
}

// Undecided notes that the host gave an answer that it would have given in either
// state: it lives, so it is opened if that was all that was in doubt; one that was
// closed for a reason stays so, and gets its next probe as after a first failure.
func (b *Backlog) Undecided(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	if !t.host.throttled() {
		b.alive(t, now)
		return 0
	}
	if t.item.host == t.host {
		t.item.failed = b.picks
	}
	return b.goOn(t, now, p)
}

// LastAnswer is when the host of the ticket's request last answered any. False:
// never.
func (b *Backlog) LastAnswer(t *Ticket) (at time.Duration, ok bool) {
	return t.host.answered, t.host.answered >= 0
}

// Pause says how long to wait for a host.
type Pause struct {
	Least  time.Duration // what the server asked for; of it a minute at most counts for the host
	Left   time.Duration // as in RetryDelay
	Random float64       // as in RetryDelay
	Sure   bool          // no asset can be the reason: there was no connection
}

// Slow notes that the host turned the ticket's request away for its own sake: it
// is closed, and gets its next probe after the wait that is given back. Requests
// that were under way when it was closed are one failure with the one that closed
// it; of theirs only Least counts. Its pace may be lowered. An asset that failed
// before while others were answered closes nothing.
func (b *Backlog) Slow(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	if b.blame(t) {
		if !t.host.throttled() {
			b.alive(t, now)
		} else {
			b.goOn(t, now, p)
		}
		return 0
	}
	if t.host.probe != t {
		t.host.limit.away(t.item.seq, now)
	}
	return b.shut(t, now, p)
}

// Silent notes that the host answered nothing at all. It is closed as by Slow
// unless it has answered others since this request was made: then the fault is
// the asset's own.
func (b *Backlog) Silent(t *Ticket, now time.Duration, p Pause) (wait time.Duration, closed bool) {
	own := b.blame(t)
	if t.host.answered >= t.start {
		return 0, false
	}
	if own {
		b.goOn(t, now, p)
		return 0, false
	}
	return b.shut(t, now, p), true
}

func (b *Backlog) shut(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	h := t.host
	wait = p.Least
	if t.pick > h.closedAt {
		if !h.throttled() {
			h.since = b.picks
			h.grant(now, sweepMost)
		}
		if p.Sure {
			h.sweep = sweep{}
		}
		h.open, h.closedAt = false, b.picks
		h.strikes++
		b.probed(h, t)
		wait = max(wait, RetryDelay(h.strikes, p.Left, p.Random))
	}
	h.until = max(h.until, now+h.wait(wait, now))
	b.place(h)
	return h.until - now
}

// Hurry has the host of an asset that has just come, or that has another URL, asked
// in time for it, if it is throttled.
func (b *Backlog) Hurry(key run.Key, now time.Duration) {
	if it := b.find(key); it != nil && it.came {
		it.came = false
		b.hurry(it, now)
	}
}

func (b *Backlog) hurry(it *item, now time.Duration) {
	h := it.host
	if it.state != ready || it.turn >= refused || !h.throttled() {
		return
	}
	h.grant(now, 1)
	if h.until > now {
		h.until = now + h.wait(h.until-now, now)
		b.place(h)
	}
}
