package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// marker says which volume this is and which queue it belongs to.
type marker struct {
	Volume string `json:"volume"`
	Queue  string `json:"queue"`
	Note   string `json:"note"`
}

const markerNote = "This directory is a volume of assetd, which writes here only while this file names its queue. Do not remove it."

var errMarker = errors.New("the marker cannot be read as one")

// marker reads the volume's marker: fs.ErrNotExist where there is none, errMarker
// where it is none.
func (m *mount) marker() (marker, error) {
	d, err := m.enter(metaDir, false)
	if err != nil {
		return marker{}, err
	}
	defer d.close()
	return d.marker()
}

// marker is that of the mount whose .assetd this is.
func (d *folder) marker() (marker, error) {
	f, info, err := d.regular(path.Base(markerFile), os.O_RDONLY)
	if err != nil {
		return marker{}, err
	}
	defer f.Close()
	data := make([]byte, min(info.Size(), 4096))
	if _, err := d.m.v.sys.read(f, data, 0); err != nil && !errors.Is(err, io.EOF) {
		return marker{}, err
	}
	var mk marker
	if json.Unmarshal(data, &mk) != nil || mk.Queue == "" || mk.Volume == "" {
		return marker{}, errMarker
	}
	return mk, nil
}

// foreign is why a marker that is missing, unreadable or another's keeps the
// volume offline.
func (v *Volume) foreign(mk marker, err error) error {
	const mend = "mount the right volume, or stop the daemon and take this one on purpose: assetd check --adopt-volume"
	file := filepath.Join(v.Dir, markerFile)
	switch {
	case err == nil:
		err = fmt.Errorf("%s is volume %s of queue %s, ours is queue %s: %s", v.Dir, mk.Volume, mk.Queue, v.deps.Ledger.ID(), mend)
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%s has no marker (%s), so it is not the volume of queue %s: %s", v.Dir, file, v.deps.Ledger.ID(), mend)
	case errors.Is(err, errMarker), errors.Is(err, errNotRegular), errors.Is(err, unix.ENOTDIR):
		err = fmt.Errorf("%s: %w, so nobody knows whose volume this is: %s", file, err, mend)
	default:
		return v.unusable(file, err)
	}
	return run.Because(run.ErrVolumeOffline, err)
}

// Use is the start: it finds out whether the volume is there and ours. Where this
// queue has never used storage.dir and no marker is there, it takes it into
// use. The error is run.ErrVolumeOffline where the volume may yet come: work
// waits, and Check goes on with the start. Any other error is a setting or a
// right to fix, or the queue's: storage.dir is missing though it is neither the
// default, nor mounted, nor was it ever used.
func (v *Volume) Use(ctx context.Context) error {
	used, err := v.deps.Ledger.UsesVolume(v.Dir)
	if err != nil {
		return fmt.Errorf("asking the queue whether it uses %s: %w", v.Dir, err)
	}
	if !used {
		if err := v.prepareDir(); err != nil {
			return err
		}
	}
	m, err := v.openDir()
	if err != nil {
		return err
	}
	defer m.close()
	mk, err := m.marker()
	switch {
	case err == nil && mk.Queue == v.deps.Ledger.ID():
	case errors.Is(err, fs.ErrNotExist) && !used:
		if mk, err = m.writeMarker(marker{}); err != nil {
			return err
		}
		v.deps.Tell(run.Event{Kind: VolumeTaken, File: v.Dir, Note: "volume " + mk.Volume + ", first use by this queue"})
	default:
		return v.foreign(mk, err)
	}
	if !used {
		if err := v.deps.Ledger.UseVolume(ctx, v.Dir); err != nil {
			return fmt.Errorf("noting in the queue that it uses %s: %w", v.Dir, err)
		}
	}
	v.taken.Store(true)
	return nil
}

// Adopt takes a new or foreign volume on purpose: from now on it belongs to this
// queue. What is there stays. A foreign volume keeps its own id.
func (v *Volume) Adopt(ctx context.Context) error {
	if err := v.prepareDir(); err != nil {
		return err
	}
	m, err := v.openDir()
	if err != nil {
		return err
	}
	defer m.close()
	mk, err := m.marker()
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errMarker) {
		return v.foreign(mk, err)
	}
	if err != nil || mk.Queue != v.deps.Ledger.ID() {
		note := "it had no marker"
		if err == nil {
			note = "it belonged to queue " + mk.Queue
		}
		if mk, err = m.writeMarker(mk); err != nil {
			return err
		}
		v.deps.Tell(run.Event{Kind: VolumeTaken, File: v.Dir, Note: "volume " + mk.Volume + ", taken on purpose: " + note})
	}
	if err := v.deps.Ledger.UseVolume(ctx, v.Dir); err != nil {
		return fmt.Errorf("noting in the queue that it uses %s: %w", v.Dir, err)
	}
	v.taken.Store(true)
	return nil
}

// prepareDir makes the default storage.dir where it is missing. Only the default
// one: a directory that somebody named is there, or is a mistake to report.
func (v *Volume) prepareDir() error {
	h, err := os.Open(v.Dir)
	switch {
	case err == nil:
		defer h.Close()
		info, err := h.Stat()
		switch {
		case err != nil:
			return v.unusable(v.Dir, err)
		case !info.IsDir():
			return fmt.Errorf("storage.dir %s is %s, not a directory: mend the setting", v.Dir, kind(info))
		case v.Default:
			return v.finishDir(h)
		}
		return nil
	case v.Mounted:
		return nil // it may be mounted yet
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("storage.dir %s: uid %d needs to read, write and search it: %w", v.Dir, os.Getuid(), err)
	case !errors.Is(err, fs.ErrNotExist):
		return v.unusable(v.Dir, err)
	case !v.Default:
		return fmt.Errorf("storage.dir %s is not there: make it, writable for uid %d, or mend the setting", v.Dir, os.Getuid())
	}
	return v.makeDirs(v.Dir)
}

// makeDirs makes a directory with its parents, each with its mode and durable
// before the next.
func (v *Volume) makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() && !halfMade(info) {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := v.makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, v.newDirMode()); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making storage.dir %s: uid %d needs to write %s: %w", dir, os.Getuid(), parent, err)
	}
	err := withDir(dir, v.finishDir)
	if err == nil {
		err = withDir(parent, func(h *os.File) error { return v.syncHandle(h, parent) })
	}
	if err != nil {
		return fmt.Errorf("making storage.dir %s: %w", dir, err)
	}
	return nil
}

func withDir(dir string, do func(h *os.File) error) error {
	h, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer h.Close()
	return do(h)
}

// writeMarker makes the volume this queue's, durably, replacing old; a volume
// without an id gets a random one.
func (m *mount) writeMarker(old marker) (marker, error) {
	mk := marker{Volume: old.Volume, Queue: m.v.deps.Ledger.ID(), Note: markerNote}
	if mk.Volume == "" {
		var id [12]byte
		rand.Read(id[:]) // never fails
		mk.Volume = hex.EncodeToString(id[:])
	}
	data, err := json.MarshalIndent(mk, "", "  ")
	if err != nil {
		return marker{}, fmt.Errorf("making the marker of %s: %w", m.v.Dir, err)
	}
	d, err := m.enter(metaDir, true)
	if err != nil {
		return marker{}, err
	}
	defer d.close()
	name := path.Base(markerFile)
	if err := d.writeFile(name+tempExt, append(data, '\n'), true); err != nil {
		return marker{}, err
	}
	if err := d.replace(name+tempExt, name); err != nil {
		return marker{}, err
	}
	if err := d.sync(); err != nil {
		return marker{}, err
	}
	top := &folder{m: m, root: m.root, name: "."}
	return mk, top.sync()
}
