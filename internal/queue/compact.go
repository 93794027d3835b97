package queue

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

// The file never shrinks by itself, and the list of its free pages is written
// with every commit (P2.3). So it is made anew without them where they are more
// than half of it and more than compactFrom: at Open, and once a minute between
// two commits where it takes so little that nobody feels it.
const (
	compactFrom  = 64 << 20
	compactStep  = 16 << 20 // bytes copied in one transaction
	compactLive  = 64 << 20 // bytes to copy, at most, while others wait: about a second
	compactEvery = time.Minute
	compactAgain = time.Hour // after it failed
)

// halfPath is where a new file is made. What stands there at Open was left by a
// crash and is no queue.
func halfPath(dir string) string { return dbPath(dir) + ".new" }

func (q *Queue) removeHalf() error {
	if err := os.Remove(halfPath(q.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replace puts a file that fill filled in the place of queue.db, atomically and
// durably. The caller holds the directory's lock.
func (q *Queue) replace(fill func(*bolt.DB) error) (err error) {
	if err := q.removeHalf(); err != nil {
		return err
	}
	name := halfPath(q.dir)
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
	return durable.Publish(name, q.Path(), true)
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
	s := db.Stats()
	return int64(s.FreePageN+s.PendingPageN) * int64(db.Info().PageSize)
}

// mostlyFree reports whether the file should be made anew.
func (q *Queue) mostlyFree() bool {
	return free(q.db) > max(cmp.Or(q.options.CompactFrom, compactFrom), used(q.db)/2)
}

// shrink makes the file anew where that is due and takes little. It is the
// writer's.
func (q *Queue) shrink() {
	if !q.mostlyFree() || used(q.db)-free(q.db) > compactLive || time.Now().Before(q.shrinkFrom) {
		return
	}
	if !q.copying.TryLock() { // it would have to wait for the copy, and all others for it
		return
	}
	defer q.copying.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			_ = q.die(damaged(q.Path(), fault))
		}
	}()
	if err := q.compact(); err != nil {
		_ = q.die(fmt.Errorf("%s: made anew, but it cannot be used: start again: %w", q.Path(), err))
	}
}

// compact makes the file anew without its free pages: a copy beside it, checked
// and synced, takes its name. Where that cannot be, the file is used as it is. An
// error means that the copy stands in its place and cannot be used. The caller is
// the only one who writes.
func (q *Queue) compact() error {
	before := used(q.db)
	err := q.replace(func(anew *bolt.DB) error {
		if err := bolt.Compact(anew, q.db, compactStep); err != nil {
			return err
		}
		if err := same(anew, q.db); err != nil {
			return err
		}
		return anew.View(q.pages)
	})
	switch {
	case err != nil && q.renamed():
		return err
	case err != nil:
		q.shrinkFrom = time.Now().Add(compactAgain)
		q.tell(run.Event{
			Kind: run.QueueLarge, File: q.Path(), Err: err,
			Note: fmt.Sprintf("%s of its %s are free", size64(free(q.db)), size64(before)),
			Hint: "nothing is lost; it is tried again",
		})
		return nil
	}
	if err := q.reopen(); err != nil {
		return err
	}
	q.tell(run.Event{
		Kind: run.QueueCompacted, File: q.Path(),
		Note: fmt.Sprintf("from %s to %s", size64(before), size64(used(q.db))),
	})
	return nil
}

func size64(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// reopen goes over to the file that took the place of the open one, once those
// who read that one are done.
func (q *Queue) reopen() error {
	q.swap.Lock()
	defer q.swap.Unlock()
	if err := q.db.Close(); err != nil {
		return err
	}
	return q.openDB()
}

// renamed reports whether the open file is no longer the one in its place.
func (q *Queue) renamed() bool {
	open, err := q.file.Stat()
	there, err2 := os.Stat(q.Path())
	return err != nil || err2 != nil || !os.SameFile(open, there)
}

// same sees that two files hold as many keys in each bucket.
func same(a, b *bolt.DB) error {
	return a.View(func(ta *bolt.Tx) error {
		return b.View(func(tb *bolt.Tx) error {
			for n := range buckets {
				na, nb := ta.Bucket(n.name()).Stats().KeyN, tb.Bucket(n.name()).Stats().KeyN
				if na != nb {
					return fmt.Errorf("%q has %d keys, its copy %d", n.name(), nb, na)
				}
			}
			return nil
		})
	})
}
