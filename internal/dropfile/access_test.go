package dropfile

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// as runs f as another user, on a thread that is not used again.
func as(t *testing.T, uid, gid uintptr, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to become another user")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for _, call := range [][]uintptr{{syscall.SYS_SETGROUPS, 0, 0, 0}, {syscall.SYS_SETRESGID, gid, gid, gid}, {syscall.SYS_SETRESUID, uid, uid, uid}} {
			if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				t.Errorf("become user %d: %v", uid, errno)
				return
			}
		}
		f()
	}()
	<-done
}

func TestWhoMayNotHandInIsToldWhichGroupToJoin(t *testing.T) {
	const uid, gid, other = 65501, 65502, 65503 // without names
	group, name := strconv.Itoa(other), strconv.Itoa(uid)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	for what, c := range map[string]struct {
		above, drop       fs.FileMode
		owner, groupOfDir int
		want              string
	}{
		"another group":       {0o755, 0o770, 0, other, "/drop is for the group " + group + `: have root run "usermod -aG ` + group + " " + name + `" and log in anew`},
		"hidden above":        {0o750, 0o770, 0, other, "/data is for the group " + group + `: have root run "usermod -aG ` + group + " " + name + `"`},
		"its group may not":   {0o755, 0o700, 0, gid, "chmod g+rwx "},
		"its own":             {0o755, 0o500, uid, gid, "chmod u+rwx "},
		"root's alone":        {0o755, 0o755, 0, 0, "/drop is open to root alone"},
		"not there, not made": {0o755, 0, 0, other, "start the daemon once"},
	} {
		root := t.TempDir()
		data := filepath.Join(root, "data")
		dir := filepath.Join(data, "drop")
		err := errors.Join(os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, 0o755), os.Mkdir(data, 0o700), os.Chown(data, 0, c.groupOfDir), os.Chmod(data, c.above))
		if c.drop != 0 {
			err = errors.Join(err, os.Mkdir(dir, 0o700), os.Chown(dir, c.owner, c.groupOfDir), os.Chmod(dir, c.drop))
		}
		if err != nil {
			if os.Geteuid() != 0 {
				testenv.Missing(t, "root, to make directories of other groups")
			}
			t.Fatal(err)
		}
		as(t, uid, gid, func() {
			var err error
			if c.drop != 0 {
				_, err = Write(dir, []run.HandIn{{ID: "run1"}})
			} else {
				err = Explain(dir, os.Mkdir(dir, 0o770))
			}
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v\nwant %s", what, err, c.want)
			}
		})
	}
}
