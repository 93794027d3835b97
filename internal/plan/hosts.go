package plan

import (
	"time"

	"github.com/assetd/assetd/internal/run"
)

// host is where assets come from. It is open while it answers; else it gets one
// probe at a time, after a time to wait that grows with each in vain.
type host struct {
	name     string
	items    int         // assets that lead here
	ready    heap[*item] // by urgency
	running  int
	open     bool
	strikes  int           // probes in vain, the failure that closed it included
	until    time.Duration // no start before
	closedAt uint64        // the last pick before it was closed: what started until then tells nothing
	answered time.Duration // last; -1: never
	probe    *Ticket       // the one that is out
	pace     pace
	rest     time.Duration // no start before, for the pace's sake; 0: at once

	in  *heap[*host] // where it stands; nil: it has nothing that may start
	pos int32
}

// A host that has answered nothing for so long is probed before it gets several
// workers; it may be dead.
const lately = time.Minute

// So many hosts are remembered at least when none of their assets waits.
const hostsKept = 256

// hosts are all hosts, by what they may do.
type hosts struct {
	known  map[string]*host
	tidyAt int

	free   heap[*host] // open, by their most urgent asset
	full   heap[*host] // the same, but they have their share of the workers
	unsure heap[*host] // may be probed, by their most urgent asset
	closed heap[*host] // to be waited for, by time
	paced  heap[*host] // may start something, but not yet, by time
	fixed  float64     // pace of each, in requests a second; 0: learned
}

func newHosts() hosts {
	first := func(a, b *host) bool { return urgent(a.ready.head(), b.ready.head()) }
	until := func(a, b *host) bool { return a.until < b.until }
	rest := func(a, b *host) bool { return a.rest < b.rest }
	pos := func(h *host) *int32 { return &h.pos }
	return hosts{
		known:  map[string]*host{},
		tidyAt: hostsKept,
		free:   heap[*host]{less: first, at: pos},
		full:   heap[*host]{less: first, at: pos},
		unsure: heap[*host]{less: first, at: pos},
		closed: heap[*host]{less: until, at: pos},
		paced:  heap[*host]{less: rest, at: pos},
	}
}

// host is the host of that name. Hosts that no asset leads to are forgotten, but
// for those to be waited for, once there are many.
func (s *hosts) host(name string) *host {
	if h := s.known[name]; h != nil {
		return h
	}
	if len(s.known) >= s.tidyAt {
		for name, h := range s.known {
			if h.items == 0 && h.running == 0 && h.in == nil {
				delete(s.known, name)
			}
		}
		s.tidyAt = max(hostsKept, 2*len(s.known))
	}
	h := &host{name: name, ready: heap[*item]{less: urgent, at: itemPos}, answered: -1, pace: pace{rate: s.fixed}}
	s.known[name] = h
	return h
}

// place puts the host where it belongs after anything about it has changed.
func (b *Backlog) place(h *host) {
	var in *heap[*host]
	switch {
	case h.until > 0:
		in = &b.closed
	case h.ready.empty() || h.probe != nil:
	case h.rest > 0:
		in = &b.paced
	case !h.open:
		in = &b.unsure
	case b.workers > 1 && h.running >= b.workers-1:
		in = &b.full
	default:
		in = &b.free
	}
	if h.in == in {
		if in != nil {
			in.fix(h)
		}
		return
	}
	if h.in != nil {
		h.in.remove(h)
	}
	if h.in = in; in != nil {
		in.push(h)
	}
}

// Closed is how many hosts are to be left alone for a while.
func (b *Backlog) Closed() int { return len(b.closed.all) }

// reopen ends the wait of hosts whose time has come, or whose next turn has, and
// reports whether any did.
func (b *Backlog) reopen(now time.Duration) (some bool) {
	for !b.closed.empty() && b.closed.head().until <= now {
		h := b.closed.head()
		h.until = 0
		b.place(h)
		some = true
	}
	for !b.paced.empty() && b.paced.head().rest <= now {
		h := b.paced.head()
		h.rest = 0
		b.place(h)
		some = true
	}
	return some
}

// pick is the host whose most urgent asset starts next, nil where none may. A
// worker is kept from a host that has all others while another host has
// something to start, and half of them from hosts that may be dead.
func (b *Backlog) pick() *host {
	probes := &b.unsure
	if b.manyProbes() {
		probes = &heap[*host]{}
	}
	if h := sooner(&b.free, probes); h != nil {
		return h
	}
	return sooner(&b.full, &b.unsure)
}

// manyProbes reports whether hosts that may be dead have half of the workers.
func (b *Backlog) manyProbes() bool { return b.probes >= max(b.workers/2, 1) }

// sooner is the more urgent of two heads, nil where there is none.
func sooner(a, b *heap[*host]) *host {
	switch {
	case a.empty() && b.empty():
		return nil
	case a.empty() || !b.empty() && urgent(b.head().ready.head(), a.head().ready.head()):
		return b.head()
	}
	return a.head()
}

// start notes that the ticket's asset is being fetched.
func (b *Backlog) start(t *Ticket, now time.Duration) {
	h := t.item.host
	b.picks++
	t.host, t.pick, t.start = h, b.picks, now
	if h.open && h.running == 0 && now-h.answered > lately {
		h.open = false
	}
	h.running++
	h.rest = h.pace.asked(now, false)
	if !h.open && h.probe == nil {
		h.probe = t
		b.probes++
	}
	b.place(h)
}

// Hold notes that the asset is not being fetched any more, but stays in its
// holder's hands.
func (b *Backlog) Hold(t *Ticket) {
	if t.host == nil || t.held {
		return
	}
	t.held = true
	t.host.running--
	b.probed(t.host, t)
	b.place(t.host)
}

// probed ends the host's probe, if it is that one.
func (b *Backlog) probed(h *host, t *Ticket) {
	if t != nil && h.probe == t {
		h.probe = nil
		b.probes--
	}
}

// Answered notes that the host answered the ticket's request: the first answer
// to a request made since the host was closed opens it. back: it had been closed.
func (b *Backlog) Answered(t *Ticket, now time.Duration) (back bool) {
	h := t.host
	h.answered = now
	if h.open || t.pick <= h.closedAt {
		return false
	}
	back = h.strikes > 0
	b.probed(h, h.probe)
	h.open, h.strikes, h.until = true, 0, 0
	b.place(h)
	return back
}

// Spoke notes that the host answered with an error that may be nobody's fault but
// its own: it lives, so it is opened if that was all that was in doubt; one that
// was closed for a reason stays so, as by Slow.
func (b *Backlog) Spoke(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	if t.host.strikes > 0 && !t.host.open {
		return b.shut(t, now, p)
	}
	b.Answered(t, now)
	return 0
}

// Undecided notes that the host gave an answer that it would have given in either
// state: it lives, so it is opened if that was all that was in doubt; one that was
// closed for a reason stays so, and gets its next probe as after a first failure.
func (b *Backlog) Undecided(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	h := t.host
	if h.strikes == 0 || h.open {
		b.Answered(t, now)
		return 0
	}
	wait = p.Least
	if t.pick > h.closedAt {
		b.probed(h, t)
		wait = max(wait, Wait(1, p.Left, p.Random))
	}
	h.until = max(h.until, now+wait)
	b.place(h)
	return h.until - now
}

// LastAnswer is when the host of the ticket's request last answered any. False:
// never.
func (b *Backlog) LastAnswer(t *Ticket) (at time.Duration, ok bool) {
	return t.host.answered, t.host.answered >= 0
}

// Pause says how long to wait for a host.
type Pause struct {
	Least  time.Duration // what the server asked for, as Obey has it
	Left   time.Duration // as in Wait
	Random float64       // as in Wait
}

// Slow notes that the host turned the ticket's request away for its own sake: it
// is closed, and gets its next probe after the wait that is given back. Requests
// that were under way when it was closed are one failure with the one that closed
// it; of theirs only Least counts. Its pace may be lowered.
func (b *Backlog) Slow(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	if t.host.probe != t {
		t.host.pace.away(t.item.seq, now)
	}
	return b.shut(t, now, p)
}

func (b *Backlog) shut(t *Ticket, now time.Duration, p Pause) (wait time.Duration) {
	h := t.host
	wait = p.Least
	if t.pick > h.closedAt {
		h.open, h.closedAt = false, b.picks
		h.strikes++
		b.probed(h, t)
		wait = max(wait, Wait(h.strikes, p.Left, p.Random))
	}
	h.until = max(h.until, now+wait)
	b.place(h)
	return h.until - now
}

// Soonest is the earliest deadline of the assets that wait for the ticket's host.
// It looks through all that wait for their time.
func (b *Backlog) Soonest(t *Ticket) (deadline time.Time, ok bool) {
	var first *item
	if !t.host.ready.empty() {
		first = t.host.ready.head()
	}
	for _, it := range b.later.all {
		if it.host == t.host && (first == nil || urgent(it, first)) {
			first = it
		}
	}
	if first == nil {
		return time.Time{}, false
	}
	return time.UnixMilli(first.deadline), true
}

// Hurry has an asset's host, if it is closed, get its next request at that time at
// the latest.
func (b *Backlog) Hurry(key run.Key, at func() time.Duration) {
	it := b.find(key)
	if it == nil || it.host.until == 0 {
		return
	}
	it.host.until = min(it.host.until, at())
	b.place(it.host)
}

// Silent notes that the host answered nothing at all. It is closed as by Slow
// unless it has answered others since this request was made: then the fault is
// the asset's own.
func (b *Backlog) Silent(t *Ticket, now time.Duration, p Pause) (wait time.Duration, closed bool) {
	if t.host.answered >= t.start {
		return 0, false
	}
	return b.shut(t, now, p), true
}
