package boltkv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue/kv"
)

// ErrNoRoomForCopy means that a copy would leave too little free space.
var ErrNoRoomForCopy = errors.New("too little room for a copy of the queue")

// copySpare is the free space that a copy leaves, in bytes: the queue itself must always
// be able to grow.
const copySpare = 32 << 20

// Copy writes a copy of the file as it is at this moment to path, durably: stamp may
// change it before verify judges it, and only then it gets its name. A file that is there
// is replaced, and one that was left half written is, too. Commits go on meanwhile. It
// fails with ErrNoRoomForCopy where the disk is low, and leaves nothing behind where it
// fails.
func (s *Store) Copy(ctx context.Context, path string, stamp func(kv.Tx) error, verify func(path string) error) (err error) {
	s.copying.Lock()
	defer s.copying.Unlock()
	temp := HalfCopy(path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
			err = fmt.Errorf("copying the queue to %s: %w", path, err)
		}
	}()
	if err := s.writeCopy(ctx, temp); err != nil {
		return err
	}
	if err := s.stamp(temp, stamp); err != nil {
		return err
	}
	if err := verify(temp); err != nil {
		return fmt.Errorf("what was copied cannot be trusted, so perhaps the queue itself cannot: %w", err)
	}
	return durable.Publish(temp, path, true)
}

// HalfCopy is where Copy writes before the copy is whole.
func HalfCopy(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
}

// writeCopy copies the file's pages in one reading transaction. What it reads from is the
// file and not the mapping, so that a copy takes no memory.
func (s *Store) writeCopy(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = s.view(ctx, func(tx *bolt.Tx) error {
		if err := roomFor(tx.Size(), f); err != nil {
			return err
		}
		_, err := tx.WriteTo(until{ctx, s.closing, f})
		return err
	})
	return errors.Join(err, f.Close())
}

// roomFor sees that so many bytes fit where f is, and leave copySpare free.
func roomFor(bytes int64, f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("asking for the room: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); st.Blocks > 0 && free < bytes+copySpare { //nolint:unconvert // Bsize's type differs between systems
		return fmt.Errorf("%w: it takes %s, %s are free and %s stay so", ErrNoRoomForCopy, size(bytes), size(free), size(copySpare))
	}
	return nil
}

// until is a writer that ends with its context, or with the store: a copy holds up
// neither a stop nor a close.
type until struct {
	ctx     context.Context
	closing <-chan struct{}
	w       io.Writer
}

func (u until) Write(p []byte) (int, error) {
	select {
	case <-u.closing:
		return 0, kv.ErrClosed
	case <-u.ctx.Done():
		return 0, u.ctx.Err()
	default:
		return u.w.Write(p)
	}
}

// stamp changes a copy.
func (s *Store) stamp(path string, change func(kv.Tx) error) (err error) {
	defer guard(path, &err)()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	db.AllocSize = os.Getpagesize() // it does not grow any more
	err = db.Update(func(tx *bolt.Tx) error {
		t := s.tx(tx)
		return inFile(path, t.sound(change(t)))
	})
	return errors.Join(err, db.Close())
}

// Verify sees that a file is whole and of this format: its pages agree with each other,
// and every record in it can be read. Then it calls read. It returns the size of what is
// in use, in bytes, and changes nothing. The error is a *kv.DamageError where the file
// cannot be trusted.
func Verify(path string, format Format, read func(kv.Tx) error) (size int64, err error) {
	defer guard(path, &err)()
	warning, err := inspect(path, anySize)
	if err == nil && warning != "" {
		err = damaged(path, "one of its two heads is bad")
	}
	if err != nil {
		return 0, err
	}
	s := &Store{path: path, format: format, options: Options{ReadOnly: true, LockWait: time.Second}}
	if err := s.openDB(); err != nil {
		return 0, err
	}
	defer s.db.Close()
	if err := s.check(Records); err != nil {
		return 0, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		t := s.tx(tx)
		return inFile(path, t.sound(read(t)))
	})
	return used(s.db), err
}
