package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// ErrNoRoomForCopy means that a copy would leave too little room beside it.
var ErrNoRoomForCopy = errors.New("too little room for a copy of the queue")

// copySpare is what a copy leaves free beside it, in bytes: the queue itself must
// always be able to grow.
const copySpare = 32 << 20

// Copy is what stands in a copy of a queue.
type Copy struct {
	Path string
	ID   string    // of the queue that it is a copy of
	At   time.Time // all that was durable at this moment of the local clock is in it; zero: nobody knows
	Runs int
	Size int64 // bytes
}

// Backup writes a copy of the queue as it is at this moment to path, durably and
// checked as Verify does; a file that is there is replaced, and one that was left
// half written is, too. Commits go on meanwhile. It fails with ErrNoRoomForCopy
// where the disk is low, and leaves nothing behind where it fails. A copy holds no
// signed URL: the answers are none of it.
func (q *Queue) Backup(ctx context.Context, path string) (c Copy, err error) {
	q.copying.Lock()
	defer q.copying.Unlock()
	temp := HalfCopy(path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
			err = fmt.Errorf("copying the queue to %s: %w", path, err)
		}
	}()
	began := q.now()
	if err := q.writeCopy(ctx, temp); err != nil {
		return c, err
	}
	if err := q.stamp(temp, began); err != nil {
		return c, err
	}
	if c, err = Verify(temp); err != nil {
		return c, fmt.Errorf("what was copied cannot be trusted, so perhaps the queue itself cannot: %w", err)
	}
	c.Path = path
	return c, durable.Publish(temp, path, true)
}

// HalfCopy is where Backup writes before the copy is whole.
func HalfCopy(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
}

// writeCopy copies the file's pages in one reading transaction. What it reads from
// is the file and not the mapping, so that a copy takes no memory.
func (q *Queue) writeCopy(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = q.view(ctx, func(t *txn) error {
		if err := roomFor(t.tx.Size(), f); err != nil {
			return err
		}
		_, err := t.tx.WriteTo(until{ctx, q.closing, f})
		return err
	})
	return errors.Join(err, f.Close())
}

// roomFor sees that so many bytes fit where f is, and copySpare beside them.
func roomFor(size int64, f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("asking for the room: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); st.Blocks > 0 && free < size+copySpare { //nolint:unconvert // Bsize's type differs between systems
		return fmt.Errorf("%w: it takes %s, %s are free and %s stay so", ErrNoRoomForCopy, size64(size), size64(free), size64(copySpare))
	}
	return nil
}

// until is a writer that ends with its context, or with the queue: a copy holds up
// neither a stop nor a close.
type until struct {
	ctx     context.Context
	closing <-chan struct{}
	w       io.Writer
}

func (u until) Write(p []byte) (int, error) {
	select {
	case <-u.closing:
		return 0, ErrClosed
	case <-u.ctx.Done():
		return 0, u.ctx.Err()
	default:
		return u.w.Write(p)
	}
}

// stamp notes in a copy when it was begun. In the copy and
// not in its name or mtime, which change on its way.
func (q *Queue) stamp(path string, at time.Time) (err error) {
	defer guard(path, &err)()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	db.AllocSize = os.Getpagesize() // it does not grow any more
	err = db.Update(func(tx *bolt.Tx) error {
		t := q.txn(tx)
		if err := t.sound(t.readCounts()); err != nil {
			return inFile(path, err)
		}
		return errors.Join(t.put(bMeta, []byte(keyCopied), encodeService(time.Duration(at.UnixNano()))), t.writeCounts())
	})
	return errors.Join(err, db.Close())
}

// guard makes a panic of bbolt, or a fault of its mapping, a *DamageError of the
// file: to be deferred as guard(path, &err)().
func guard(path string, err *error) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if fault := recover(); fault != nil {
			*err = damaged(path, fault)
		}
	}
}

// Verify sees that a file is a whole copy of a queue that this assetd can read:
// its pages agree with each other, and every record in it can be read. It changes
// nothing. The error is a *DamageError where the file cannot be trusted.
func Verify(path string) (c Copy, err error) {
	defer guard(path, &err)()
	warning, err := inspect(path, anySize)
	if err == nil && warning != "" {
		err = damaged(path, "one of its two heads is bad")
	}
	if err != nil {
		return c, err
	}
	q := &Queue{path: path, options: Options{ReadOnly: true, LockWait: time.Second}}
	if err := q.openDB(); err != nil {
		return c, err
	}
	defer q.db.Close()
	if err := errors.Join(q.check(true), q.readAll()); err != nil {
		return c, err
	}
	c = Copy{Path: path, ID: q.id, Size: used(q.db)}
	err = q.db.View(func(tx *bolt.Tx) error {
		t := q.txn(tx)
		c.Runs = t.bucket(bRuns).Stats().KeyN
		if value := t.get(bMeta, []byte(keyCopied)); value != nil {
			at, err := decodeService(value)
			if err != nil {
				return broken("entry", []byte(keyCopied), err)
			}
			c.At = time.Unix(0, int64(at)).UTC()
		}
		return nil
	})
	return c, err
}

// readAll holds every entry against its checksum, and reads every run and every asset.
func (q *Queue) readAll() error {
	err := q.db.View(func(tx *bolt.Tx) error {
		t := q.txn(tx)
		if err := t.sums(); err != nil {
			return err
		}
		for _, bucket := range []struct {
			b    bucket
			read func(k, v []byte) error
		}{
			{bRuns, func(k, v []byte) error { _, err := decodeRun(k, v); return err }},
			{bAssets, func(k, v []byte) error { _, err := decodeAsset(k, v); return err }},
		} {
			c := t.cursor(bucket.b)
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if err := bucket.read(k, v); err != nil {
					return err
				}
			}
		}
		return t.sound(nil)
	})
	return inFile(q.Path(), err)
}
