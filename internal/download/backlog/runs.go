package backlog

import (
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// group is a run with assets in the backlog.
type group struct {
	id       run.ID
	app      string
	handedIn int64         // Unix ms
	ended    time.Duration // on the service clock; -1: it has not
	items    []*item
	index    map[name]int // place in items, once there are many
	pos      int32        // in the heap of ended runs
}

// name names an asset within its run.
type name struct {
	kind run.Kind
	id   string
}

// From so many assets on a run has an index; below, looking through is as fast.
const indexed = 32

// group is the run's group, made where there is none yet.
func (b *Backlog) group(id run.ID, r Run) *group {
	g := b.runs[id]
	if g == nil {
		g = &group{id: id, handedIn: r.HandedIn.UnixMilli(), ended: -1}
		b.runs[id] = g
		b.update(g, r)
	}
	return g
}

func (b *Backlog) update(g *group, r Run) {
	if r.App != "" {
		g.app = r.App
	}
	ended := time.Duration(-1)
	if r.Ended {
		ended = max(r.EndedAt, 0)
	}
	if g.ended == ended {
		return
	}
	if g.ended >= 0 {
		b.ended.Remove(g)
	}
	if g.ended = ended; ended >= 0 {
		b.ended.Push(g)
	}
}

func (b *Backlog) find(k run.Key) *item {
	if g := b.runs[k.Run]; g != nil {
		return g.find(k)
	}
	return nil
}

func (g *group) find(k run.Key) *item {
	if g.index != nil {
		if i, ok := g.index[name{k.Kind, k.ID}]; ok {
			return g.items[i]
		}
		return nil
	}
	for _, it := range g.items {
		if it.id == k.ID && it.kind == k.Kind {
			return it
		}
	}
	return nil
}

func (g *group) add(it *item) {
	g.items = append(g.items, it)
	switch {
	case g.index != nil:
		g.index[name{it.kind, it.id}] = len(g.items) - 1
	case len(g.items) > indexed:
		g.index = make(map[name]int, 2*len(g.items))
		for i, it := range g.items {
			g.index[name{it.kind, it.id}] = i
		}
	}
}

// take takes the item out; the last one gets its place.
func (g *group) take(it *item) {
	i, last := slices.Index(g.items, it), len(g.items)-1
	if g.index != nil {
		i = g.index[name{it.kind, it.id}]
		delete(g.index, name{it.kind, it.id})
	}
	if moved := g.items[last]; i < last {
		g.items[i] = moved
		if g.index != nil {
			g.index[name{moved.kind, moved.id}] = i
		}
	}
	g.items[last] = nil
	g.items = g.items[:last]
}

// Ended is when the run that ended first of those with assets here did, on the
// service clock.
func (b *Backlog) Ended() (at time.Duration, ok bool) {
	if b.ended.Empty() {
		return 0, false
	}
	return b.ended.First().ended, true
}

// Overdue takes up to max assets whose runs ended at limit or before, whatever
// they wait for, but for those already in somebody's hands.
func (b *Backlog) Overdue(limit time.Duration, max int) []*Ticket {
	var late []*group
	var found []*Ticket
	for !b.ended.Empty() && b.ended.First().ended <= limit && len(found) < max {
		g := b.ended.Pop()
		late = append(late, g)
		for _, it := range g.items {
			if it.state == taken || len(found) == max {
				continue
			}
			b.detach(it)
			it.state = taken
			found = append(found, &Ticket{item: it})
		}
	}
	for _, g := range late {
		b.ended.Push(g)
	}
	return found
}

// Keys calls do with every asset in the backlog.
func (b *Backlog) Keys(do func(run.Key)) {
	for _, g := range b.runs {
		for _, it := range g.items {
			do(it.key())
		}
	}
}

// First has Next start an asset that was taken by Overdue before all others, and
// however its host stands: one last time.
func (b *Backlog) First(t *Ticket) { b.first = append(b.first, t) }

// NextFirst takes an asset that First has put before all others. False: there is
// none.
func (b *Backlog) NextFirst(now time.Duration) (*Ticket, bool) {
	if len(b.first) == 0 {
		return nil, false
	}
	t := b.first[0]
	b.first = b.first[1:]
	b.start(t, now)
	return t, true
}
