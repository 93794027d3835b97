package queue

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
)

// One commit takes at most so many operations, and ends its collecting once it has work
// for so many records: bounds of its time and memory.
const (
	maxBatch  = 1024
	maxWeight = 10_000
)

// maintainEvery is how often the engine may do what it wants done between two commits.
const maintainEvery = time.Minute

// operation is a change that waits for its commit.
type operation struct {
	do     func(*txn) error
	weight int // records it touches, roughly
	err    error
	done   chan struct{}
}

// update has the writer run an operation and returns once it is durable, or refused.
// When ctx ends before the writer took it, it was not run; once taken, its end is
// awaited, so that an error always means that nothing was changed, or that the store has
// failed. What do sets outside of itself counts only where update returns nil.
func (q *Queue) update(ctx context.Context, weight int, do func(*txn) error) error {
	if q.options.ReadOnly {
		return kv.ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &operation{do: do, weight: weight, done: make(chan struct{})}
	select {
	case q.ops <- o:
		<-o.done
		return o.err
	case <-q.stopped:
		return q.gone()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writer: the one goroutine that changes the store.
func (q *Queue) write() {
	defer close(q.stopped)
	maintain := time.NewTicker(maintainEvery)
	defer maintain.Stop()
	for q.Err() == nil {
		q.hangs.clear()
		select {
		case <-q.closing:
			return
		case <-q.store.Failed(): // a reader found damage
			return
		case <-q.pings:
		case <-maintain.C:
			q.hangs.set(maintainHangs)
			q.store.Maintain()
		case o := <-q.ops:
			q.hangs.set(commitHangs)
			q.commit(q.gather(o))
		}
	}
}

// gather takes what else waits for a commit.
func (q *Queue) gather(first *operation) []*operation {
	batch, weight := []*operation{first}, first.weight
	runtime.Gosched() // those whom the last commit woke come with the next one
	for len(batch) < maxBatch && weight < maxWeight {
		select {
		case o := <-q.ops:
			batch, weight = append(batch, o), weight+o.weight
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction and answers each caller. An operation that is
// refused is taken back alone; damage that one comes across refuses all.
func (q *Queue) commit(batch []*operation) {
	err := q.store.Update(context.Background(), func(tx kv.Tx) error {
		t := &txn{tx: tx}
		if err := t.readCounts(); err != nil {
			return err
		}
		for _, o := range batch {
			if o.err = t.do(o.do); errors.As(o.err, new(*kv.DamageError)) {
				return o.err
			}
		}
		return t.writeCounts()
	})
	for _, o := range batch {
		if err != nil { // also of those refused: what they were refused for may not stand
			o.err = err
		}
		close(o.done)
	}
}
