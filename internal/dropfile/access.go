package dropfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// Explain adds to an error what whoever wants to write into the drop directory
// can do about it.
func Explain(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: is drop.dir right? The daemon makes the directory at its start", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s", err, admission(dir))
	}
	return err
}

// admission is how this user comes to write into a directory: by its group, or by
// that of the nearest directory above it that can be seen.
func admission(dir string) string {
	name, at := me(), dir
	info, err := os.Stat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("user %s may not make it: start the daemon once, or have root make it for the daemon's user: install -d -m 2770 -o USER -g GROUP %s", name, dir)
	}
	for err != nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	uid, gid, ok := owners(info)
	if !ok {
		return fmt.Sprintf("user %s needs to be in the group of %s", name, dir)
	}
	group := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	mine, _ := os.Getgroups() // without them the group's name is still right
	switch {
	case uid == os.Geteuid():
		return fmt.Sprintf("user %s owns %s: chmod u+rwx %s", name, at, at)
	case gid == os.Getegid() || slices.Contains(mine, gid):
		return fmt.Sprintf("user %s is in the group %s, but that may not write there: have its owner run \"chmod g+rwx %s\"", name, group, at)
	case gid == 0: // nobody should join this one
		return fmt.Sprintf("%s is open to root alone: hand in as the daemon's user, or have root open it to a group that user %s is in", at, name)
	}
	return fmt.Sprintf("%s is for the group %s: have root run \"usermod -aG %s %s\" and log in anew", at, group, group, name)
}

// me is this process's user, by name where there is one.
func me() string {
	id := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func owners(info fs.FileInfo) (uid, gid int, ok bool) {
	if info == nil {
		return 0, 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// share gives a new file to the directory's group, and one of root's to the
// directory's owner, so that the daemon can read it also where the directory is
// not set-group-ID. Where that is not allowed the file is as good as it can be.
func share(f, dir *os.File) {
	info, err := dir.Stat()
	owner, group, ok := owners(info)
	if err != nil || !ok {
		return
	}
	if os.Geteuid() != 0 {
		owner = -1
	}
	_ = f.Chown(owner, group) // see above
}
