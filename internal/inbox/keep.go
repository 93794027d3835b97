package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/dropfile"
)

// Expire removes accepted drop files of a drop directory that were last changed, or
// moved, before the given time. Rejected ones stay, and so does what is no regular
// file and what may still be read again (10 minutes after its mtime, by the local
// clock). removed says how many went; an error does not stop it.
func Expire(ctx context.Context, dir string, before time.Time) (removed int, err error) {
	err = below(dir, acceptedDir, func(_, f *folder) error {
		var failed error
		now := time.Now()
		err := f.each(func(name string, st stamp) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !st.regular || !st.newest().Before(before) || st.age(now) < lookAgain {
				return nil
			}
			if err := f.remove(name); err != nil {
				failed = err
				return nil
			}
			removed++
			return nil
		})
		return errors.Join(err, failed)
	})
	if err != nil {
		return removed, fmt.Errorf("removing accepted drop files: %w", err)
	}
	return removed, nil
}

// newest is when the file was last changed or moved: a file that was written long
// ago may have been handed in just now, and only its ctime knows.
func (s stamp) newest() time.Time { return time.Unix(0, max(s.mtime, s.ctime)) }

// below opens a folder of a drop directory for as long as do takes. Neither it nor
// its folder is made; one that is not there is nothing to do.
func below(dir, name string, do func(drop, f *folder) error) error {
	drop, f := newFolder(dir), newFolder(filepath.Join(dir, name))
	if err := drop.open(); err != nil {
		return err
	}
	defer drop.close()
	if err := f.openAt(drop.fd(), name, unix.O_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer f.close()
	return do(drop, f)
}

// each calls do with every file of the folder but those on their way.
func (f *folder) each(do func(name string, st stamp) error) error {
	for {
		names, err := f.dir.Readdirnames(1024)
		for _, name := range names {
			if dropfile.Pending(name) {
				continue
			}
			st, err := f.lstat(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := do(name, st); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", f.path, err)
		}
	}
}
