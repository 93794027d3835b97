// Package durable is the common floor of what has to survive power loss: it makes
// directories, syncs them, and renames without replacing.
//
// It holds no state. All functions are safe for concurrent use.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MkdirAll makes a directory and those missing above it, as os.MkdirAll does, and
// syncs the parent of each directory that it makes before it makes the next one.
// When it returns without an error, the directories it made survive power loss.
// Directories that exist are left as they are. It reports whether it made path
// itself. An error names the path that it is about.
func MkdirAll(path string, mode fs.FileMode) (made bool, err error) {
	return system{mkdir: os.Mkdir, sync: SyncDir}.mkdirAll(filepath.Clean(path), mode)
}

// system is the calls of MkdirAll, so that a test can record and fail them.
type system struct {
	mkdir func(path string, mode fs.FileMode) error
	sync  func(dir string) error
}

func (s system) mkdirAll(path string, mode fs.FileMode) (made bool, err error) {
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return false, nil
	case err == nil:
		return false, &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if _, err := s.mkdirAll(parent, mode); err != nil {
			return false, err
		}
	}
	err = s.mkdir(path, mode)
	if errors.Is(err, fs.ErrExist) {
		// Another process made it meanwhile, and may not have synced it yet. Where it is
		// no directory (a symbolic link to nowhere) the error is right.
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return false, s.sync(parent)
		}
	}
	if err != nil {
		return false, err
	}
	return true, s.sync(parent)
}

// OpenDir opens a directory for Sync and for calls relative to it. It never opens
// anything else, so it cannot block in a FIFO that replaced the directory.
func OpenDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	dir, err := OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(Sync(dir), dir.Close())
}

// Sync makes the names in an open directory durable. It returns nil for file systems
// that cannot sync a directory (CIFS before Linux 4.17, some FUSE).
func Sync(dir *os.File) error {
	err := dir.Sync()
	if Unsupported(err) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return err
}

// RenameNoReplace renames a file between two open directories and fails with
// fs.ErrExist where the new name exists: renameat2(2) with RENAME_NOREPLACE, since
// Linux 3.15. File systems without it (NFS) fail with an error that Unsupported
// reports.
func RenameNoReplace(from int, name string, to int, as string) error {
	return Uninterrupted(func() error { return unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE) })
}

// Unsupported reports whether a call failed because the file system does not have it.
func Unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTSUP)
}

// Uninterrupted repeats a system call that a signal interrupted. On CIFS and FUSE the
// signals of Go's own scheduler do that (signal(7), SA_RESTART; Go issue 38836).
func Uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
