package notify

import (
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// entry is a notice on its way to one hook.
type entry struct {
	run.Notice
	lanes   []run.ID
	tries   int       // that failed
	next    time.Time // not before
	sending bool
	taken   bool // by the hook; the queue does not know yet
}

// window is the first notices that a hook was not told, by place: all that is in
// memory of them.
type window struct {
	entries []*entry
	read    uint64 // the place up to which the outbox was read
	drained bool   // nothing more stood there
}

func (w *window) add(found []run.Notice) {
	for _, n := range found {
		w.read = n.Seq
		w.entries = append(w.entries, &entry{Notice: n, lanes: n.Lanes()})
	}
}

func (w *window) remove(e *entry) {
	if i := slices.Index(w.entries, e); i >= 0 {
		w.entries = slices.Delete(w.entries, i, i+1)
	}
}

func (w *window) holds(e *entry) bool { return slices.Contains(w.entries, e) }

// again makes all due at once, as if none had failed.
func (w *window) again() {
	for _, e := range w.entries {
		e.tries, e.next = 0, time.Time{}
	}
}

// free is what may be told without getting before an earlier notice of the same
// run, in order.
func (w *window) free(yield func(*entry) bool) {
	busy := make(map[run.ID]bool)
	for _, e := range w.entries {
		blocked := false
		for _, lane := range e.lanes {
			blocked = blocked || busy[lane]
		}
		if !blocked && !e.sending && !yield(e) {
			return
		}
		for _, lane := range e.lanes {
			busy[lane] = true
		}
	}
}

// pick is the first that can be told now, nil where none can. Of a hook that takes
// nothing, one that was not tried yet says more than one that failed before.
func (w *window) pick(now time.Time, fresh bool) (picked *entry) {
	for e := range w.free {
		switch {
		case now.Before(e.next):
		case !fresh || e.tries == 0:
			return e
		case picked == nil:
			picked = e
		}
	}
	return picked
}

// due is when the first can be told; zero where there is none.
func (w *window) due() (first time.Time, any bool) {
	for e := range w.free {
		if !any || e.next.Before(first) {
			first, any = e.next, true
		}
	}
	return first, any
}
