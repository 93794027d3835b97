package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/assetd/assetd/internal/durable"
)

// Capability is one operation that a volume should support.
type Capability struct {
	What     string
	Err      error  // why it is missing; nil: it is supported
	Fallback string // what happens without it; empty: nothing can be stored
}

const (
	probeDir   = ".assetd-check-" // the beginning of the name of the directory that is probed in
	probeFile  = "part"
	probeOther = "File"
	probeSize  = 128 << 10 // bytes
)

// Capabilities probes what the volume supports, with a file in a directory of its own in
// storage.dir, which it removes again. It does not matter whose the volume is. It returns
// within seconds even when the volume hangs. The error is run.ErrVolumeOffline where
// there is no volume, or says why nothing could be probed.
func (v *Volume) Capabilities() ([]Capability, error) {
	f, ok := v.capable.ask(v.probeCapabilities)
	if !ok {
		return nil, v.hangs(f.since)
	}
	return f.answer, f.err
}

func (v *Volume) probeCapabilities() ([]Capability, error) {
	m, err := v.openDir()
	if err != nil {
		return nil, err
	}
	defer m.close()
	name := probeDir + strings.ToLower(rand.Text())
	if err := durable.Uninterrupted(func() error { return v.sys.mkdir(m.root, name, 0o700) }); err != nil {
		return nil, v.explain("making directory", m.path(name), err)
	}
	d, err := m.enter(name, false)
	if err != nil {
		return nil, errors.Join(err, m.root.Remove(name))
	}
	found := d.capabilities()
	d.close()
	err = durable.Uninterrupted(func() error { return m.root.RemoveAll(name) })
	return found, v.explain("removing", m.path(name), err)
}

// capabilities takes a file through what a part goes through: written, synced, resumed,
// renamed.
func (d *folder) capabilities() (found []Capability) {
	note := func(what string, err error, fallback string) {
		found = append(found, Capability{what, err, fallback})
	}
	sys := &d.m.v.sys
	f, err := sys.open(d.root, probeFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		note("make a file", err, "")
		return found
	}
	note("set room aside before it is needed", durable.Uninterrupted(func() error { return sys.allocate(f, 0, probeSize) }),
		"a full disk shows when a write fails")
	note("lock a file", durable.Uninterrupted(func() error { return sys.lock(f) }),
		"let no second assetd use this volume")
	_, err = sys.write(f, make([]byte, probeSize), 0)
	note("write a file", err, "")
	note("sync a file", sys.sync(f), "")
	note("close a file", sys.close(f), "")
	note("open a part again and go on with it", d.probeResume(), "each transfer begins anew after an interruption")
	note("rename a file without replacing another", d.probeRename(), "it is looked first whether the name is free")
	err = d.probeWrite()
	if err == nil {
		err = d.replaceOther()
	}
	note("rename a file over another", err, "")
	h, err := d.handle()
	if err == nil {
		err = errors.Join(sys.syncDir(h), h.Close())
	}
	note("sync a directory", err, "after a power loss the newest files may be gone and are fetched again")
	_, err = d.lstat(strings.ToLower(probeOther))
	switch {
	case err == nil:
		err = fmt.Errorf("%s is there by the name of %s, too", probeOther, strings.ToLower(probeOther))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	note("tell names apart by case", err, "of names that differ by case alone, the second gets a suffix")
	return found
}

// probeResume writes at the end of a file that was closed, and reads it.
func (d *folder) probeResume() error {
	sys := &d.m.v.sys
	f, err := sys.open(d.root, probeFile, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	end := []byte("the end")
	if _, err := sys.write(f, end, probeSize); err != nil {
		return err
	}
	got := make([]byte, len(end))
	if _, err := sys.read(f, got, probeSize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(got) != string(end) {
		return errors.New("what was written is not what is read")
	}
	return nil
}

// probeRename renames the file to the other name, and then checks that a second file
// does not replace it there.
func (d *folder) probeRename() error {
	h, err := d.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	place := func() error {
		return durable.Uninterrupted(func() error { return d.m.v.sys.place(h, probeFile, h, probeOther) })
	}
	if err := place(); err != nil {
		return errors.Join(err, d.replaceOther())
	}
	if err := d.probeWrite(); err != nil {
		return err
	}
	switch err := place(); {
	case err == nil:
		return errors.New("it replaced one all the same (and said nothing)")
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("it replaced one all the same (%w)", err)
	}
	return nil
}

func (d *folder) probeWrite() error {
	f, err := d.m.v.sys.open(d.root, probeFile, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = d.m.v.sys.write(f, []byte("assetd\n"), 0)
	return errors.Join(err, f.Close())
}

// replaceOther renames the file over the other.
func (d *folder) replaceOther() error {
	return durable.Uninterrupted(func() error { return d.m.v.sys.rename(d.root, probeFile, probeOther) })
}
