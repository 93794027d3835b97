package storage

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/assetd/assetd/internal/run"
)

// Discard removes what is kept of assets beside their files: parts, and copies in
// quarantine. It is for assets that nobody will ask for again. Files under their
// final names stay. One that is in use is passed over: whoever uses it wants it. An
// error does not stop it; run.ErrVolumeOffline where the volume is not there.
func (v *Volume) Discard(keys []run.Key) error {
	if len(keys) == 0 {
		return nil
	}
	m, err := v.open()
	if err != nil {
		return err
	}
	defer m.close()
	var failed error
	for _, of := range []struct {
		dir  string
		exts []string
	}{
		{partsDir, []string{cardExt, partExt}}, // in this order, as by Part.drop
		{quarantineDir, []string{""}},
	} {
		d, err := m.enter(of.dir, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := d.discard(keys, of.exts); err != nil && failed == nil {
			failed = err
		}
		d.close()
	}
	return failed
}

func (d *folder) discard(keys []run.Key, exts []string) (failed error) {
	for _, key := range keys {
		hash := key.Hash()
		if !d.m.v.claim(hash) {
			continue
		}
		for _, ext := range exts {
			if err := d.remove(hash + ext); err != nil && failed == nil {
				failed = fmt.Errorf("asset %s: removing what was kept of it: %w", key, err)
			}
		}
		d.m.v.release(hash)
	}
	return failed
}
