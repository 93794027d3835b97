package poller

import (
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

const (
	batchSize = 1024        // due runs read ahead at a time
	batchFor  = time.Second // then it is read again, where there are more than the budget has room for
	fairly    = 4           // each such turn is that of the run that is due for the longest time
	lastly    = 16          // each such turn is that of a run of which nothing but 404 is known
)

// batch is what is due, in that order, read ahead at a time. Where the budget has
// no room for all of it, the run comes first whose first URL dies first, as far
// as that can be told; in every fourth turn it is the one that waits for the
// longest time, so that each has its turn. All this is among the runs that had an
// answer: they share the budget with those that had none, which have their turns by
// submission, in the order in which they were read.
type batch struct {
	runs  []ahead
	read  time.Time
	turns int // of all
	heard int // of the runs that had an answer
}

type ahead struct {
	id         run.ID
	class      run.Class
	submission int64
	death      time.Time // of its first URL, usually
}

// old reports whether the batch says nothing of what is due now.
func (b *batch) old(now time.Time) bool {
	return len(b.runs) == 0 || now.Sub(b.read) >= batchFor
}

// preference is the order of the classes in a turn. Every second turn begins with the
// runs that were never asked for, by turns the newest submission and all of them, so
// that each is asked soon whatever else is due; those that were only answered with
// 404 come last in all but a few.
func (b *batch) preference() []run.Class {
	switch {
	case b.turns%lastly == lastly-1:
		return []run.Class{run.Missing, run.Unasked, run.Newest, run.Heard, run.Unheard}
	case b.turns%4 == 1:
		return []run.Class{run.Newest, run.Unasked, run.Heard, run.Unheard, run.Missing}
	case b.turns%4 == 3:
		return []run.Class{run.Unasked, run.Newest, run.Heard, run.Unheard, run.Missing}
	case b.turns%8 == 6:
		return []run.Class{run.Unheard, run.Heard, run.Unasked, run.Newest, run.Missing}
	}
	return []run.Class{run.Heard, run.Unasked, run.Newest, run.Unheard, run.Missing}
}

// first is the run to ask first; empty: none. It stays in the batch until it is
// removed, which may be much later.
func (b *batch) first() run.ID {
	for _, class := range b.preference() {
		if id := b.firstOf(class); id != "" {
			return id
		}
	}
	return ""
}

func (b *batch) firstOf(class run.Class) run.ID {
	var first *ahead
	for i := range b.runs {
		a := &b.runs[i]
		if a.class != class || first != nil && !a.death.Before(first.death) {
			continue
		}
		if first = a; class != run.Heard || b.heard%fairly == fairly-1 {
			break
		}
	}
	if first == nil {
		return ""
	}
	return first.id
}

// remove takes a run out that has its turn.
func (b *batch) remove(id run.ID) (ahead, bool) {
	i := slices.IndexFunc(b.runs, func(a ahead) bool { return a.id == id })
	if i < 0 {
		return ahead{}, false
	}
	a := b.runs[i]
	b.runs = slices.Delete(b.runs, i, i+1)
	if b.turns++; a.class == run.Heard {
		b.heard++
	}
	return a, true
}
