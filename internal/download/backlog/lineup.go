package backlog

import (
	"slices"

	"github.com/assetd/assetd/internal/download/heap"
)

// turn is an asset's place among the ready ones of its host while that is throttled:
// the lower is probed first.
type turn uint8

const (
	untried turn = iota // no request was made for it
	tried               // one was
	refused             // the host failed it since it was throttled, the first one first
	suspect             // it failed while others of its host were answered: it says nothing of the host
	turns
)

// lineup is the ready assets of a host, by turn, each by urgency but for refused.
type lineup [turns]heap.Heap[*item]

func newLineup() (l lineup) {
	for i := range l {
		l[i] = heap.Heap[*item]{Less: urgent, Index: itemPos}
	}
	l[refused].Less = func(a, b *item) bool { return a.failed < b.failed || a.failed == b.failed && urgent(a, b) }
	return l
}

func (l *lineup) empty() bool {
	for i := range l {
		if !l[i].Empty() {
			return false
		}
	}
	return true
}

// probe is the one with the first turn; there must be one.
func (l *lineup) probe() *item {
	for i := range l {
		if !l[i].Empty() {
			return l[i].First()
		}
	}
	return nil
}

// urgent is the most urgent one, of suspects only if there is no other or they may
// come; there must be one, and none that was refused.
func (l *lineup) urgent(noSuspect bool) (first *item) {
	for i := range l {
		if l[i].Empty() || noSuspect && turn(i) == suspect && first != nil {
			continue
		}
		if first == nil || urgent(l[i].First(), first) {
			first = l[i].First()
		}
	}
	return first
}

func (l *lineup) push(it *item)   { l[it.turn].Push(it) }
func (l *lineup) remove(it *item) { l[it.turn].Remove(it) }

// unrefused is how many there are that may be probed before those that were refused.
func (l *lineup) unrefused() int { return len(l[untried].Items) + len(l[tried].Items) }

// forgive takes those that were refused for tried ones.
func (l *lineup) forgive() {
	for _, it := range l[refused].Items {
		it.turn = tried
		l[tried].Push(it)
	}
	l[refused].Items = nil
}

// byUrgency is the lineup as heaps that are read by urgency and not changed.
func (l *lineup) byUrgency(to []*heap.Heap[*item]) []*heap.Heap[*item] {
	for i := range l {
		switch {
		case l[i].Empty():
		case turn(i) == refused:
			to = append(to, &heap.Heap[*item]{Items: slices.SortedFunc(slices.Values(l[i].Items), compare)})
		default:
			to = append(to, &l[i])
		}
	}
	return to
}
