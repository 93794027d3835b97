package backlog

import (
	"time"

	"github.com/assetd/assetd/internal/download/heap"
)

// host is where assets come from. It is open while it answers; else it gets one
// probe at a time, after a time to wait that grows with each without success.
type host struct {
	name     string
	items    int // assets that lead here
	ready    lineup
	running  int // without those that are parked
	open     bool
	strikes  int           // probes without success, the failure that closed it included
	until    time.Duration // no start before
	closedAt uint64        // the last pick before it was closed: what started until then tells nothing
	since    uint64        // the last pick before it was throttled: what failed from then on has had its probe
	sweep    sweep
	due      time.Duration // when the assets for which no request was made should have had one; 0: not set
	answered time.Duration // last, if only with an error; -1: never
	success  uint64        // the last pick that was answered as it should
	probe    *Ticket       // the one that is out
	limit    rateLimit
	rest     time.Duration // no start before, for the pace's sake; 0: at once

	suspected bool // the last one that was started is a suspect
	trickling int  // parked, though they are answered

	in   *heap.Heap[*host] // where it stands; nil: it has nothing that may start
	pos  int32
	tail int32 // where in late
}

// A host that has answered nothing for so long is probed before it gets several
// workers; it may be down.
const lately = time.Minute

// So many hosts are remembered at least when none of their assets waits.
const hostsKept = 256

// hosts are all hosts, by what they may do.
type hosts struct {
	known  map[string]*host
	tidyAt int

	free   heap.Heap[*host] // open, by their most urgent asset
	full   heap.Heap[*host] // the same, but they have their share of the workers
	slow   heap.Heap[*host] // the same, but what they have brings next to nothing
	most   heap.Heap[*host] // the same, but they have as many workers as there are: Next starts none of theirs
	unsure heap.Heap[*host] // may be probed: by their most urgent asset, those that failed last
	late   heap.Heap[*host] // the same hosts: by their least urgent asset
	closed heap.Heap[*host] // to be waited for, by time
	paced  heap.Heap[*host] // may start something, but not yet, by time
	fixed  float64          // pace of each, in requests a second; 0: learned
}

func newHosts() hosts {
	first := func(a, b *host) bool { return urgent(a.head(), b.head()) }
	failed := func(h *host) bool { return h.strikes > 0 }
	probe := func(a, b *host) bool {
		if failed(a) != failed(b) {
			return failed(b)
		}
		return first(a, b)
	}
	late := func(a, b *host) bool {
		if failed(a) != failed(b) {
			return failed(b)
		}
		return first(b, a)
	}
	until := func(a, b *host) bool { return a.until < b.until }
	rest := func(a, b *host) bool { return a.rest < b.rest }
	pos := func(h *host) *int32 { return &h.pos }
	return hosts{
		known:  map[string]*host{},
		tidyAt: hostsKept,
		free:   heap.Heap[*host]{Less: first, Index: pos},
		full:   heap.Heap[*host]{Less: first, Index: pos},
		slow:   heap.Heap[*host]{Less: first, Index: pos},
		most:   heap.Heap[*host]{Less: first, Index: pos},
		unsure: heap.Heap[*host]{Less: probe, Index: pos},
		late:   heap.Heap[*host]{Less: late, Index: func(h *host) *int32 { return &h.tail }},
		closed: heap.Heap[*host]{Less: until, Index: pos},
		paced:  heap.Heap[*host]{Less: rest, Index: pos},
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
	h := &host{name: name, ready: newLineup(), answered: -1, limit: rateLimit{rate: s.fixed}}
	s.known[name] = h
	return h
}

// place puts the host where it belongs after anything about it has changed.
func (b *Backlog) place(h *host) {
	var in *heap.Heap[*host]
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
			in.Fix(h)
		}
		if in == &b.unsure {
			b.late.Fix(h)
		}
		return
	}
	if h.in != nil {
		h.in.Remove(h)
	}
	if h.in == &b.unsure {
		b.late.Remove(h)
	}
	if h.in = in; in != nil {
		in.Push(h)
	}
	if in == &b.unsure {
		b.late.Push(h)
	}
}

// Closed is how many hosts are to be left alone for a while.
func (b *Backlog) Closed() int { return len(b.closed.Items) }

// reopen ends the wait of hosts whose time has come, or whose next turn has, and
// reports whether any did.
func (b *Backlog) reopen(now time.Duration) (some bool) {
	for !b.closed.Empty() && b.closed.First().until <= now {
		h := b.closed.First()
		h.until = 0
		b.place(h)
		some = true
	}
	for !b.paced.Empty() && b.paced.First().rest <= now {
		h := b.paced.First()
		h.rest = 0
		b.place(h)
		some = true
	}
	return some
}

// pick is the host whose next asset starts next, nil where none may. A worker is kept
// from a host that has all others while another host has something to start; hosts
// that may be down have half of the workers at most; a host that brings next to
// nothing comes last. While anything is parked or any host closed the probes go to the
// most and the least urgent host by turns, so that many hosts that bring nothing keep no
// worker from one that does.
func (b *Backlog) pick() *host {
	probe := b.probeNext()
	if probe != nil && (b.parked > 0 || !b.closed.Empty()) {
		if b.byLate = !b.byLate; b.byLate {
			return b.late.First()
		}
	}
	if h := sooner(&b.free, probe); h != nil {
		return h
	}
	if !b.full.Empty() {
		return b.full.First()
	}
	if !b.slow.Empty() {
		return b.slow.First()
	}
	return nil
}

// probeNext is the host that is probed next, nil where none may be.
func (b *Backlog) probeNext() *host {
	if b.unsure.Empty() || b.manyProbes() {
		return nil
	}
	return b.unsure.First()
}

// manyProbes reports whether hosts that may be down have half of the workers.
func (b *Backlog) manyProbes() bool { return b.probes >= b.probesMost() }

func (b *Backlog) probesMost() int { return max(b.workers/2, 1) }

// sooner is the more urgent of a head and a host, nil where there is neither.
func sooner(a *heap.Heap[*host], h *host) *host {
	if !a.Empty() && (h == nil || !urgent(h.head(), a.First().head())) {
		return a.First()
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
	if h.ready[untried].Empty() {
		h.due = 0
	}
	if h.open && h.running == 0 && now-h.answered > lately {
		h.open = false
	}
	h.running++
	h.rest = h.limit.asked(now, false)
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
