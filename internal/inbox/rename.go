package inbox

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// moveFile moves a file without ever replacing another: fs.ErrExist says that
// the new name is taken. Onto another device it is copied.
func moveFile(from *folder, name string, to *folder, as string, want stamp) error {
	err := rename(from, name, to, as)
	if err == nil || errors.Is(err, fs.ErrExist) && !from.free(name) {
		return err
	}
	if errors.Is(err, unix.EXDEV) {
		return copyFile(from, name, to, as, want)
	}
	// An NFS server that repeats an answer fails a rename that has worked (P4.1).
	if st, statErr := to.lstat(as); statErr == nil && st.same(want) && from.free(name) {
		return nil
	}
	return err
}

// rename renames without replacing. Where the file system has no such call it
// links and unlinks, which cannot replace either; where it has no links it looks
// first.
func rename(from *folder, name string, to *folder, as string) error {
	err := durable.RenameNoReplace(from.dir, name, to.dir, as)
	if durable.Unsupported(err) {
		err = durable.Uninterrupted(func() error { return unix.Linkat(from.fd(), name, to.fd(), as, 0) })
		if err == nil {
			return removeMoved(from, name, to, as)
		}
	}
	if durable.Unsupported(err) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) {
		if to.free(as) {
			return durable.Rename(from.dir, name, to.dir, as)
		}
		return &os.LinkError{Op: "rename", Old: from.path + "/" + name, New: to.path + "/" + as, Err: unix.EEXIST}
	}
	return err
}

// copyFile copies a file to another device, with mode and mtime, and removes it
// when the copy is durable.
func copyFile(from *folder, name string, to *folder, as string, want stamp) (err error) {
	source, err := from.openFile(name)
	if err != nil {
		return err
	}
	defer source.Close()
	var st unix.Stat_t
	if err := durable.Uninterrupted(func() error { return unix.Fstat(int(source.Fd()), &st) }); err != nil {
		return &fs.PathError{Op: "stat", Path: source.Name(), Err: err}
	}
	if is := stampOf(&st); !is.same(want) || !is.usable() { // another may have got its name
		return errChanged
	}
	const temp = ".moving.part"
	if err := to.remove(temp); err != nil { // of a copy that a crash cut short
		return err
	}
	err = durable.Create(to.dir, temp, func(target *os.File) error {
		if err := setMode(target, fs.FileMode(st.Mode)&0o777); err != nil {
			return err
		}
		_, err := io.Copy(target, source)
		return err
	})
	if err != nil {
		return err
	}
	mtime := unix.NsecToTimespec(want.mtime)
	err = unix.UtimesNanoAt(to.fd(), temp, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		if st, statErr := from.lstat(name); statErr != nil || !st.same(want) {
			err = errChanged
		}
	}
	if err == nil {
		err = rename(to, temp, to, as)
	}
	if err != nil {
		return errors.Join(err, to.remove(temp))
	}
	return removeMoved(from, name, to, as)
}

// removeMoved removes the old name of a file that has its new one, or takes that
// back: a file that cannot leave must not be multiplied by every try.
func removeMoved(from *folder, name string, to *folder, as string) error {
	if err := from.remove(name); err != nil {
		return errors.Join(err, to.remove(as))
	}
	return nil
}
