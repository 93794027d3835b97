// Package queue is the only truth of assetd: which runs were handed in, where
// each of them and each of their assets stands, and what is due next.
//
// It guarantees that what a method reports as done survives power loss (one
// exception: see Answers), that every method is all or nothing, that no illegal
// transition is recorded, and that every index agrees with the records at every
// commit. What is due next costs the same with ten runs and with a million.
// No query of a URL, and so no token, reaches the file.
//
// The rules are in this package; how records are kept is an engine's business (packages
// kv and boltkv). One goroutine writes: it takes all operations that wait and commits
// them together, so that they share a commit's syncs; each operation succeeds or fails by
// itself. Where the disk is full nothing is lost: the methods fail with kv.ErrFull and
// work again once there is room. Where the outcome of a commit is not known, or the
// records turn out to be damaged, the queue is dead: every method says so from then on,
// and the process has to end; what is true is found at the next Open.
//
// # Outbox
//
// What others are to be told stands in the outbox, written in the transaction in
// which it became true: a run that is settled, an asset that is lost (SetHooks).
//
// # Answers
//
// The last answers of the API, which hold signed URLs, are no records: they are files of
// their own (package answers), removed when their run settles.
//
// It leaves to others what an answer means (poller), when an asset is lost
// (download), and every effect outside of the state directory. All methods are
// safe for concurrent use.
package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// Options say how to open a queue. The zero value is good.
type Options struct {
	Tell     run.Tell         // takes events; nil: nobody does
	Now      func() time.Time // the local clock; nil: time.Now
	ReadOnly bool             // for commands without a daemon: nothing is created or changed

	// For Open alone; see boltkv.Options.
	LockWait    time.Duration
	MaxSize     int64
	CompactFrom int64
	Timed       func(commit, disk time.Duration)
}

// Queue is an open queue.
type Queue struct {
	store   kv.Store
	answers *answers.Store
	options Options
	id      string
	service time.Duration
	hooks   atomic.Uint32 // run.Hooks: who is told of what happens

	ops     chan *operation
	pings   chan struct{}
	closing chan struct{}
	stopped chan struct{} // the writer has ended
	once    sync.Once
	closed  error // of Close

	hangs  deadline // of what the writer is at
	oldest oldest
}

// New returns the queue in a store, which it closes when it is closed, and removes the
// answers that a crash left behind. A store that holds nothing yet becomes a new queue.
func New(store kv.Store, answers *answers.Store, options Options) (*Queue, error) {
	q := &Queue{
		store: store, answers: answers, options: options,
		ops: make(chan *operation), pings: make(chan struct{}),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	err := q.begin()
	if err == nil && !options.ReadOnly {
		err = q.sweepAnswers()
	}
	if err != nil {
		return nil, err
	}
	if options.ReadOnly {
		close(q.stopped)
	} else {
		go q.write()
	}
	return q, nil
}

// begin reads what the queue is, and makes it where the store is empty.
func (q *Queue) begin() error {
	ctx, empty := context.Background(), false
	read := func(t *txn) (err error) {
		key, _ := t.tx.Cursor(bMeta).First()
		if empty = key == nil; empty {
			return nil
		}
		q.id, q.service, err = t.identity()
		return err
	}
	err := q.view(ctx, read)
	if err != nil || !empty {
		return err
	}
	return errors.Join(q.store.Update(ctx, create), q.view(ctx, read))
}

// ID is the queue's own identifier, random, made once: 32 hex digits.
func (q *Queue) ID() string { return q.id }

// Warnings are what Open found that a person should know, for the log.
func (q *Queue) Warnings() []string { return q.store.Warnings() }

// Service is the service clock as it was last saved before Open (SaveService).
func (q *Queue) Service() time.Duration { return q.service }

// Close ends the writer after the commit at hand, lets readers finish and closes the
// store. Operations that still wait fail with kv.ErrClosed. Further calls return what the
// first returned.
func (q *Queue) Close() error {
	q.once.Do(func() {
		close(q.closing)
		<-q.stopped
		q.closed = q.store.Close()
	})
	return q.closed
}

// Err is why the queue is dead: an unknown outcome of a commit, or a *kv.DamageError;
// nil while it is not.
func (q *Queue) Err() error { return q.store.Err() }

// Answer returns all answers of the API about a run, united; false where there is
// none: not yet asked, lost, damaged or settled. The value is shared and must not be
// changed. It holds signed URLs.
func (q *Queue) Answer(id run.ID) (run.Answer, bool, error) { return q.answers.Get(id) }

// Listed returns the part of a run's answer that is about one asset.
func (q *Queue) Listed(key run.Key) (run.Listed, bool, error) { return q.answers.Listed(key) }

// SaveAnswer unites an answer with those before it and writes the result. It is called
// before the Answered that uses the answer. It may not outlive power loss.
func (q *Queue) SaveAnswer(id run.ID, fresh run.Answer) error {
	if q.options.ReadOnly {
		return kv.ErrReadOnly
	}
	err := q.answers.Save(id, fresh)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: answer of run %q: %w", kv.ErrFull, id, err)
	}
	return err
}

// sweepAnswers removes the answers that a crash left behind.
func (q *Queue) sweepAnswers() error {
	return q.view(context.Background(), func(t *txn) error {
		return q.answers.Sweep(func(id run.ID) bool {
			r, err := t.run(id)
			return err == nil && !r.State.Settled()
		})
	})
}

// Watch blocks until ctx ends, and returns nil, or until the queue is dead, and
// returns why: then the process must end, since no method will work again.
func (q *Queue) Watch(ctx context.Context) error {
	select {
	case <-q.store.Failed():
		return q.Err()
	case <-ctx.Done():
		return nil
	}
}

// Alive returns nil as soon as the writer answers, or when ctx ends and what the
// writer is at has not taken so long that it must hang: a disk that is merely slow is
// no fault of the daemon. An error where it hangs, is dead or closed. It writes
// nothing.
func (q *Queue) Alive(ctx context.Context) error {
	if q.options.ReadOnly {
		return q.Err()
	}
	select {
	case q.pings <- struct{}{}:
		return nil
	case <-q.stopped:
		return q.gone()
	case <-ctx.Done():
		if since := q.hangs.passed(); since > 0 {
			return fmt.Errorf("the queue's writer has been at one commit for %v: is the disk of %s alive?", since.Round(time.Second), q.store.Name())
		}
		return nil
	}
}

// gone is why nothing is written or read any more.
func (q *Queue) gone() error {
	if err := q.Err(); err != nil {
		return err
	}
	return kv.ErrClosed
}

// view reads in one transaction, which must be short.
func (q *Queue) view(ctx context.Context, read func(*txn) error) error {
	return q.store.View(ctx, func(tx kv.Tx) error { return read(&txn{tx: tx}) })
}

// Counts are the runs and assets by state.
type Counts struct {
	Runs   map[run.State]int
	Assets map[run.AssetState]int // without those downloading: the queue calls them waiting
}

// Counts returns the numbers of this moment; every state is in the maps.
func (q *Queue) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	err := q.view(ctx, func(t *txn) (err error) {
		c, err = t.tallied()
		return err
	})
	return c, err
}

// tallied is the counts as they are stored.
func (t *txn) tallied() (Counts, error) {
	c := Counts{Runs: make(map[run.State]int), Assets: make(map[run.AssetState]int)}
	if err := t.readCounts(); err != nil {
		return c, err
	}
	for _, s := range runStates() {
		c.Runs[s] = int(*t.counts.run(s))
	}
	for _, s := range assetStates() {
		c.Assets[s] = int(*t.counts.asset(s))
	}
	return c, nil
}

func (q *Queue) tell(e run.Event) {
	if q.options.Tell != nil {
		q.options.Tell(e)
	}
}

func (q *Queue) now() time.Time {
	if q.options.Now != nil {
		return q.options.Now().UTC().Round(0)
	}
	return time.Now().UTC().Round(0)
}
