package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// KeepProvisional ends the part and keeps its bytes, durably, without a final name:
// they are size bytes and whole, and wait for Confirm or DropProvisional. Those that
// were kept of the asset before are replaced. After an error the part is as Close
// leaves it.
func (p *Part) KeepProvisional(size int64) error {
	if p.closed {
		return errClosed
	}
	if err := p.keepProvisional(size); err != nil {
		if p.f != nil {
			p.shelve() //nolint:errcheck // the first error is returned
		}
		p.leave()
		return err
	}
	p.leave()
	return nil
}

func (p *Part) keepProvisional(size int64) error {
	err := p.endSync()
	if err == nil {
		err = p.broken
	}
	if err != nil {
		return err
	}
	if p.size != size {
		return fmt.Errorf("asset %s: its part has %d bytes and was handed over as %d", p.key, p.size, size)
	}
	if err := p.trim(); err != nil {
		return err
	}
	if err := p.v.chmod(p.f, p.v.FileMode); err != nil {
		return p.v.explain("setting the mode of", p.path(), err)
	}
	if err := p.v.sys.sync(p.f); err != nil {
		return p.lose("syncing", err)
	}
	err = p.v.sys.close(p.f)
	p.f = nil
	if err != nil {
		return p.lose("closing", err)
	}
	// First the sidecar: one without its part could be taken for the next one's.
	if err := p.removeSidecar(); err != nil {
		return err
	}
	if err := durable.Uninterrupted(func() error { return p.v.sys.rename(p.m.root, p.name(partExt), p.name(provisionalExt)) }); err != nil {
		return p.v.explain("renaming to", p.m.path(p.name(provisionalExt)), err)
	}
	return p.m.syncDir(partsDir)
}

// DropProvisional removes what KeepProvisional kept of an asset; nothing there is no
// error.
func (v *Volume) DropProvisional(key run.Key) error {
	m, err := v.open()
	if err != nil {
		return err
	}
	defer m.close()
	return m.dropProvisional(key.Hash())
}

func (m *mount) dropProvisional(hash string) error {
	d, err := m.enter(partsDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.close()
	return d.remove(hash + provisionalExt)
}

// compareProvisional finds a provisional asset's bytes. Where they are not as they were
// kept, the queue has the asset fetched again.
func (v *Volume) compareProvisional(ctx context.Context, it *item, a run.Asset, dir string) (err error) {
	it.asset, it.dir = a, dir
	if it.m, err = v.open(); err != nil {
		return err
	}
	name := path.Join(partsDir, it.hash+provisionalExt)
	there, err := it.m.holds(ctx, name, &run.Stored{Size: it.whole.Size, SHA256: it.whole.SHA256})
	if err != nil || there {
		return err
	}
	it.err = fmt.Errorf("asset %s: %s does not hold what was fetched before its run ended: fetched again", it.key, it.m.path(name))
	if fatal := v.requeue(ctx, it); fatal != nil {
		return fatal
	}
	return it.err
}
