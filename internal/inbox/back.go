package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/durable"
)

// backSlack is how much older than asked for a file is put back all the same: the
// clock of a file server may differ, and a known ID costs nothing.
const backSlack = time.Hour

// PutBack is what Back did.
type PutBack struct {
	Files int
	Left  []string // paths of files that were not put back, since their names may not be the IDs they were handed in as
}

// Back puts drop files that were taken since then back into the drop directory,
// durably, so that they are taken once more; the zero time means all. It is for a
// queue that has forgotten what it took since then, and no daemon may run. What
// was rejected is put back, too: its good IDs were taken. The error names the
// first file that could not be moved; those before it are put back.
func Back(dir string, since time.Time) (b PutBack, err error) {
	for _, name := range []string{acceptedDir, rejectedDir} {
		err := below(dir, name, func(drop, f *folder) error { return b.from(f, drop, since) })
		if err != nil {
			return b, fmt.Errorf("putting drop files back: %w", err)
		}
	}
	return b, nil
}

func (b *PutBack) from(f, drop *folder, since time.Time) error {
	there, wanted := map[string]bool{}, map[string]stamp{} // before anything moves
	err := f.each(func(name string, st stamp) error {
		there[name] = true
		if st.regular && !f.reasons(name) && (since.IsZero() || st.newest().After(since.Add(-backSlack))) {
			wanted[name] = st
		}
		return nil
	})
	if err != nil || len(wanted) == 0 {
		return err
	}
	for name, st := range wanted {
		if st.size == 0 { // its name is its ID
			same, err := drop.lstat(name)
			if err == nil && same.regular && same.size == 0 {
				continue // handed in once more already
			}
			if err == nil || there[unsuffixed(name)] {
				b.Left = append(b.Left, f.path+"/"+name)
				continue
			}
		}
		if err := f.putBack(name, st, drop); err != nil {
			return err
		}
		b.Files++
	}
	slices.Sort(b.Left)
	return errors.Join(durable.Sync(drop.dir), durable.Sync(f.dir))
}

// reasons reports whether this is the file with the reasons beside a rejected one.
func (f *folder) reasons(name string) bool {
	return filepath.Base(f.path) == rejectedDir && filepath.Ext(name) == errorExt
}

// unsuffixed is the name that a file was handed in with which got -2 or the like
// since that one was taken; empty where it has no such end.
func unsuffixed(name string) string {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return ""
	}
	if n, err := strconv.Atoi(name[at+1:]); err != nil || n < 2 {
		return ""
	}
	return name[:at]
}

// putBack moves one file, under the first free of its names, and removes the
// reasons beside it.
func (f *folder) putBack(name string, st stamp, drop *folder) error {
	for n := 1; n <= maxNames; n++ {
		as := numbered(name, n, maxName)
		if !drop.free(as) {
			continue
		}
		err := moveFile(f, name, drop, as, st)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		case filepath.Base(f.path) == rejectedDir:
			return f.remove(name + errorExt)
		}
		return nil
	}
	return fmt.Errorf("move %s/%s to %s: %d files of this name are there", f.path, name, drop.path, maxNames)
}
