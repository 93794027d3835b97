// Package queue is the only truth of assetd: which runs were handed in, where
// each of them and each of their assets stands, and what is due next.
//
// It guarantees that what a method reports as done survives power loss (one
// exception: see Answers), that every method is all or nothing, that no illegal
// transition is recorded, and that every index agrees with the records at every
// commit. What is due next costs the same with ten runs and with a million.
// No query of a URL, and so no token, reaches the file.
//
// One file holds it, <state.dir>/queue.db, kept by bbolt. One goroutine writes:
// it takes all operations that wait and commits them together, so that a commit's
// two syncs are shared; each operation succeeds or fails by itself. Where the
// disk is full nothing is lost: the methods fail with ErrFull and work again once
// there is room. Where the outcome of a commit is not known, or the file turns
// out to be damaged, the queue is dead: every method says so from then on, and
// the process has to end; what is true is found at the next Open.
//
// # Outbox
//
// What others are to be told stands in the outbox, written in the transaction in
// which it became true: a run that is settled, an asset that is lost (SetHooks).
//
// # Answers
//
// The last answers of the API, which hold signed URLs, are kept outside of that file
// (package answers) and removed when their run settles.
//
// It leaves to others what an answer means (poller), when an asset is lost
// (download), and every effect outside of the state directory. All methods are
// safe for concurrent use.
package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/run"
)

// Errors of the queue itself; those about one run or asset are run's.
var (
	ErrLocked   = errors.New("another assetd runs on this state directory")
	ErrFull     = errors.New("no room for the queue") // nothing was changed; try again later
	ErrClosed   = errors.New("the queue is closed")
	ErrReadOnly = errors.New("the queue is open for reading only")
)

// Options say how to open a queue. The zero value is good.
type Options struct {
	Tell     run.Tell         // takes events; nil: nobody does
	Now      func() time.Time // the local clock; nil: time.Now
	ReadOnly bool             // for commands beside no daemon: nothing is created or changed
	LockWait time.Duration    // how long to wait for another's lock; 0: 5 s
	Timed    Timed            // takes what commits take; nil: nobody does
	MaxSize  int64            // bytes of queue.db beyond which ErrFull; 0: no limit
	// CompactFrom is how many bytes of free pages, being more than half of the file,
	// have it made anew without them; 0: 64 MiB.
	CompactFrom int64
}

// Timed takes how long a commit took, and that part of it in which its pages were
// written and synced. It must return quickly.
type Timed func(commit, disk time.Duration)

// Queue is an open queue.
type Queue struct {
	dir      string
	path     string
	id       string
	fresh    bool
	warnings []string
	service  time.Duration
	options  Options

	copying    sync.Mutex   // held while a copy is made; the file is not made anew then
	swap       sync.RWMutex // guards db and file, which the writer alone replaces
	db         *bolt.DB
	sealed     bool      // its values have checksums
	file       *os.File  // bbolt's own, to let go of a file that bbolt cannot close any more
	shrinkFrom time.Time // the writer's: not before

	lock    *os.File
	answers *answers.Store
	hooks   atomic.Uint32 // run.Hooks: who is told of what happens

	ops     chan *operation
	pings   chan struct{}
	closing chan struct{}
	stopped chan struct{} // the writer has ended
	once    sync.Once
	closed  error // of Close

	dead       chan struct{}
	cause      atomic.Pointer[error] // why it is dead
	commits    atomic.Int64
	lastCommit atomic.Int64 // unix ms
	full       bool         // the writer's: told that there is no room
	hangs      deadline     // of what the writer is at
	oldest     oldest
}

// ID is the queue's own identifier, random, made once: 32 hex digits.
func (q *Queue) ID() string { return q.id }

// Fresh reports whether this Open made the queue.
func (q *Queue) Fresh() bool { return q.fresh }

// Warnings are what Open found that a person should know, for the log.
func (q *Queue) Warnings() []string { return q.warnings }

// Path is the queue's file.
func (q *Queue) Path() string { return q.path }

// Service is the service clock as it was last saved before Open (SaveService).
func (q *Queue) Service() time.Duration { return q.service }

// Close ends the writer after the commit at hand, lets readers finish and
// closes the file. Operations that still wait fail with ErrClosed. Further calls
// return what the first returned.
func (q *Queue) Close() error {
	q.once.Do(func() {
		close(q.closing)
		<-q.stopped
		q.closed = q.release()
	})
	return q.closed
}

// release lets go of file and lock. A queue that died in the middle of a
// transaction may hold bbolt's locks for ever: then its file is closed without
// asking it, which is what the end of the process would do.
func (q *Queue) release() error {
	var err error
	if damage := (*DamageError)(nil); errors.As(q.Err(), &damage) {
		// Its mapping stays, and would keep the lock.
		err = errors.Join(unix.Flock(int(q.file.Fd()), unix.LOCK_UN), q.file.Close())
	} else {
		err = q.db.Close()
	}
	return errors.Join(err, q.lock.Close())
}

// Err is why the queue is dead: an unknown outcome of a commit, or a
// *DamageError; nil while it is not.
func (q *Queue) Err() error {
	if cause := q.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

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
		return ErrReadOnly
	}
	err := q.answers.Save(id, fresh)
	if err != nil && noRoom(err) {
		return fmt.Errorf("%w: answer of run %q: %w", ErrFull, id, err)
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
	case <-q.dead:
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
			return fmt.Errorf("the queue's writer has been at one commit for %v: is the disk of %s alive?", since.Round(time.Second), q.dir)
		}
		return nil
	}
}

// die makes the queue dead for the first cause that is given, and returns that.
func (q *Queue) die(cause error) error {
	if q.cause.CompareAndSwap(nil, &cause) {
		q.suspect(cause)
		close(q.dead)
	}
	return q.Err()
}

// gone is why nothing is written or read any more.
func (q *Queue) gone() error {
	if err := q.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// view reads in one transaction, which must be short: it pins what it sees, and
// the file grows. A fault of the mapped file (a disk error, a file cut short) is
// an error here and not the end of the process.
func (q *Queue) view(ctx context.Context, read func(*txn) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := q.Err(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = q.die(damaged(q.Path(), fault))
		}
	}()
	q.swap.RLock()
	defer q.swap.RUnlock()
	err = q.db.View(func(tx *bolt.Tx) error {
		t := q.txn(tx)
		return t.sound(read(t))
	})
	return q.judge(err)
}

func (q *Queue) txn(tx *bolt.Tx) *txn { return &txn{tx: tx, sealed: q.sealed} }

// judge makes a record that cannot be read the end of the queue, and a closed
// file ErrClosed.
func (q *Queue) judge(err error) error {
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		damage.File = q.Path()
		return q.die(err)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return q.gone()
	}
	return err
}

// Stats are figures about the queue's file.
type Stats struct {
	Size       int64     // bytes of the file in use, free pages among them
	Free       int64     // bytes of free pages
	Commits    int64     // since Open
	LastCommit time.Time // local clock; zero: none since Open
}

// Stats returns the figures of this moment.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Commits: q.commits.Load()}
	if ms := q.lastCommit.Load(); ms != 0 {
		s.LastCommit = at(ms)
	}
	err := q.view(ctx, func(t *txn) error {
		s.Size = t.tx.Size()
		s.Free = free(q.db)
		return nil
	})
	return s, err
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

// tallied is the counts as they stand in the file.
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
