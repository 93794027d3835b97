package inbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/testenv"
)

// unprivileged runs f with the file access of nobody: file system permissions do
// not hold for root.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.Setfsgid(nobody)
	syscall.Setfsuid(nobody)
	defer syscall.Setfsgid(0)
	defer syscall.Setfsuid(0)
	if _, err := os.ReadFile("/proc/1/environ"); err == nil {
		t.Fatal("still root")
	}
	f()
}

func TestAFileWithoutPermissionIsToldOnceAndTakenWhenItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		data, old := filepath.Dir(b.dir), time.Now().Add(-time.Hour)
		root := filepath.Dir(data)
		b.writeAt("closed.txt", "run1", old)
		b.writeAt("omps2OH829", "", old) // its name says all
		b.writeAt("open.txt", "run2", old)
		for path, mode := range map[string]fs.FileMode{
			filepath.Dir(root): 0o755, root: 0o755, data: 0o755, b.dir: 0o777, b.accepted.path: 0o777, b.rejected.path: 0o777,
			b.dir + "/closed.txt": 0, b.dir + "/omps2OH829": 0, b.dir + "/open.txt": 0o644,
		} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		passes := 0
		for start := time.Now(); time.Since(start) < 9*time.Minute; passes++ {
			var due time.Time
			unprivileged(t, func() { due = b.pass(t.Context()) })
			time.Sleep(time.Until(due))
		}
		b.holds("accepted/omps2OH829 accepted/open.txt closed.txt", "omps2OH829 run2")
		if told := strings.Join(b.events(), "\n"); strings.Count(told, "closed.txt") != 1 {
			t.Errorf("told:\n%s", told)
		}
		if passes > 200 {
			t.Errorf("%d passes in 9 minutes", passes)
		}
		if err := os.Chmod(b.dir+"/closed.txt", 0o644); err != nil {
			t.Fatal(err)
		}
		unprivileged(t, func() { b.pass(t.Context()) })
		b.holds("accepted/closed.txt accepted/omps2OH829 accepted/open.txt", "omps2OH829 run1 run2")
	})
}

// Somebody's FUSE mount in the drop directory, a bad sector: only the entry itself
// is beyond reach.
func TestAnEntryThatCannotBeLookedAtHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		for _, name := range []string{"a.txt", "mount", "z.txt"} {
			b.writeAt(name, "run"+name[:1], old)
		}
		var mended atomic.Bool
		b.drop.statAt = func(dir int, name string, st *unix.Stat_t, flags int) error {
			if name == "mount" && !mended.Load() {
				return unix.EACCES
			}
			return unix.Fstatat(dir, name, st, flags)
		}
		stop := b.start()
		defer stop()
		rest(9 * time.Minute)
		b.holds("accepted/a.txt accepted/z.txt mount", "runa runz")
		if told := strings.Join(b.events(), "\n"); strings.Count(told, "cannot be taken yet drop/mount") != 1 || strings.Contains(told, "directory") {
			t.Errorf("told:\n%s", told)
		}
		mended.Store(true)
		rest(15 * time.Second)
		b.holds("accepted/a.txt accepted/mount accepted/z.txt", "runa runm runz")
	})
}

func TestADirectoryThatMayBeListedButNotEnteredIsToldAsSuch(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to look as another user")
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.writeAt("x.txt", "run1", time.Now().Add(-time.Hour))
		data := filepath.Dir(b.dir)
		root := filepath.Dir(data)
		for path, mode := range map[string]fs.FileMode{filepath.Dir(root): 0o755, root: 0o755, data: 0o755, b.dir: 0o744} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		unprivileged(t, func() { b.pass(t.Context()) })
		b.expect("drop directory cannot be read drop 0")
	})
}

func TestAFileThatCannotBeMovedIsTakenOnceAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		data, old := filepath.Dir(b.dir), time.Now().Add(-time.Hour)
		root := filepath.Dir(data)
		b.writeAt("x.txt", "run1", old)
		b.writeAt("bad.txt", "run2\n!", old)
		for path, mode := range map[string]fs.FileMode{ // sticky, and the files are another's
			filepath.Dir(root): 0o755, root: 0o755, data: 0o755, b.dir: 0o777 | fs.ModeSticky, b.accepted.path: 0o777, b.rejected.path: 0o777,
			b.dir + "/x.txt": 0o644, b.dir + "/bad.txt": 0o644,
		} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if os.Geteuid() != 0 {
			testenv.Missing(t, "root, to make files of another user")
		}
		look := func(d time.Duration) {
			for start := time.Now(); time.Since(start) < d; {
				var due time.Time
				unprivileged(t, func() { due = b.pass(t.Context()) })
				time.Sleep(time.Until(due))
			}
		}
		look(9 * time.Minute)
		b.holds("bad.txt x.txt", "run1 run2")
		if told := b.events(); len(told) != 2 {
			t.Errorf("told %q, want each file once", told)
		}
		if b.ledger.adds() != 1 {
			t.Errorf("read %d times", b.ledger.adds())
		}
		if err := os.Chmod(b.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		look(2 * time.Minute)
		b.holds("accepted/x.txt rejected/bad.txt rejected/bad.txt.error", "run1 run2")
	})
}
