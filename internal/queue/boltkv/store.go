// Package boltkv keeps a queue in one file, <state.dir>/queue.db, with bbolt.
//
// It is an engine of package kv. What it adds to bbolt: a checksum in every value
// (seal.go), a lock of the directory (lock.go), the refusal of file systems on which
// locks or mappings cannot be trusted (filesystem_linux.go), a check of the file before
// bbolt reads it (inspect.go) and of its contents after that, errors instead of panics
// and faults where the file is damaged, a judgement of commits that failed, a file that
// shrinks (compact.go), and copies and their restoration (backup.go, copies.go,
// restore.go).
//
// What is in the file is the business of whoever opens it, and described by a Format.
package boltkv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// Options say how to open a file. The zero value is good.
type Options struct {
	Tell     run.Tell      // takes events; nil: nobody does
	ReadOnly bool          // nothing is created or changed
	LockWait time.Duration // how long to wait for another's lock; 0: 5 s
	MaxSize  int64         // bytes of the file beyond which kv.ErrFull; 0: no limit
	// Timed takes how long a commit took, and that part of it in which its pages were
	// written and synced; nil: nobody does. It must return quickly.
	Timed func(commit, disk time.Duration)
	// CompactFrom is how many bytes of free pages, being more than half of the file,
	// have it compacted; 0: 64 MiB.
	CompactFrom int64
}

// Store is an open file. It is a kv.Store.
type Store struct {
	dir      string
	path     string
	format   Format
	options  Options
	warnings []string
	failure  *kv.Failure
	lock     *os.File // of dir
	closing  chan struct{}
	once     sync.Once
	closed   error // of Close
	commits  atomic.Int64

	copying sync.Mutex   // held while a copy is made; the file is not compacted then
	writing sync.Mutex   // held by who changes the file
	swap    sync.RWMutex // guards db and file, which compaction replaces
	db      *bolt.DB
	sealed  bool     // its values have checksums
	file    *os.File // bbolt's own, to let go of a file that bbolt cannot close any more

	// Guarded by writing.
	shrinkFrom time.Time // not compacted before
	full       bool      // ErrFull was reported
}

// Warnings are what Open found that a person should know.
func (s *Store) Warnings() []string { return s.warnings }

// Name is the path of the file.
func (s *Store) Name() string { return s.path }

// Err returns why the store has failed; nil while it works.
func (s *Store) Err() error { return s.failure.Err() }

// Failed is closed when the store fails.
func (s *Store) Failed() <-chan struct{} { return s.failure.Failed() }

// fail makes the store fail for the first cause that is given, and returns that. The
// next Open looks at every record of a file that seemed to be damaged.
func (s *Store) fail(cause error) error {
	if s.failure.Set(cause) && errors.As(cause, new(*kv.DamageError)) && !s.options.ReadOnly {
		s.suspect(cause)
	}
	return s.Err()
}

// gone is why nothing is read or written any more.
func (s *Store) gone() error {
	if err := s.Err(); err != nil {
		return err
	}
	return kv.ErrClosed
}

// Close ends a copy that is being made, waits for the transactions at hand and closes
// the file. Further calls return what the first returned.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		s.closed = s.release()
	})
	return s.closed
}

// release lets go of file and lock. A store that failed in the middle of a transaction
// may hold bbolt's locks for ever: then its file is closed without asking bbolt, which
// is what the end of the process would do.
func (s *Store) release() error {
	var err error
	if errors.As(s.Err(), new(*kv.DamageError)) {
		// The mapping stays, and would keep the lock.
		err = errors.Join(unix.Flock(int(s.file.Fd()), unix.LOCK_UN), s.file.Close())
	} else {
		err = s.db.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// Stats returns the figures of this moment.
func (s *Store) Stats(ctx context.Context) (stats kv.Stats, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		stats = kv.Stats{Size: tx.Size(), Free: free(s.db), Commits: s.commits.Load()}
		return nil
	})
	return stats, err
}

// View reads in one transaction. It should be short: bbolt keeps the pages that it sees,
// and the file grows.
func (s *Store) View(ctx context.Context, read func(kv.Tx) error) error {
	return s.view(ctx, func(tx *bolt.Tx) error {
		t := s.tx(tx)
		return t.sound(read(t))
	})
}

func (s *Store) view(ctx context.Context, read func(*bolt.Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return err
	}
	defer s.protect(&err)()
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.judge(s.db.View(read))
}

// protect makes a panic of bbolt, or a fault of the mapped file (a disk error, a file cut
// short), an error and the end of the store, not of the process: to be deferred as
// protect(&err)().
func (s *Store) protect(err *error) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if fault := recover(); fault != nil {
			*err = s.fail(damaged(s.path, fault))
		}
	}
}

// judge makes damage the end of the store, and a closed file kv.ErrClosed.
func (s *Store) judge(err error) error {
	switch {
	case errors.As(err, new(*kv.DamageError)):
		return s.fail(inFile(s.path, err))
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return s.gone()
	}
	return err
}

// errNothing rolls back a transaction that changed nothing: it costs no sync then.
var errNothing = errors.New("nothing changed")

// Update changes the file in one transaction.
func (s *Store) Update(ctx context.Context, change func(kv.Tx) error) (err error) {
	if s.options.ReadOnly {
		return kv.ErrReadOnly
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return err
	}
	defer s.protect(&err)()

	begun, onDisk := time.Now(), diskTime(s.db)
	id, refused := 0, error(nil)
	err = s.db.Update(func(tx *bolt.Tx) error {
		id = tx.ID()
		t := s.tx(tx)
		if refused = t.sound(change(t)); refused == nil && !t.changed {
			refused = errNothing
		}
		return refused
	})
	switch {
	case errors.Is(refused, errNothing):
		return nil
	case refused != nil, errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return s.judge(err)
	case err != nil:
		return s.failed(err, id)
	}
	s.commits.Add(1)
	if s.options.Timed != nil {
		s.options.Timed(time.Since(begun), diskTime(s.db)-onDisk)
	}
	s.full = false
	return nil
}

// diskTime is how long bbolt has been writing and syncing pages since it was opened.
func diskTime(db *bolt.DB) time.Duration {
	stats := db.Stats()
	return stats.TxStats.GetWriteTime()
}

// failed judges a commit that failed. No room is back-pressure, but only where the
// commit certainly left no trace: its number is not the file's.
func (s *Store) failed(err error, id int) error {
	last := id
	_ = s.db.View(func(tx *bolt.Tx) error {
		last = tx.ID()
		return nil
	})
	if !noRoom(err) || last >= id {
		return s.fail(fmt.Errorf("%s: outcome of a commit unknown, start again to see what stands: %w", s.path, err))
	}
	err = fmt.Errorf("%w: %s: %w", kv.ErrFull, s.path, err)
	if !s.full {
		s.full = true
		s.tell(run.Event{
			Kind: run.QueueTrouble, File: s.path, Err: err,
			Hint: "free space there: until then nothing is taken in, and nothing is lost",
		})
	}
	return err
}

// noRoom reports whether an error of bbolt says that the disk, a quota or MaxSize is
// used up. An error from growing the file comes as text alone.
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

func (s *Store) tell(e run.Event) {
	if s.options.Tell != nil {
		s.options.Tell(e)
	}
}
