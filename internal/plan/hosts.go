package plan

import "time"

// host is where assets come from. It is open while it answers; else it gets one
// probe at a time, after a time to wait that grows with each in vain.
type host struct {
	name     string
	items    int // assets that lead here
	ready    lineup
	running  int // without those that are parked
	open     bool
	strikes  int           // probes in vain, the failure that closed it included
	until    time.Duration // no start before
	closedAt uint64        // the last pick before it was closed: what started until then tells nothing
	since    uint64        // the last pick before it was throttled: what failed from then on has had its probe
	sweep    sweep
	due      time.Duration // when the assets for which no request was made should have had one; 0: not set
	answered time.Duration // last, if only with an error; -1: never
	success  uint64        // the last pick that was answered as it should
	probe    *Ticket       // the one that is out
	pace     pace
	rest     time.Duration // no start before, for the pace's sake; 0: at once

	suspected bool // the last one that was started is a suspect
	trickling int  // parked, though they are answered

	in   *heap[*host] // where it stands; nil: it has nothing that may start
	pos  int32
	tail int32 // where in late
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
	slow   heap[*host] // the same, but what they have brings next to nothing
	most   heap[*host] // the same, but they have as many workers as there are: Next starts none of theirs
	unsure heap[*host] // may be probed: by their most urgent asset, those that failed last
	late   heap[*host] // the same hosts: by their least urgent asset
	closed heap[*host] // to be waited for, by time
	paced  heap[*host] // may start something, but not yet, by time
	fixed  float64     // pace of each, in requests a second; 0: learned
}

func newHosts() hosts {
	first := func(a, b *host) bool { return urgent(a.head(), b.head()) }
	failed := func(h *host) int { return bit(h.strikes > 0) }
	probe := func(a, b *host) bool { return failed(a) < failed(b) || failed(a) == failed(b) && first(a, b) }
	late := func(a, b *host) bool { return failed(a) < failed(b) || failed(a) == failed(b) && first(b, a) }
	until := func(a, b *host) bool { return a.until < b.until }
	rest := func(a, b *host) bool { return a.rest < b.rest }
	pos := func(h *host) *int32 { return &h.pos }
	return hosts{
		known:  map[string]*host{},
		tidyAt: hostsKept,
		free:   heap[*host]{less: first, at: pos},
		full:   heap[*host]{less: first, at: pos},
		slow:   heap[*host]{less: first, at: pos},
		most:   heap[*host]{less: first, at: pos},
		unsure: heap[*host]{less: probe, at: pos},
		late:   heap[*host]{less: late, at: func(h *host) *int32 { return &h.tail }},
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
	h := &host{name: name, ready: newLineup(), answered: -1, pace: pace{rate: s.fixed}}
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
	case h.running >= b.workers:
		in = &b.most
	case h.trickling > 0:
		in = &b.slow
	case b.workers > 1 && h.running >= b.workers-1:
		in = &b.full
	default:
		in = &b.free
	}
	if h.in == in {
		if in != nil {
			in.fix(h)
		}
		if in == &b.unsure {
			b.late.fix(h)
		}
		return
	}
	if h.in != nil {
		h.in.remove(h)
	}
	if h.in == &b.unsure {
		b.late.remove(h)
	}
	if h.in = in; in != nil {
		in.push(h)
	}
	if in == &b.unsure {
		b.late.push(h)
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

// pick is the host whose next asset starts next, nil where none may. A worker is kept
// from a host that has all others while another host has something to start; hosts
// that may be dead have half of the workers at most; a host that brings next to
// nothing comes last. While anything is parked or any host closed the probes go to the
// most and the least urgent host by turns, so that many hosts that bring nothing keep no
// worker from one that does.
func (b *Backlog) pick() *host {
	probe := b.probeNext()
	if probe != nil && (b.parked > 0 || !b.closed.empty()) {
		if b.byLate = !b.byLate; b.byLate {
			return b.late.head()
		}
	}
	if h := sooner(&b.free, probe); h != nil {
		return h
	}
	if !b.full.empty() {
		return b.full.head()
	}
	if !b.slow.empty() {
		return b.slow.head()
	}
	return nil
}

// probeNext is the host that is probed next, nil where none may be.
func (b *Backlog) probeNext() *host {
	if b.unsure.empty() || b.manyProbes() {
		return nil
	}
	return b.unsure.head()
}

// manyProbes reports whether hosts that may be dead have half of the workers.
func (b *Backlog) manyProbes() bool { return b.probes >= b.probesMost() }

func (b *Backlog) probesMost() int { return max(b.workers/2, 1) }

// sooner is the more urgent of a head and a host, nil where there is neither.
func sooner(a *heap[*host], h *host) *host {
	if !a.empty() && (h == nil || !urgent(h.head(), a.head().head())) {
		return a.head()
	}
	return h
}

// start notes that the ticket's asset is being fetched.
func (b *Backlog) start(t *Ticket, now time.Duration) {
	h := t.item.host
	b.picks++
	t.host, t.pick, t.start = h, b.picks, now
	t.item.tried, t.item.came, h.suspected = true, false, t.item.own
	if !h.open && h.sweep.left > 0 {
		h.sweep.left--
	}
	if h.ready[untried].empty() {
		h.due = 0
	}
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
	b.Unpark(t)
	t.held = true
	t.host.running--
	b.probed(t.host, t)
	b.place(t.host)
}

// probed ends the host's probe, if it is that one.
func (b *Backlog) probed(h *host, t *Ticket) {
	if t != nil && h.probe == t {
		h.probe = nil
		if t.idle == 0 {
			b.probes--
		}
	}
}
