package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// mostBuffered is how much of a record is in memory while it is written, in bytes.
const mostBuffered = 64 << 10

// writeFile makes a small file with storage.file_mode. With synced it is synced.
// A file that fails is removed: nothing half written stays.
func (d *folder) writeFile(name string, data []byte, synced bool) error {
	return d.writePieces(name, func(w io.Writer) error { _, err := w.Write(data); return err }, synced)
}

// writePieces is writeFile for what comes piece by piece.
func (d *folder) writePieces(name string, fill func(w io.Writer) error, synced bool) error {
	v := d.m.v
	f, err := d.create(name, 0o600)
	if err != nil {
		return v.explain("making", d.path(name), err)
	}
	w := v.writers.Get().(*bufio.Writer)
	w.Reset(&appender{v: v, f: f})
	defer func() {
		w.Reset(nil)
		v.writers.Put(w)
	}()
	if err = fill(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = v.chmod(f, v.FileMode)
	}
	if err == nil && synced {
		err = v.sys.sync(f)
	}
	// NFS tells of a full or failing disk at close.
	if e := v.sys.close(f); err == nil {
		err = e
	}
	if err != nil {
		v.sys.remove(d.root, name) //nolint:errcheck // the first error is returned
		return v.explain("writing", d.path(name), err)
	}
	return nil
}

// appender writes a file from its first byte on.
type appender struct {
	v   *Volume
	f   *os.File
	off int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.v.sys.write(a.f, p, a.off)
	a.off += int64(n)
	return n, err
}

// replace renames within the folder over a regular file or nothing.
func (d *folder) replace(from, to string) error {
	info, err := d.lstat(to)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is %s: %w, refused, take it away", d.path(to), kind(info), errNotRegular)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return d.m.v.explain("looking at", d.path(to), err)
	}
	err = durable.Uninterrupted(func() error { return d.m.v.sys.rename(d.root, from, to) })
	return d.m.v.explain("renaming to", d.path(to), err)
}

// remove takes a name away; one that is not there is no error.
func (d *folder) remove(name string) error {
	err := d.m.v.sys.remove(d.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.m.v.explain("removing", d.path(name), err)
}

// sync makes the names in the folder durable.
func (d *folder) sync() error {
	h, err := d.handle()
	if err != nil {
		return d.m.v.explain("opening", d.path("."), err)
	}
	defer h.Close()
	return d.m.v.syncHandle(h, d.path("."))
}

// syncHandle syncs a directory. CIFS, vboxsf and some FUSE cannot and say EINVAL,
// ENOTSUP or ENOTTY: reported once and ignored after that. Everything else is an error.
func (v *Volume) syncHandle(h *os.File, dir string) error {
	err := v.sys.syncDir(h)
	if durable.CannotSync(err) {
		if v.told.CompareAndSwap(false, true) {
			v.deps.Tell(run.Event{
				Kind: SyncUnsupported, File: v.Dir, Err: err,
				Hint: "after a power loss the newest files may be gone and are fetched again",
			})
		}
		return nil
	}
	return v.explain("syncing directory", dir, err)
}
