package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/dropfile"
)

// dirMode is that of the directories made here: whoever is in their group may
// hand in, and what they hand in belongs to that group.
const dirMode = fs.ModeSetgid | 0o770

// Prepare makes the drop directory with accepted/ and rejected/ in it, where they
// are missing: mode 02770 whatever the umask. What is there is left as it is.
func Prepare(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("drop directory: make the directory above it: %w", err)
	}
	for _, path := range []string{dir, filepath.Join(dir, acceptedDir), filepath.Join(dir, rejectedDir)} {
		if err := makeDir(path); err != nil {
			return fmt.Errorf("drop directory: %w", err)
		}
	}
	return nil
}

// makeDir makes a directory, durably, where there is none.
func makeDir(path string) error {
	err := os.Mkdir(path, 0o770)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "use", Path: path, Err: unix.ENOTDIR}
		}
		return err
	}
	if err != nil {
		return err
	}
	// The umask had its say in Mkdir. What stands there by now may be another's.
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	err = d.Chmod(dirMode)
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return dropfile.SyncDir(filepath.Dir(path))
}

// hint says what a person can do about a directory.
func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make it again, or mount it; it is looked for every drop.rescan"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("user %d needs to read, write and enter it", os.Geteuid())
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return "something that is no directory stands there: move it away"
	}
	return ""
}
