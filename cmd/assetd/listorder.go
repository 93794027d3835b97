package main

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/assetd/assetd/internal/server"
)

// The orders of a list.
const (
	orderID       = "id"
	orderHandedIn = "handed-in"
	orderExpiry   = "dies"
	orderState    = "state"
	orderSize     = "size"
	orderLost     = "lost"
)

func orders() []string {
	return []string{orderID, orderHandedIn, orderExpiry, orderState, orderSize, orderLost}
}

// compareBy compares runs: what a person asks for first comes first, so the
// largest size and the most losses do. Equal ones are in the order of their IDs.
func compareBy(order string) func(a, b server.Run) int {
	var by func(a, b server.Run) int
	switch order {
	case orderHandedIn:
		by = func(a, b server.Run) int { return a.HandedIn.Compare(b.HandedIn) }
	case orderExpiry:
		by = expiringFirst
	case orderState:
		by = func(a, b server.Run) int {
			return cmp.Compare(slices.Index(states(), string(a.State)), slices.Index(states(), string(b.State)))
		}
	case orderSize:
		by = func(a, b server.Run) int { return cmp.Compare(b.Bytes, a.Bytes) }
	case orderLost:
		by = func(a, b server.Run) int { return cmp.Compare(b.Lost, a.Lost) }
	default:
		by = func(server.Run, server.Run) int { return 0 }
	}
	return func(a, b server.Run) int { return cmp.Or(by(a, b), cmp.Compare(a.RunID, b.RunID)) }
}

// expiringFirst compares by when the first URL expires; runs without one come last.
func expiringFirst(a, b server.Run) int {
	switch {
	case a.DiesAt == nil && b.DiesAt == nil:
		return 0
	case a.DiesAt == nil:
		return 1
	case b.DiesAt == nil:
		return -1
	}
	return a.DiesAt.Compare(*b.DiesAt)
}

// top gathers runs and keeps the first ones of an order: of a million no more than
// were asked for. It is a heap with the last of those kept on top.
type top struct {
	runs    []server.Run
	limit   int // 0: all
	compare func(a, b server.Run) int
}

func newTop(order string, reverse bool, limit int) *top {
	compare := compareBy(order)
	if reverse {
		forward := compare
		compare = func(a, b server.Run) int { return forward(b, a) }
	}
	return &top{limit: limit, compare: compare}
}

func (t *top) add(r server.Run) {
	switch {
	case t.limit == 0:
		t.runs = append(t.runs, r)
	case len(t.runs) < t.limit:
		heap.Push(t, r)
	case t.compare(r, t.runs[0]) < 0:
		t.runs[0] = r
		heap.Fix(t, 0)
	}
}

func (t *top) sorted() []server.Run {
	slices.SortFunc(t.runs, t.compare)
	return t.runs
}

// The methods of heap.Interface.

func (t *top) Len() int           { return len(t.runs) }
func (t *top) Less(i, j int) bool { return t.compare(t.runs[i], t.runs[j]) > 0 }
func (t *top) Swap(i, j int)      { t.runs[i], t.runs[j] = t.runs[j], t.runs[i] }
func (t *top) Push(x any)         { t.runs = append(t.runs, x.(server.Run)) }

// Pop is there for heap.Interface: nothing is ever taken out.
func (t *top) Pop() any {
	last := t.runs[len(t.runs)-1]
	t.runs = t.runs[:len(t.runs)-1]
	return last
}
