package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// DamagedExt is behind the hash in the name of a damaged file in quarantine.
const DamagedExt = ".damaged"

// mostCopies bounds the damaged files of one asset in quarantine.
const mostCopies = 1000

// Aside moves a damaged file of a run's directory into quarantine, durably, where
// it replaces nothing: copied is its place there, below storage.dir, and its final
// name is free. It may be called again after a crash at any moment: where nothing
// is under the final name, copied is the asset's last one in quarantine, empty
// where none is. What is no regular file stays where it is. The caller sees to it
// that nothing else is done to the asset meanwhile.
func (v *Volume) Aside(ctx context.Context, key run.Key, dir, file string) (copied string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	m, err := v.open()
	if err != nil {
		return "", err
	}
	defer m.close()
	name := path.Join(dir, file)
	d, err := m.enter(path.Dir(name), false)
	if missing(err) {
		return m.lastCopy(key.Hash())
	}
	if err != nil {
		return "", err
	}
	defer d.close()
	info, err := d.lstat(path.Base(name))
	switch {
	case missing(err):
		if copied, err = m.lastCopy(key.Hash()); copied == "" || err != nil {
			return "", err
		}
	case err != nil:
		return "", v.explain("looking at", m.path(name), err)
	case !info.Mode().IsRegular():
		return "", nil
	}
	aside, err := m.quarantine()
	if err != nil {
		return "", err
	}
	defer aside.close()
	if copied == "" {
		if copied, err = aside.receive(d, path.Base(name), key.Hash()); err != nil {
			return "", err
		}
	}
	// First where it is now: the other way round a crash between could leave it
	// nowhere, on file systems that know no transactions. Also after one that came
	// before this.
	if err := errors.Join(aside.sync(), d.sync()); err != nil {
		return "", err
	}
	return copied, nil
}

// quarantine is its directory, durable before something comes into it.
func (m *mount) quarantine() (*folder, error) {
	d, err := m.enter(quarantineDir, false)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if d, err = m.enter(quarantineDir, true); err != nil {
		return nil, err
	}
	if err := m.syncDir(metaDir); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// copyName is the n-th name for an asset's damaged files.
func copyName(hash string, n int) string {
	if n == 1 {
		return hash + DamagedExt
	}
	return hash + DamagedExt + "-" + strconv.Itoa(n)
}

// receive moves a file into quarantine, under the first name that is free.
func (d *folder) receive(from *folder, name, hash string) (copied string, err error) {
	for n := 1; n <= mostCopies; n++ {
		to := copyName(hash, n)
		if _, err := d.lstat(to); err == nil {
			continue
		}
		err := from.move(name, d, to)
		switch {
		case err == nil:
			return path.Join(quarantineDir, to), nil
		case errors.Is(err, fs.ErrExist):
			continue
		case errors.Is(err, unix.EXDEV):
			return "", fmt.Errorf("%s is on another file system than %s: mount the volume at storage.dir as one, or move the damaged file away by hand: %w",
				from.path(name), d.path("."), err)
		case errors.Is(err, fs.ErrNotExist) && d.has(to):
			return path.Join(quarantineDir, to), nil // P4.1: an NFS call that was sent twice tells of the second
		}
		return "", d.m.v.explain("moving into quarantine", from.path(name), err)
	}
	return "", fmt.Errorf("%s: %d damaged copies of it are in %s: look at them and take them away", from.path(name), mostCopies, d.path("."))
}

func (d *folder) has(name string) bool {
	_, err := d.lstat(name)
	return err == nil
}

// lastCopy is the last of an asset's damaged files in quarantine.
func (m *mount) lastCopy(hash string) (string, error) {
	d, err := m.enter(quarantineDir, false)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer d.close()
	last := ""
	for n := 1; n <= mostCopies && d.has(copyName(hash, n)); n++ {
		last = path.Join(quarantineDir, copyName(hash, n))
	}
	return last, nil
}

// Clear removes all that lies in .assetd of assets that nobody knows any more, by
// run.Key.Hash: parts, sidecars, copies in quarantine. busy are those in use at this
// moment, of which something may be left.
func (v *Volume) Clear(ctx context.Context, hashes []string) (busy []string, err error) {
	m, err := v.open()
	if err != nil {
		return hashes, err
	}
	defer m.close()
	wanted := make(map[string]bool, len(hashes))
	for _, hash := range hashes {
		wanted[hash] = true
	}
	v.mu.Lock()
	for _, hash := range hashes {
		if v.inUse[hash] {
			busy = append(busy, hash)
		}
	}
	v.mu.Unlock()
	for _, dir := range []string{partsDir, quarantineDir} {
		_, err := m.sweep(ctx, dir, func(name string) bool {
			return wanted[hashOf(name)]
		})
		if err != nil {
			return busy, err
		}
	}
	return busy, nil
}
