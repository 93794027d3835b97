package storage

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// Sight is what Look found of a volume.
type Sight struct {
	Volume, Queue string // as its marker says; empty: it has none, and is nobody's yet
	Free          int64  // as Free gives it
	Denied        error  // this process may not write there; nil: it may
}

// SizeUnknown reports whether the file system does not tell how much space it has.
func (s Sight) SizeUnknown() bool { return s.Free > 1<<61 }

// Look looks at the volume from outside, whoever it belongs to, and changes
// nothing: the queue need not be there. It answers within seconds even when the
// volume hangs. The error is run.ErrVolumeOffline where the directory is missing,
// is not the mount it has to be, or has a marker that nobody can read.
func (v *Volume) Look() (Sight, error) {
	f, ok := v.looks.ask(v.look)
	if !ok {
		return Sight{}, v.hangs(f.since)
	}
	return f.answer, f.err
}

func (v *Volume) look() (s Sight, err error) {
	m, err := v.openDir()
	if err != nil {
		return s, err
	}
	defer m.close()
	mk, err := m.marker()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, v.foreign(mk, err)
	}
	s.Volume, s.Queue = mk.Volume, mk.Queue
	for _, name := range []string{".", metaDir, partsDir} {
		if err := m.writable(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Denied = err
			break
		}
	}
	h, err := (&folder{m: m, root: m.root, name: "."}).handle()
	if err != nil {
		return s, v.unusable(v.Dir, err)
	}
	defer h.Close()
	s.Free, err = v.free(h)
	return s, v.explain("asking for the room at", v.Dir, err)
}

// writable asks the kernel whether we may write in a directory: unlike a write,
// that leaves nothing behind.
func (m *mount) writable(name string) error {
	d, err := m.enter(name, false)
	if err != nil {
		return err
	}
	defer d.close()
	h, err := d.handle()
	if err != nil {
		return m.v.explain("opening", d.path("."), err)
	}
	defer h.Close()
	return m.v.explain("writing to", d.path("."), durable.Control(h, func(fd int) error {
		return unix.Faccessat(fd, ".", unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}))
}
