package backlog

import (
	"time"

	"github.com/assetd/assetd/internal/download/heap"
	"github.com/assetd/assetd/internal/run"
)

// Candidate is an asset that may start now, or one that was started.
type Candidate struct {
	Key      run.Key
	App      string // of its run; empty: not known
	Host     string
	Deadline time.Time
	Expiry   time.Time // zero: not known
	Open     bool      // its host answers
}

func (it *item) candidate() Candidate {
	c := Candidate{Key: it.key(), App: it.run.app, Host: it.host.name, Deadline: time.UnixMilli(it.deadline), Open: it.host.open}
	if it.expiry != 0 {
		c.Expiry = time.UnixMilli(it.expiry)
	}
	return c
}

// Candidate is the ticket's asset.
func (t *Ticket) Candidate() Candidate { return t.item.candidate() }

// Nearest is up to n assets that may start now, as of the last Promote, the most urgent
// first, without regard to how many workers a host may have, and to its pace. It changes
// nothing, and costs O(n log n), however many wait.
func (b *Backlog) Nearest(n int) []Candidate {
	var heaps []*heap.Heap[*item]
	for _, hosts := range []*heap.Heap[*host]{&b.free, &b.full, &b.slow, &b.most, &b.unsure, &b.paced} {
		for _, h := range hosts.Items {
			heaps = h.ready.byUrgency(heaps)
		}
	}
	return nearest(heaps, n)
}

// Blocked is up to n assets each that cannot start: because their hosts are to be
// left alone, and because there is no room for them; the most urgent first.
func (b *Backlog) Blocked(n int) (byHost, byRoom []Candidate) {
	var heaps []*heap.Heap[*item]
	for _, h := range b.closed.Items {
		heaps = h.ready.byUrgency(heaps)
	}
	return nearest(heaps, n), nearest([]*heap.Heap[*item]{&b.blocked}, n)
}

// Delayed is those of the first n assets that wait for their time which expire before
// that moment; in no order.
func (b *Backlog) Delayed(n int, before time.Time) (some []Candidate) {
	for _, it := range b.later.Items[:min(n, len(b.later.Items))] {
		if it.expiry != 0 && it.expiry < before.UnixMilli() {
			some = append(some, it.candidate())
		}
	}
	return some
}

// cursor stands at an element of a heap whose elements before it have been read.
type cursor struct {
	in  *heap.Heap[*item]
	at  int
	pos int32
}

// nearest reads the first n items of several heaps, in order, without changing
// them: the next one is at the top of a heap or below one that was read.
func nearest(heaps []*heap.Heap[*item], n int) (near []Candidate) {
	front := heap.Heap[*cursor]{
		Less:  func(a, b *cursor) bool { return urgent(a.in.Items[a.at], b.in.Items[b.at]) },
		Index: func(c *cursor) *int32 { return &c.pos },
	}
	for _, h := range heaps {
		if !h.Empty() {
			front.Push(&cursor{in: h})
		}
	}
	for len(near) < n && !front.Empty() {
		c := front.Pop()
		near = append(near, c.in.Items[c.at].candidate())
		for child := 2*c.at + 1; child <= 2*c.at+2 && child < len(c.in.Items); child++ {
			front.Push(&cursor{in: c.in, at: child})
		}
	}
	return near
}

// Take takes that asset, if it may start now; where its host is throttled and has
// others that are to be probed before it, the first of these. False: it waits for
// something, is taken or unknown, its host is not to be asked, or hosts that may be down as this one have half of the workers,
// those that are parked included: no time is left to go through them.
func (b *Backlog) Take(key run.Key, now time.Duration) (*Ticket, bool) {
	it := b.find(key)
	if it == nil || it.state != ready || it.host.in == nil || it.host.in == &b.closed || it.host.in == &b.paced {
		return nil, false
	}
	if it.host.in == &b.unsure && b.probes+b.parked >= b.probesMost() && (!b.free.Empty() || !b.full.Empty()) {
		return nil, false
	}
	if first := it.host.head(); it.host.throttled() && first.turn < it.turn {
		it = first
	}
	b.detach(it)
	it.state = taken
	t := &Ticket{item: it}
	b.start(t, now)
	return t, true
}
