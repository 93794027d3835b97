package boltkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue/kv"
)

// Why a file was moved aside; it is part of the name that it gets.
const (
	AsideDamaged  = "damaged"
	AsideReplaced = "replaced"
)

// restoreWait is how long a restoration waits for who holds the lock.
const restoreWait = time.Second

// Restore puts a copy in the place of a state directory's file, durably: judge is called
// with the path of a copy of it that is already in place to be renamed, and only where
// that returns no error the present file gets another name, aside, and the copy its own,
// in one step: at no moment is there no queue. aside is empty where none was there. It
// fails with ErrLocked where anybody has the file open. Whatever fails leaves the present
// file as it is.
func Restore(dir, from, why string, judge func(path string) error) (aside string, err error) {
	if _, err := durable.MkdirAll(dir, dirMode); err != nil {
		return "", Explain(err, dir)
	}
	lock, err := lockDir(dir, false, restoreWait)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	name := halfPath(dir)
	defer func() {
		if err != nil {
			_ = os.Remove(name)
		}
	}()
	if err := fetch(dir, from, name); err != nil {
		return "", err
	}
	if err := judge(name); err != nil {
		return "", err
	}
	if aside, err = setAside(dir, why); err != nil {
		return "", err
	}
	if err := durable.Publish(name, Path(dir), true); err != nil {
		return "", err
	}
	// What was suspected of the file before says nothing of this one.
	return aside, errors.Join(notSuspected(dir), durable.SyncDir(dir))
}

// fetch copies the file next to the present one, so that what is judged is what is used.
func fetch(dir, from, name string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &kv.DamageError{File: from, Finding: "not a regular file", Hint: "name a copy that assetd backup made"}
	}
	if there, err := os.Stat(Path(dir)); err == nil && os.SameFile(there, info) {
		return fmt.Errorf("%s is the queue itself: name a copy of it", from)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return err
	}
	if err := durable.CopyFile(from, name); err != nil {
		return err
	}
	return likeOwner(dir, name)
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
	path := Path(dir)
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
func suspectPath(dir string) string { return Path(dir) + ".suspect" }

func (s *Store) suspect(cause error) {
	_ = os.WriteFile(suspectPath(s.dir), []byte(cause.Error()+"\n"), 0o600) // best effort: the process ends
}

// acquit reads every record where the last process died of damage.
func (s *Store) acquit() error {
	if gone, err := missing(suspectPath(s.dir)); gone || err != nil {
		return err
	}
	err := s.db.View(func(tx *bolt.Tx) error { return s.checkAt(tx, Records) })
	if err != nil || s.options.ReadOnly {
		return err
	}
	s.warn("the last assetd ended since the queue " + filepath.Base(s.path) + " seemed to be damaged; every record was read, and it is not")
	return notSuspected(s.dir)
}

func notSuspected(dir string) error {
	if err := os.Remove(suspectPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Missing returns a damage where the file is not there; nil where something is.
func Missing(dir string) (*kv.DamageError, error) {
	gone, err := missing(Path(dir))
	if err != nil || !gone {
		return nil, err
	}
	damage := kv.Damaged("it is gone", nil)
	damage.File = Path(dir)
	return damage, nil
}
