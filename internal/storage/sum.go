package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// Content is what is under a name.
type Content struct {
	Size   int64  // bytes
	SHA256 string // hex; empty where it is no regular file
	Odd    string // what it is instead of a regular file; empty: it is one
}

// sumStep is how much is read at a time: large enough for a disk, small enough to
// be reported often.
const sumStep = 1 << 20

// Sum reads a file of a run's directory from front to back. fs.ErrNotExist says
// that it is not there, which is said only of a volume whose marker is still there
// after that; run.ErrVolumeOffline that the volume is not. Any other error says
// that it could not be read, which tells nothing of its bytes. read is called with
// the bytes that were read since the last call. What the page cache did not hold
// before it does not hold after.
func (v *Volume) Sum(ctx context.Context, dir, file string, read func(n int)) (Content, error) {
	m, err := v.open()
	if err != nil {
		return Content{}, err
	}
	defer m.close()
	c, err := m.sum(ctx, path.Join(dir, file), read)
	if missing(err) {
		again, offline := v.open()
		if offline != nil {
			return Content{}, offline
		}
		defer again.close()
		if again.id != m.id {
			return again.sum(ctx, path.Join(dir, file), read)
		}
		return Content{}, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return c, err
}

func (m *mount) sum(ctx context.Context, name string, read func(n int)) (Content, error) {
	d, err := m.enter(path.Dir(name), false)
	if err != nil {
		return Content{}, err
	}
	defer d.close()
	info, err := d.lstat(path.Base(name))
	if err != nil {
		return Content{}, m.v.explain("looking at", m.path(name), err)
	}
	if !info.Mode().IsRegular() {
		return Content{Odd: kind(info)}, nil
	}
	f, _, err := d.regular(path.Base(name), os.O_RDONLY)
	if err != nil {
		return Content{}, m.v.explain("opening", m.path(name), err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := m.v.pour(ctx, f, h, read)
	if err != nil {
		return Content{}, m.v.explain("reading", m.path(name), err)
	}
	return Content{Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// pour reads a file to its end.
func (v *Volume) pour(ctx context.Context, f *os.File, to io.Writer, read func(n int)) (size int64, err error) {
	cold := !cached(f)
	buf := make([]byte, sumStep)
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := v.sys.read(f, buf, size)
		to.Write(buf[:n]) //nolint:errcheck // a hash takes all
		if n > 0 && cold {
			forget(f, size, int64(n))
		}
		size += int64(n)
		if read != nil && n > 0 {
			read(n)
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// cached reports whether the page cache has the file's first bytes, so that others
// use it (preadv2(2): RWF_NOWAIT). Where the kernel does not tell it counts as
// cached: nothing is removed from anybody.
func cached(f *os.File) bool {
	var first [1]byte
	err := durable.Control(f, func(fd int) error {
		_, err := unix.Preadv2(fd, [][]byte{first[:]}, 0, unix.RWF_NOWAIT)
		return err
	})
	return !errors.Is(err, unix.EAGAIN)
}

// forget gives bytes that were read back to the page cache's other users.
func forget(f *os.File, off, n int64) {
	_ = durable.Control(f, func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) })
}
