package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/assetd/assetd/internal/run"
)

// One commit takes at most so many operations, and ends its collecting once it
// has work for so many records: bounds of its time and memory.
const (
	maxBatch  = 1024
	maxWeight = 10_000
)

// operation is a change that waits for its commit.
type operation struct {
	do     func(*txn) error
	weight int // records it touches, roughly
	err    error
	done   chan struct{}
}

// update has the writer run an operation and returns once it is durable, or
// refused. When ctx ends before the writer took it, it was not run; once taken,
// its end is awaited, so that an error always means that nothing was changed,
// or that the queue is dead. What do sets outside of itself counts only where
// update returns nil.
func (q *Queue) update(ctx context.Context, weight int, do func(*txn) error) error {
	if q.options.ReadOnly {
		return ErrReadOnly
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

// write is the writer: the one goroutine that changes the file.
func (q *Queue) write() {
	defer close(q.stopped)
	debug.SetPanicOnFault(true)
	look := time.NewTicker(compactEvery)
	defer look.Stop()
	for q.Err() == nil {
		q.hangs.clear()
		select {
		case <-q.closing:
			return
		case <-q.dead: // a reader found damage
			return
		case <-q.pings:
		case <-look.C:
			q.hangs.set(shrinkHangs)
			q.shrink()
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

// commit runs a batch in one transaction and tells each caller.
func (q *Queue) commit(batch []*operation) {
	err := q.apply(batch)
	for _, o := range batch {
		if err != nil { // also of those refused: what they were refused for may not stand
			o.err = err
		}
		close(o.done)
	}
}

// errNothing rolls a transaction back that changed nothing: without a commit
// what is already known costs no sync.
var errNothing = errors.New("nothing changed")

func (q *Queue) apply(batch []*operation) (err error) {
	id := 0
	defer func() {
		if fault := recover(); fault != nil {
			err = q.die(damaged(q.Path(), fault))
		}
	}()
	begun, onDisk := time.Now(), diskTime(q.db)
	err = q.db.Update(func(tx *bolt.Tx) error {
		id = tx.ID()
		t := q.txn(tx)
		if err := t.sound(t.readCounts()); err != nil {
			return q.judge(err)
		}
		for _, o := range batch {
			if o.err = q.judge(t.sound(t.do(o.do))); q.Err() != nil {
				return q.Err()
			}
		}
		if !t.dirty {
			return errNothing
		}
		return t.writeCounts()
	})
	switch {
	case errors.Is(err, errNothing):
		return nil
	case err == nil:
		q.commits.Add(1)
		if q.options.Timed != nil {
			q.options.Timed(time.Since(begun), diskTime(q.db)-onDisk)
		}
		q.lastCommit.Store(q.now().UnixMilli())
		q.full = false
		return nil
	case q.Err() != nil:
		return err
	}
	return q.failed(err, id)
}

// diskTime is how long bbolt has been writing and syncing pages since it was opened.
func diskTime(db *bolt.DB) time.Duration {
	s := db.Stats()
	return s.TxStats.GetWriteTime()
}

// failed judges a commit that failed. No room is back-pressure, but only where
// the commit certainly left no trace: its number is not the file's.
func (q *Queue) failed(err error, id int) error {
	standing := id
	_ = q.db.View(func(tx *bolt.Tx) error {
		standing = tx.ID()
		return nil
	})
	if !noRoom(err) || standing >= id {
		return q.die(fmt.Errorf("%s: outcome of a commit unknown, start again to see what stands: %w", q.Path(), err))
	}
	err = fmt.Errorf("%w: %s: %w", ErrFull, q.Path(), err)
	if !q.full {
		q.full = true
		q.tell(run.Event{
			Kind: run.QueueTrouble, File: q.Path(), Err: err,
			Hint: "free space there: until then nothing is taken in, and nothing is lost",
		})
	}
	return err
}

// noRoom reports whether an error of bbolt says that the disk, a quota or
// MaxSize is used up. An error from growing the file comes as text alone.
func noRoom(err error) bool {
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return true
	}
	for _, no := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, no) || strings.HasSuffix(err.Error(), ": "+no.Error()) {
			return true
		}
	}
	return false
}
