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
)

// batch is what is due, in that order, read ahead at a time. Where the budget has
// no room for all of it, the run comes first whose first URL dies first, as far
// as that can be told; in every fourth turn it is the one that waits for the
// longest time, so that each has its turn.
type batch struct {
	runs  []ahead
	read  time.Time
	turns int
}

type ahead struct {
	id    run.ID
	death time.Time // of its first URL, usually
}

// old reports whether the batch says nothing of what is due now.
func (b *batch) old(now time.Time) bool {
	return len(b.runs) == 0 || now.Sub(b.read) >= batchFor
}

// first is the run to ask first; empty: none. It stays in the batch until it is
// removed, which may be much later.
func (b *batch) first() run.ID {
	if len(b.runs) == 0 {
		return ""
	}
	if b.turns%fairly == fairly-1 {
		return b.runs[0].id
	}
	return slices.MinFunc(b.runs, func(x, y ahead) int { return x.death.Compare(y.death) }).id
}

// remove takes a run out that has had its turn.
func (b *batch) remove(id run.ID) {
	if i := slices.IndexFunc(b.runs, func(a ahead) bool { return a.id == id }); i >= 0 {
		b.runs = slices.Delete(b.runs, i, i+1)
		b.turns++
	}
}
