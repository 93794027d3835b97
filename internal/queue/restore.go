package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// Why a queue's file was moved aside; it is part of the name that it gets.
const (
	AsideDamaged  = "damaged"
	AsideReplaced = "replaced"
)

// restoreWait is how long a restoration waits for who holds the lock.
const restoreWait = time.Second

// Restore puts a copy in the place of a state directory's queue, durably: the copy
// is checked first (Verify), then before is called with what it holds, and only
// where that is content the present file gets another name, aside, and the copy
// its own, in one step: at no moment is there no queue. aside is empty where none
// was there. It fails with ErrLocked where anybody has the queue open. Whatever
// fails leaves the present file as it is.
func Restore(dir, from, why string, before func(Copy) error) (c Copy, aside string, err error) {
	if _, err := durable.MkdirAll(dir, dirMode); err != nil {
		return c, "", explain(err, dir)
	}
	lock, err := lockDir(dir, false, restoreWait)
	if err != nil {
		return c, "", err
	}
	defer lock.Close()
	name := halfPath(dir)
	defer func() {
		if err != nil {
			_ = os.Remove(name)
		}
	}()
	if c, err = fetch(dir, from, name); err != nil {
		return c, "", err
	}
	if err := before(c); err != nil {
		return c, "", err
	}
	if aside, err = setAside(dir, why); err != nil {
		return c, "", err
	}
	if err := durable.Publish(name, dbPath(dir), true); err != nil {
		return c, "", err
	}
	// What was suspected of the file before says nothing of this one.
	return c, aside, errors.Join(notSuspected(dir), durable.SyncDir(dir))
}

// fetch copies the file beside the queue and checks it there, so that what was
// checked is what is used.
func fetch(dir, from, name string) (Copy, error) {
	info, err := os.Stat(from)
	if err != nil {
		return Copy{}, err
	}
	if !info.Mode().IsRegular() {
		return Copy{}, &DamageError{File: from, Finding: "not a regular file", Mend: "name a copy that assetd backup made"}
	}
	if there, err := os.Stat(dbPath(dir)); err == nil && os.SameFile(there, info) {
		return Copy{}, fmt.Errorf("%s is the queue itself: name a copy of it", from)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return Copy{}, err
	}
	if err := durable.CopyFile(from, name); err != nil {
		return Copy{}, err
	}
	if err := likeOwner(dir, name); err != nil {
		return Copy{}, err
	}
	c, err := Verify(name)
	c.Path = from
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		damage.File, damage.Mend = from, "it is no copy to go on with: take another one"
	}
	return c, err
}

// likeOwner gives what root puts into a state directory to who owns that: the
// daemon has to write it.
func likeOwner(dir, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("whose %s is: %w", dir, err)
	}
	return os.Chown(name, int(st.Uid), int(st.Gid))
}

// setAside gives the present file a second name, durably, under which it stays
// when the first one is another's.
func setAside(dir, why string) (string, error) {
	path := dbPath(dir)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	stem := path + "." + why + "-" + time.Now().UTC().Format(copyTime)
	for n := 1; ; n++ {
		aside := stem
		if n > 1 {
			aside = fmt.Sprintf("%s-%d", stem, n)
		}
		if _, err := os.Lstat(aside); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return "", err
			}
			continue
		}
		switch {
		case !info.Mode().IsRegular():
			err = os.Rename(path, aside)
		case os.Link(path, aside) != nil: // not every file system has links
			err = durable.CopyFile(path, aside)
		}
		if err != nil {
			return "", fmt.Errorf("moving %s aside: %w", path, err)
		}
		return aside, durable.SyncDir(dir)
	}
}

// A queue that died of damage leaves a note, so that the next Open looks at every
// record: what bbolt's own check passes over would end one process after another.
func suspectPath(dir string) string { return dbPath(dir) + ".suspect" }

func (q *Queue) suspect(cause error) {
	if damage := (*DamageError)(nil); errors.As(cause, &damage) && !q.options.ReadOnly {
		_ = os.WriteFile(suspectPath(q.dir), []byte(cause.Error()+"\n"), 0o600) // best effort: the process ends
	}
}

// acquit reads every record where the last process died of damage.
func (q *Queue) acquit() error {
	if gone, err := missing(suspectPath(q.dir)); gone || err != nil {
		return err
	}
	if err := q.readAll(); err != nil || q.options.ReadOnly {
		return err
	}
	q.warn("the last assetd ended since the queue " + filepath.Base(q.Path()) + " seemed to be damaged; every record was read, and it is not")
	return notSuspected(q.dir)
}

func notSuspected(dir string) error {
	if err := os.Remove(suspectPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Missing is damage where the queue's file is not there; nil: something is.
func Missing(dir string) (*DamageError, error) {
	gone, err := missing(dbPath(dir))
	if err != nil || !gone {
		return nil, err
	}
	return &DamageError{File: dbPath(dir), Finding: "it is gone", Mend: mend}, nil
}
