// Package durable is the common floor of what has to survive power loss: it makes and
// syncs directories, writes new files, publishes them under their final names, and
// renames without replacing.
//
// It has two kinds of functions. Those that take a path are for places that only the
// daemon's user can write to. Those that take an open directory and a name reach nothing
// outside of that directory and follow no symbolic link at the name: they are for places
// that others can write to.
//
// It holds no state. All functions are safe for concurrent use.
package durable

import (
	"errors"
	"io"
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
	return kernel().mkdirAll(filepath.Clean(path), mode)
}

// system is the calls that a test records and lets fail.
type system struct {
	mkdir           func(path string, mode fs.FileMode) error
	sync            func(dir string) error
	renameNoReplace func(from *os.File, name string, to *os.File, as string) error
}

func kernel() system { return system{os.Mkdir, SyncDir, RenameNoReplace} }

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
	if CannotSync(err) {
		return nil
	}
	return err
}

// CannotSync reports whether syncing a directory failed because the file system cannot
// sync directories.
func CannotSync(err error) bool { return Unsupported(err) || errors.Is(err, unix.ENOTTY) }

// Create makes a new file in an open directory, with mode 0600, has fill write it, and
// syncs and closes it. It fails with fs.ErrExist where the name exists. After any other
// error there is no such file.
func Create(dir *os.File, name string, fill func(f *os.File) error) error {
	path := filepath.Join(dir.Name(), name)
	var fd int
	err := Control(dir, func(dirFD int) (err error) {
		fd, err = unix.Openat(dirFD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "create", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil { // NFS reports a full disk here
		err = closeErr
	}
	if err != nil {
		return errors.Join(err, Remove(dir, name))
	}
	return nil
}

// CopyFile copies a file to a new one with mode 0600 and syncs its bytes, not its name.
func CopyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	dir, err := OpenDir(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	return Create(dir, filepath.Base(to), func(f *os.File) error {
		_, err := io.Copy(f, source)
		return err
	})
}

// Publish gives a written file its final name, in the same directory: it syncs the file,
// renames it and syncs the directory. Where replace is false and the name exists, it
// fails with fs.ErrExist; file systems that cannot rename without replacing are asked
// for the name before the rename.
func Publish(temp, name string, replace bool) error { return kernel().publish(temp, name, replace) }

func (s system) publish(temp, name string, replace bool) error {
	dir, err := OpenDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := os.Open(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	from, to := filepath.Base(temp), filepath.Base(name)
	if !replace {
		err = s.renameNoReplace(dir, from, dir, to)
		if Unsupported(err) {
			_, err = os.Lstat(name)
			switch {
			case err == nil:
				err = &fs.PathError{Op: "rename", Path: name, Err: fs.ErrExist}
			case errors.Is(err, fs.ErrNotExist):
				replace, err = true, nil
			}
		}
	}
	if replace {
		err = Rename(dir, from, dir, to)
	}
	if err != nil {
		return err
	}
	return Sync(dir)
}

// Rename renames a file between two open directories, over another where the new name
// exists.
func Rename(from *os.File, name string, to *os.File, as string) error {
	return rename(from, name, to, as, 0)
}

// RenameNoReplace renames a file between two open directories and fails with
// fs.ErrExist where the new name exists: renameat2(2) with RENAME_NOREPLACE, since
// Linux 3.15. File systems without it (NFS) fail with an error that Unsupported
// reports.
func RenameNoReplace(from *os.File, name string, to *os.File, as string) error {
	return rename(from, name, to, as, unix.RENAME_NOREPLACE)
}

func rename(from *os.File, name string, to *os.File, as string, flags uint) error {
	err := Control(from, func(fromFD int) error {
		return Control(to, func(toFD int) error {
			if flags == 0 {
				return unix.Renameat(fromFD, name, toFD, as)
			}
			return unix.Renameat2(fromFD, name, toFD, as, flags)
		})
	})
	if err != nil {
		return &os.LinkError{Op: "rename", Old: filepath.Join(from.Name(), name), New: filepath.Join(to.Name(), as), Err: err}
	}
	return nil
}

// Remove removes a file from an open directory. A name that does not exist is no error.
func Remove(dir *os.File, name string) error {
	err := Control(dir, func(dirFD int) error { return unix.Unlinkat(dirFD, name, 0) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}

// Control makes a system call with the descriptor of an open file, which stays open
// meanwhile, and repeats it as Uninterrupted does.
func Control(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = Uninterrupted(func() error { return call(int(fd)) })
	})
	if err != nil {
		return err
	}
	return failed
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
