package inbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// The modes of the directories made here, as asked for and as they are at least,
// whatever the umask: whoever is in the group of the drop directory may hand in,
// and what they hand in belongs to that group; so the group passes through what is
// above it, too.
const (
	dirMode    = 0o770
	dirLeast   = unix.S_ISGID | 0o770
	aboveMode  = 0o755
	aboveLeast = 0o050
)

// Prepare makes the drop directory with accepted/ and rejected/ in it (mode 02770)
// and what is missing above it, whatever the umask, and gives the topmost directory
// that it made; none where all was there. Each appears with its mode at once, so
// that a crash leaves none half made, and what root makes belongs to the owner of
// the directory above. What is there stays as its administrator has set it.
func Prepare(dir string) (made string, err error) {
	made, err = makeAbove(filepath.Dir(dir))
	if err != nil {
		return made, fmt.Errorf("drop directory: %w", err)
	}
	for _, path := range []string{dir, filepath.Join(dir, acceptedDir), filepath.Join(dir, rejectedDir)} {
		news, err := makeDir(path, dirMode, dirLeast)
		if err != nil {
			return made, fmt.Errorf("drop directory: %w", err)
		}
		if news && made == "" {
			made = path
		}
	}
	return made, nil
}

// makeAbove makes a directory and all that is missing above it, and gives the
// topmost that it made.
func makeAbove(path string) (made string, err error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return "", err
	}
	if made, err = makeAbove(filepath.Dir(path)); err != nil {
		return made, err
	}
	news, err := makeDir(path, aboveMode, aboveLeast)
	if news && made == "" {
		made = path
	}
	return made, err
}

// makeDir makes a directory, durably, where there is none.
func makeDir(path string, mode, least uint32) (made bool, err error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "use", Path: path, Err: unix.ENOTDIR}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	above := newFolder(filepath.Dir(path))
	if err := above.open(); err != nil {
		return false, err
	}
	defer above.close()
	return above.makeDir(filepath.Base(path), mode, least)
}

// makeDir makes a directory in the folder, under a name that Pending keeps back
// until it is what it should be: two that do so at a time get the same one.
func (f *folder) makeDir(name string, mode, least uint32) (made bool, err error) {
	path := f.path + "/" + name
	temp := "." + name + "." + rand.Text()[:8] + ".tmp"
	if err := durable.Uninterrupted(func() error { return unix.Mkdirat(f.fd(), temp, mode) }); err != nil {
		return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if err := f.finishDir(temp, least); err != nil {
		return false, errors.Join(&fs.PathError{Op: "mkdir", Path: path, Err: err}, f.removeDir(temp))
	}
	if err := rename(f, temp, f, name); err != nil {
		removed := f.removeDir(temp)
		if errors.Is(err, fs.ErrExist) {
			_, err = os.Stat(path) // made by another meanwhile, unless a symlink leads nowhere
		}
		return false, errors.Join(err, removed)
	}
	return true, durable.Sync(f.dir)
}

// finishDir gives a new directory its owner and mode. File systems without them
// (vfat, some network mounts) are let pass: there the mount says who may what.
func (f *folder) finishDir(name string, least uint32) error {
	fd, err := unix.Openat(f.fd(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var above, st unix.Stat_t
	if err := errors.Join(unix.Fstat(f.fd(), &above), unix.Fstat(fd, &st)); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		err = unix.Fchown(fd, int(above.Uid), int(above.Gid)) // before the mode, which it would change
	}
	for _, err := range []error{err, unix.Fchmod(fd, uint32(st.Mode)&0o7777|least)} {
		if err != nil && !errors.Is(err, fs.ErrPermission) && !durable.Unsupported(err) {
			return err
		}
	}
	return nil
}

func (f *folder) removeDir(name string) error {
	err := durable.Uninterrupted(func() error { return unix.Unlinkat(f.fd(), name, unix.AT_REMOVEDIR) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: f.path + "/" + name, Err: err}
	}
	return nil
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
