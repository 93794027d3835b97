package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// choose finds the item the next name that is free on disk, or under which the
// very same bytes are already. What is no regular file is passed by.
func (v *Volume) choose(ctx context.Context, it *item) error {
	for ; it.try < mostTries; it.try++ {
		it.file = v.names.fileFor(it.asset, it.whole.Ext, it.try)
		d, err := it.dirs.enter(path.Dir(path.Join(it.dir, it.file)), false)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("asset %s: %w", it.key, err)
		}
		free, err := d.freeFor(ctx, path.Base(it.file), it)
		if err != nil || free {
			return err
		}
	}
	return fmt.Errorf("asset %s: no free name in %s after %d tries", it.key, it.m.path(it.dir), mostTries)
}

func (d *folder) freeFor(ctx context.Context, name string, it *item) (bool, error) {
	info, err := d.lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, d.m.v.explain("looking at", d.path(name), err)
	case !info.Mode().IsRegular():
		return false, nil
	}
	return d.same(ctx, name, it.whole.Size, it.whole.SHA256)
}

// same reports whether a regular file with this size and SHA-256 is there.
func (d *folder) same(ctx context.Context, name string, size int64, sum string) (bool, error) {
	f, info, err := d.regular(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, d.m.v.explain("opening", d.path(name), err)
	}
	defer f.Close()
	if info.Size() != size {
		return false, nil
	}
	h := sha256.New()
	if err := d.m.v.digest(ctx, f, size, h); err != nil {
		return false, d.m.v.explain("reading", d.path(name), err)
	}
	return hex.EncodeToString(h.Sum(nil)) == sum, nil
}

// digest reads size bytes of f into h. A file that has fewer brings another sum.
func (v *Volume) digest(ctx context.Context, f *os.File, size int64, h hash.Hash) error {
	buf := make([]byte, min(256<<10, size))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := v.sys.read(f, buf[:min(int64(len(buf)), size-off)], off)
		h.Write(buf[:n])
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publish gives a verified item's part its final name, without ever replacing what
// is there. Where the name was taken in the meantime by other bytes the item
// goes back to unverified, with the next name to try.
func (v *Volume) publish(ctx context.Context, it *item) error {
	full := path.Join(it.dir, it.file)
	d, err := it.dirs.enter(path.Dir(full), true)
	if err != nil {
		return fmt.Errorf("asset %s: %w", it.key, err)
	}
	name := path.Base(full)
	err = v.rename(it, d, name)
	if err == nil {
		return v.checkPublished(it, d, name)
	}
	// P4.1: an NFS call that was sent twice tells of the second, which found the
	// work of the first.
	there, lookErr := d.same(ctx, name, it.whole.Size, it.whole.SHA256)
	switch {
	case lookErr != nil:
		return errors.Join(fmt.Errorf("asset %s: %w", it.key, v.explain("renaming to", it.m.path(full), err)), lookErr)
	case there:
		if err := v.adopt(it, d, name); err != nil {
			return err
		}
		return v.checkPublished(it, d, name)
	case errors.Is(err, fs.ErrExist):
		it.err = fmt.Errorf("the name %s was taken meanwhile", it.m.path(full))
		fatal := v.requeue(ctx, it)
		it.try++
		if it.verified || fatal != nil {
			return errors.Join(it.err, fatal)
		}
		it.err = nil
		return nil
	case errors.Is(err, fs.ErrNotExist):
		it.distrust = true
		return fmt.Errorf("asset %s: its part is gone: %w", it.key, err)
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("asset %s: %s is on another file system than %s: mount the volume at storage.dir as one: %w",
			it.key, d.path("."), it.m.path(partsDir), err)
	}
	return fmt.Errorf("asset %s: %w", it.key, v.explain("renaming to", it.m.path(full), err))
}

// rename moves the part to its name, which must be free.
func (v *Volume) rename(it *item, d *folder, name string) error {
	parts, err := it.dirs.enter(partsDir, false)
	if err != nil {
		return err
	}
	return parts.move(it.hash+it.from, d, name)
}

// move gives a file of this folder a name in another, which must be free. File
// systems that cannot do that in one step (NFS, many FUSE) get a look before it.
func (d *folder) move(name string, to *folder, as string) error {
	sys := d.m.v.sys
	source, err := d.descriptor()
	if err != nil {
		return err
	}
	target, err := to.descriptor()
	if err != nil {
		return err
	}
	err = durable.Uninterrupted(func() error { return sys.place(source, name, target, as) })
	if !durable.Unsupported(err) {
		return err
	}
	if _, err := to.lstat(as); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.Uninterrupted(func() error { return sys.rename(d.m.root, path.Join(d.name, name), path.Join(to.name, as)) })
}

// adopt takes a file with the very same bytes for the item's own. Whose it was and
// whether it was ever synced nobody knows.
func (v *Volume) adopt(it *item, d *folder, name string) error {
	f, _, err := d.regular(name, os.O_RDONLY)
	if err != nil {
		return v.explain("opening", d.path(name), err)
	}
	defer f.Close()
	if err := v.sys.sync(f); err != nil {
		return v.explain("syncing", d.path(name), err)
	}
	parts, err := it.dirs.enter(partsDir, false)
	if err != nil {
		return err
	}
	return parts.remove(it.hash + it.from)
}

// checkPublished looks once more at what is under the final name: there are file
// systems that lose bytes in a rename (P4.11).
func (v *Volume) checkPublished(it *item, d *folder, name string) error {
	info, err := d.lstat(name)
	if err != nil {
		return v.explain("looking at", d.path(name), err)
	}
	if !info.Mode().IsRegular() || info.Size() != it.whole.Size {
		it.distrust = true
		err := fmt.Errorf("asset %s: %s is %s of %d bytes after the rename, %d are right: taken away",
			it.key, d.path(name), kind(info), info.Size(), it.whole.Size)
		return errors.Join(err, d.remove(name))
	}
	it.published = true
	return nil
}
