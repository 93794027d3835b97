package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// sweepStep is how many names are read at a time.
const sweepStep = 1024

// Sweep removes from .assetd what belongs to no asset that is open or lost: parts
// and sidecars whose hash (run.Key.Hash) is not wanted, and what a crash left half
// written. Marker, quarantine, what is in use here and what is not ours stay. wanted is
// called where any part is there, after all were listed: so the part of an asset that
// came meanwhile is not among them, and work may go on. It says how many files it
// removed; an error does not stop it.
func (v *Volume) Sweep(ctx context.Context, wanted func() (map[string]bool, error)) (removed int, err error) {
	m, err := v.open()
	if err != nil {
		return 0, err
	}
	defer m.close()
	n, err := m.sweep(ctx, metaDir, func(name string) bool {
		return strings.HasSuffix(name, partExt) || strings.HasSuffix(name, tempExt)
	})
	if err != nil {
		return n, err
	}
	listed := map[string]bool{}
	if _, err := m.sweepOnce(ctx, partsDir, func(name string) bool { listed[hashOf(name)] = true; return false }); err != nil || len(listed) == 0 {
		return n, err
	}
	keep, err := wanted()
	if err != nil {
		return n, err
	}
	more, err := m.sweep(ctx, partsDir, func(name string) bool { return listed[hashOf(name)] && !keep[hashOf(name)] })
	return n + more, err
}

// hashOf is the asset's hash in the name of a part or a sidecar.
func hashOf(name string) string {
	hash, _, _ := strings.Cut(name, ".")
	return hash
}

// sweep removes what is stale from a directory, in rounds: not every file system
// lists all names while some are being removed.
func (m *mount) sweep(ctx context.Context, dir string, stale func(name string) bool) (removed int, err error) {
	for {
		n, err := m.sweepOnce(ctx, dir, stale)
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
	}
}

func (m *mount) sweepOnce(ctx context.Context, dir string, stale func(name string) bool) (removed int, failed error) {
	d, err := m.enter(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.close()
	h, err := d.handle()
	if err != nil {
		return 0, m.v.explain("opening", d.path("."), err)
	}
	defer h.Close()
	for {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		entries, err := h.ReadDir(sweepStep)
		for _, e := range entries {
			if e.IsDir() || !stale(e.Name()) {
				continue
			}
			ok, err := m.sweepOne(d, e.Name())
			if ok {
				removed++
			} else if err != nil {
				failed = fmt.Errorf("sweeping %s: %w", m.path(path.Join(dir, e.Name())), err)
			}
		}
		if errors.Is(err, io.EOF) {
			return removed, failed
		}
		if err != nil {
			return removed, m.v.explain("reading", d.path("."), err)
		}
	}
}

// sweepOne removes one file, unless somebody begins to use it at this moment.
func (m *mount) sweepOne(d *folder, name string) (bool, error) {
	hash := hashOf(name)
	if !m.v.claim(hash) {
		return false, nil
	}
	defer m.v.release(hash)
	err := m.v.sys.remove(d.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // listed, but gone
	}
	return err == nil, err
}
