package triage

import (
	"cmp"
	"slices"

	"github.com/assetd/assetd/internal/download/heap"
)

// How much of the rate the plain order may take to be believed in; less once it
// was not, so that a small change does not change the mind.
const (
	believed      = 0.9
	believedAgain = 0.75
)

// plain reports whether earliest deadline first with all workers finishes all
// before their expiry, and how many seconds the tightest has to spare.
func (p *problem) plain() (spare float64, ok bool) {
	if p.holding() {
		return 0, false
	}
	part := p.believed()
	order := p.deadlineOrder()
	spare, ok = p.share(order, p.rate*part)
	for _, s := range p.servers {
		if !ok {
			break
		}
		if s.slow {
			var least float64
			least, ok = p.share(only(order, s), s.rate*part)
			spare = min(spare, least)
		}
	}
	return spare, ok
}

func (p *problem) believed() float64 {
	if p.w.Scarce {
		return believedAgain
	}
	return believed
}

func (p *problem) holding() bool {
	return slices.ContainsFunc(p.w.Assets, func(a Asset) bool { return a.State == Held })
}

// ample reports whether any order would do, at the pace of the slowest server.
func (p *problem) ample() (spare float64, ok bool) {
	var bytes, wait float64
	rate, first := p.rate, forever
	for _, s := range p.servers {
		rate = min(rate, s.conn)
		wait = max(wait, s.latency)
	}
	for i := range p.w.Assets {
		a := &p.w.Assets[i]
		left := p.left(a)
		if a.State == Waiting && left <= 0 {
			continue
		}
		bytes += size(a.Bytes) + size(a.Spread)
		if left > 0 && !a.Unknown {
			first = min(first, left)
		}
	}
	spare = first - bytes/(rate*p.believed()) - wait*float64(len(p.w.Assets))/float64(p.workers)
	return spare, spare >= 0 && !p.holding()
}

// deadlineOrder is the order in which workers take what waits; what runs has been
// taken.
func (p *problem) deadlineOrder() []*job {
	order := slices.Concat(p.timed, p.free)
	slices.SortStableFunc(order, func(a, b *job) int {
		switch {
		case a.open != b.open && a.open:
			return -1
		case a.open != b.open:
			return 1
		}
		return cmp.Compare(a.near.Deadline, b.near.Deadline)
	})
	return order
}

func only(jobs []*job, s *server) (its []*job) {
	for _, j := range jobs {
		if j.server == s {
			its = append(its, j)
		}
	}
	return its
}

// share lets workers take jobs in their order and share the rate evenly, and
// reports whether all end in time. Everyone who works gets the same, so that what
// each has got since the start is one number, and who ends next is who needs the
// least more of it.
func (p *problem) share(order []*job, rate float64) (spare float64, ok bool) {
	var now, got, variance float64
	spare = forever
	busy := heap.Heap[*job]{Less: func(a, b *job) bool { return a.end < b.end }, Index: func(j *job) *int32 { return &j.pos }}
	for len(order) > 0 || !busy.Empty() {
		for len(order) > 0 && len(busy.Items) < p.workers {
			j := order[0]
			order = order[1:]
			j.begin, j.end = now, got+j.bytes
			busy.Push(j)
		}
		workers := float64(len(busy.Items))
		j := busy.Pop()
		now += (j.end - got) * workers / rate
		got = j.end
		variance += j.spread * j.spread
		end := max(now, j.begin+j.bytes/j.server.conn) + j.server.latency
		if spare = min(spare, j.left-end-root(variance)/rate); spare < 0 {
			return spare, false
		}
	}
	return spare, true
}
