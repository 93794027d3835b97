package boltkv

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// The file never shrinks by itself, and the list of its free pages is written with
// every commit. So it is compacted where free pages are more than half of it and more
// than compactFrom: at Open, and between two commits (Maintain) where that takes so
// little that nobody feels it.
const (
	compactFrom  = 64 << 20
	compactStep  = 16 << 20  // bytes copied in one transaction
	compactLive  = 64 << 20  // bytes to copy, at most, while others wait: about a second
	compactAgain = time.Hour // after it failed
)

// halfPath is where a new file is made. What is there at Open was left by a crash and is
// no queue.
func halfPath(dir string) string { return Path(dir) + ".new" }

func (s *Store) removeHalf() error {
	if err := os.Remove(halfPath(s.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replace puts a file that fill filled in the place of queue.db, atomically and durably.
// The caller holds the directory's lock.
func (s *Store) replace(fill func(*bolt.DB) error) (err error) {
	if err := s.removeHalf(); err != nil {
		return err
	}
	name := halfPath(s.dir)
	defer func() {
		if err != nil {
			_ = os.Remove(name)
		}
	}()
	db, err := bolt.Open(name, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, Timeout: time.Second})
	if err != nil {
		return err
	}
	if err = errors.Join(fill(db), db.Close()); err != nil {
		return err
	}
	return durable.Publish(name, s.path, true)
}

// used and free are the file's pages, in bytes: those that bbolt handed out, and
// those of them that hold nothing.
func used(db *bolt.DB) (size int64) {
	_ = db.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size
}

func free(db *bolt.DB) int64 {
	stats := db.Stats()
	return int64(stats.FreePageN+stats.PendingPageN) * int64(db.Info().PageSize)
}

// mostlyFree reports whether the file should be compacted.
func (s *Store) mostlyFree() bool {
	return free(s.db) > max(cmp.Or(s.options.CompactFrom, compactFrom), used(s.db)/2)
}

// Maintain compacts the file where that is due and takes little.
func (s *Store) Maintain() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.options.ReadOnly || s.Err() != nil {
		return
	}
	var fault error // is in Err
	defer s.protect(&fault)()
	if !s.mostlyFree() || used(s.db)-free(s.db) > compactLive || time.Now().Before(s.shrinkFrom) {
		return
	}
	if !s.copying.TryLock() { // it would have to wait for the copy, and all others for it
		return
	}
	defer s.copying.Unlock()
	if err := s.compact(); err != nil {
		_ = s.fail(fmt.Errorf("%s: compacted, but it cannot be used: start again: %w", s.path, err))
	}
}

// compact replaces the file by one without its free pages: a copy next to it, checked
// and synced, takes its name. Where that cannot be, the file is used as it is. An error
// means that the copy is in its place and cannot be used. The caller is the only one who
// writes.
func (s *Store) compact() error {
	before := used(s.db)
	err := s.replace(func(compacted *bolt.DB) error {
		if err := bolt.Compact(compacted, s.db, compactStep); err != nil {
			return err
		}
		if err := s.same(compacted, s.db); err != nil {
			return err
		}
		return compacted.View(s.pages)
	})
	switch {
	case err != nil && s.renamed():
		return err
	case err != nil:
		s.shrinkFrom = time.Now().Add(compactAgain)
		s.tell(run.Event{
			Kind: run.QueueLarge, File: s.path, Err: err,
			Note: fmt.Sprintf("%s of its %s are free", size(free(s.db)), size(before)),
			Hint: "nothing is lost; it is tried again",
		})
		return nil
	}
	if err := s.reopen(); err != nil {
		return err
	}
	s.tell(run.Event{
		Kind: run.QueueCompacted, File: s.path,
		Note: fmt.Sprintf("from %s to %s", size(before), size(used(s.db))),
	})
	return nil
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// reopen goes over to the file that took the place of the open one, once those
// who read that one are done.
func (s *Store) reopen() error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if err := s.db.Close(); err != nil {
		return err
	}
	return s.openDB()
}

// renamed reports whether the open file is no longer the one in its place.
func (s *Store) renamed() bool {
	open, err := s.file.Stat()
	there, err2 := os.Stat(s.path)
	return err != nil || err2 != nil || !os.SameFile(open, there)
}

// same sees that two files hold as many keys in each bucket.
func (s *Store) same(a, b *bolt.DB) error {
	return a.View(func(ta *bolt.Tx) error {
		return b.View(func(tb *bolt.Tx) error {
			for _, f := range s.format.Buckets {
				name := []byte(f.Name)
				na, nb := ta.Bucket(name).Stats().KeyN, tb.Bucket(name).Stats().KeyN
				if na != nb {
					return fmt.Errorf("%q has %d keys, its copy %d", name, nb, na)
				}
			}
			return nil
		})
	})
}
