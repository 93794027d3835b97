package storage

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// halfMadeMode is the mode of a directory between its making and its chmod, where
// the umask takes something from storage.dir_mode. Nobody gives it on purpose, as
// the sticky bit says nothing where only the owner may enter: what a crash leaves
// half made shows, and what others have made stays as they made it.
const halfMadeMode = fs.ModeSticky | 0o700

func halfMade(info fs.FileInfo) bool {
	return info.Mode()&(fs.ModePerm|fs.ModeSticky) == halfMadeMode
}

// newDirMode is the mode to make a directory with.
func (v *Volume) newDirMode() fs.FileMode {
	if v.masked {
		return halfMadeMode
	}
	return v.DirMode.Perm()
}

// setMode gives a directory made here its mode whatever the umask.
func (d *folder) setMode(info fs.FileInfo) error {
	h, err := d.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	return d.m.v.chmodDir(h, info)
}

// finishDir gives a directory its mode that was made here, a moment ago or before a
// crash; any other it leaves alone.
func (v *Volume) finishDir(h *os.File) error {
	info, err := h.Stat()
	if err != nil || !halfMade(info) {
		return err
	}
	return v.chmodDir(h, info)
}

// chmodDir gives an open directory storage.dir_mode. It stays set-group-ID where it
// has that from the one above, so that what comes into it belongs to that group.
func (v *Volume) chmodDir(h *os.File, info fs.FileInfo) error {
	if info.Mode()&(fs.ModePerm|fs.ModeSticky) == v.DirMode.Perm() {
		return nil
	}
	return v.chmod(h, v.DirMode.Perm()|info.Mode()&fs.ModeSetgid)
}

// chmod sets a mode where the file system knows modes; SMB and others that know
// none may refuse.
func (v *Volume) chmod(f *os.File, mode fs.FileMode) error {
	err := v.sys.chmod(f, mode)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// umask is what this process's new files lack; everything where the kernel does
// not tell (proc(5): from 4.7 on).
func umask() fs.FileMode {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fs.ModePerm
	}
	_, rest, _ := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 9)
	if err != nil {
		return fs.ModePerm
	}
	return fs.FileMode(mask)
}
