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

// Ability is one thing that a volume should be able to do.
type Ability struct {
	What    string
	Err     error  // why it cannot; nil: it can
	Without string // what is done instead where it cannot; empty: nothing can be stored then
}

// tryDir is the beginning of the name of the directory in which Try works.
const tryDir = ".assetd-check-"

// Try tries out what the volume can do, with a file in a directory of its own in
// storage.dir, which it takes away again: whose the volume is does not matter. It
// answers within seconds even when the volume hangs. The error is
// run.ErrVolumeOffline where there is no volume, or why nothing could be tried.
func (v *Volume) Try() ([]Ability, error) {
	f, ok := v.tries.ask(v.try)
	if !ok {
		return nil, v.hangs(f.since)
	}
	return f.answer, f.err
}

func (v *Volume) try() (all []Ability, err error) {
	m, err := v.openDir()
	if err != nil {
		return nil, err
	}
	defer m.close()
	name := tryDir + strings.ToLower(rand.Text())
	if err := durable.Uninterrupted(func() error { return v.sys.mkdir(m.root, name, 0o700) }); err != nil {
		return nil, v.explain("making directory", m.path(name), err)
	}
	d, err := m.enter(name, false)
	if err != nil {
		return nil, errors.Join(err, m.root.Remove(name))
	}
	t := tryout{d: d}
	t.all()
	d.close()
	if err := durable.Uninterrupted(func() error { return m.root.RemoveAll(name) }); err != nil {
		return t.found, v.explain("removing", m.path(name), err)
	}
	return t.found, nil
}

// tryout tries a folder's file system out.
type tryout struct {
	d     *folder
	found []Ability
}

const (
	tryFile  = "part"
	tryOther = "File"
	trySize  = 128 << 10 // bytes
)

// all goes the way of a part: written, synced, gone on with, renamed.
func (t *tryout) all() {
	f, err := t.d.m.v.sys.open(t.d.root, tryFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.note("make a file", err, "")
		return
	}
	sys := &t.d.m.v.sys
	t.note("set room aside before it is needed", durable.Uninterrupted(func() error { return sys.allocate(f, 0, trySize) }),
		"a full disk shows when a write fails")
	t.note("lock a file", durable.Uninterrupted(func() error { return sys.lock(f) }),
		"let no second assetd use this volume")
	_, err = sys.write(f, make([]byte, trySize), 0)
	t.note("write a file", err, "")
	t.note("sync a file", sys.sync(f), "")
	t.note("close a file", sys.close(f), "")
	t.note("open a part again and go on with it", t.goOn(), "each transfer begins anew after an interruption")
	t.note("rename a file without replacing another", t.place(), "it is looked first whether the name is free")
	t.note("rename a file over another", t.replace(), "")
	t.note("sync a directory", t.syncDir(), "after a power loss the newest files may be gone and are fetched again")
	t.note("tell names apart by case", t.cases(), "of names that differ by case alone, the second gets a suffix")
}

func (t *tryout) note(what string, err error, without string) {
	t.found = append(t.found, Ability{what, err, without})
}

// goOn writes at the end of a file that was closed, and reads it.
func (t *tryout) goOn() error {
	f, err := t.d.m.v.sys.open(t.d.root, tryFile, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	end := []byte("the end")
	if _, err := t.d.m.v.sys.write(f, end, trySize); err != nil {
		return err
	}
	got := make([]byte, len(end))
	if _, err := t.d.m.v.sys.read(f, got, trySize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(got) != string(end) {
		return errors.New("what was written is not what is read")
	}
	return nil
}

// place renames the file to another name, and sees that it does not do so again
// over what stands there.
func (t *tryout) place() error {
	h, err := t.d.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	sys := &t.d.m.v.sys
	if err := durable.Uninterrupted(func() error { return sys.place(h, tryFile, h, tryOther) }); err != nil {
		return errors.Join(err, durable.Uninterrupted(func() error { return sys.rename(t.d.root, tryFile, tryOther) }))
	}
	if err := t.write(tryFile); err != nil {
		return err
	}
	if err := durable.Uninterrupted(func() error { return sys.place(h, tryFile, h, tryOther) }); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it replaced one all the same (%w)", cause(err))
	}
	return nil
}

func cause(err error) error {
	if err == nil {
		return errors.New("and said nothing")
	}
	return err
}

func (t *tryout) write(name string) error {
	f, err := t.d.m.v.sys.open(t.d.root, name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = t.d.m.v.sys.write(f, []byte("assetd\n"), 0)
	return errors.Join(err, f.Close())
}

func (t *tryout) replace() error {
	if err := t.write(tryFile); err != nil {
		return err
	}
	return durable.Uninterrupted(func() error { return t.d.m.v.sys.rename(t.d.root, tryFile, tryOther) })
}

func (t *tryout) syncDir() error {
	h, err := t.d.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	return t.d.m.v.sys.syncDir(h)
}

func (t *tryout) cases() error {
	_, err := t.d.lstat(strings.ToLower(tryOther))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return fmt.Errorf("%s is there by the name of %s, too", tryOther, strings.ToLower(tryOther))
	}
	return err
}
