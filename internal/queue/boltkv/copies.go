package boltkv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The copies that the daemon makes are in one directory, under names that sort by the
// time at which they were made.
const (
	copyStem = "queue-"
	copyExt  = ".db"
	copyTime = "20060102T150405Z"
)

// ahead is how far a copy's name may be in the future; more is a clock that was
// wrong, and says nothing of how new the copy is.
const ahead = time.Minute

// BackupDir is where the copies of a state directory's file are.
func BackupDir(stateDir string) string { return filepath.Join(stateDir, "backups") }

// StoredCopy is a copy in such a directory, by its name alone.
type StoredCopy struct {
	Path string
	At   time.Time // UTC, in seconds
}

// CopyPath is the path of a copy that is made at this time.
func CopyPath(dir string, at time.Time) string {
	return filepath.Join(dir, copyStem+at.UTC().Format(copyTime)+copyExt)
}

// Copies lists a directory's copies, the newest first; those that say they are
// from the future come last. A directory that is not there has none.
func Copies(dir string, now time.Time) ([]StoredCopy, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []StoredCopy
	for _, e := range entries {
		name, stem := strings.CutPrefix(e.Name(), copyStem)
		name, ext := strings.CutSuffix(name, copyExt)
		at, err := time.Parse(copyTime, name)
		if stem && ext && err == nil && e.Type().IsRegular() {
			found = append(found, StoredCopy{filepath.Join(dir, e.Name()), at})
		}
	}
	late := now.Add(ahead)
	slices.SortFunc(found, func(a, b StoredCopy) int {
		if af, bf := a.At.After(late), b.At.After(late); af != bf {
			if af {
				return 1
			}
			return -1
		}
		return b.At.Compare(a.At)
	})
	return found, nil
}

// Prune removes all but the newest keep copies of a directory, and what a crash
// left half written there.
func Prune(dir string, now time.Time, keep int) error {
	copies, err := Copies(dir, now)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range copies[min(keep, len(copies)):] {
		failed = append(failed, os.Remove(c.Path))
	}
	half, _ := filepath.Glob(HalfCopy(filepath.Join(dir, copyStem+"*"+copyExt))) // the pattern is ours
	for _, path := range half {
		failed = append(failed, os.Remove(path))
	}
	return errors.Join(failed...)
}
