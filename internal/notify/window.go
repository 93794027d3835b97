package notify

import (
	"container/heap"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// entry is what is in memory of a notice on its way to one hook; the rest is read from
// the queue when it is sent.
type entry struct {
	seq   uint64
	kind  run.NoticeKind
	at    time.Time
	run   run.ID
	asset run.Key

	lane run.ID // notices of one lane are sent in order; empty: it waits for none, and none for it

	tries    int       // that failed
	next     time.Time // not before
	own      bool      // its last try failed for a reason of its own
	suspect  bool      // it failed while the hook took others
	failedAt uint64    // health.answers at its last failure; 0: none
	began    time.Time // of the try under way; zero: none is
	taken    bool      // by the hook; the queue does not know yet

	in    *order // where it waits; nil: nowhere
	index int    // in it
}

// refused reports whether the failure is the notice's rather than the hook's.
func (e *entry) refused() bool { return e.own || e.suspect }

// order is entries by when they may be sent, and among equals by place (heap.Interface).
type order []*entry

// Len is the number of entries.
func (o *order) Len() int { return len(*o) }

// Less reports whether i comes before j.
func (o *order) Less(i, j int) bool {
	a, b := (*o)[i], (*o)[j]
	if a.next.Equal(b.next) {
		return a.seq < b.seq
	}
	return a.next.Before(b.next)
}

// Swap exchanges two entries.
func (o *order) Swap(i, j int) {
	(*o)[i], (*o)[j] = (*o)[j], (*o)[i]
	(*o)[i].index, (*o)[j].index = i, j
}

// Push appends an entry.
func (o *order) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // heap gives what it was given
	e.in, e.index = o, len(*o)
	*o = append(*o, e)
}

// Pop removes the last entry.
func (o *order) Pop() any {
	last := len(*o) - 1
	e := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	e.in = nil
	return e
}

// first is the entry that comes first; nil where there is none.
func (o *order) first() *entry {
	if o == nil || len(*o) == 0 {
		return nil
	}
	return (*o)[0]
}

// window is the notices that a hook was not told and that were read, by place. Those that
// can be sent are the first of their lanes; they wait in one of three orders.
type window struct {
	all     map[uint64]*entry
	lanes   map[run.ID][]*entry
	untried map[run.NoticeKind]*order
	failed  order // failed because of the hook
	refused order // failed because of themselves
	fresh   int   // entries in untried

	read    uint64 // the place up to which the outbox was read
	drained bool   // nothing more stood there
}

func newWindow() window {
	return window{all: map[uint64]*entry{}, lanes: map[run.ID][]*entry{}, untried: map[run.NoticeKind]*order{}}
}

func (w *window) add(found []run.Notice) {
	for _, n := range found {
		w.read = n.Seq
		e := &entry{seq: n.Seq, kind: n.Kind, at: n.At, run: n.Run, lane: n.Lane()}
		if n.Kind == run.LostAsset {
			e.asset = n.Asset
		}
		w.all[e.seq] = e
		w.lanes[e.lane] = append(w.lanes[e.lane], e)
		w.wait(e)
	}
}

// wait puts an entry that can be sent where it waits for that.
func (w *window) wait(e *entry) {
	if e.lane != "" && w.lanes[e.lane][0] != e || !e.began.IsZero() || e.in != nil {
		return
	}
	switch {
	case e.refused():
		heap.Push(&w.refused, e)
	case e.tries > 0 || e.taken:
		heap.Push(&w.failed, e)
	default:
		if w.untried[e.kind] == nil {
			w.untried[e.kind] = &order{}
		}
		heap.Push(w.untried[e.kind], e)
		w.fresh++
	}
}

// take takes an entry from where it waits.
func (w *window) take(e *entry) {
	if e.in == nil {
		return
	}
	if e.in != &w.failed && e.in != &w.refused {
		w.fresh--
	}
	heap.Remove(e.in, e.index)
}

// leave takes an entry out of its lane; whoever comes next there may go on.
func (w *window) leave(e *entry) {
	line := w.lanes[e.lane]
	i := slices.Index(line, e)
	if i < 0 {
		return
	}
	line = slices.Delete(line, i, i+1)
	w.lanes[e.lane] = line
	switch {
	case len(line) == 0:
		delete(w.lanes, e.lane)
	case i == 0:
		w.wait(line[0])
	}
	e.lane = ""
}

// remove forgets an entry.
func (w *window) remove(e *entry) {
	w.take(e)
	delete(w.all, e.seq)
	w.leave(e)
}

// again makes due at once what failed because of the hook; with all set also what was
// refused, and as if none had failed.
func (w *window) again(all bool) {
	for _, e := range w.entries() {
		if !all && e.own || e.tries == 0 || e.began.IsZero() && e.taken {
			continue
		}
		w.take(e)
		e.next = time.Time{}.Add(1) // after what was never tried
		if all {
			e.own, e.suspect, e.failedAt = false, false, 0
		}
		if !e.refused() {
			e.tries = 0
		}
		w.wait(e)
	}
}

// hurry makes due at once all that was refused.
func (w *window) hurry() {
	for _, e := range w.refused {
		e.next = time.Time{}
	}
	heap.Init(&w.refused)
}

// entries are all, by place.
func (w *window) entries() []*entry {
	all := make([]*entry, 0, len(w.all))
	for _, e := range w.all {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return all
}
