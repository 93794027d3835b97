package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/testenv"
)

func TestNoFileIsEverReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		for name, data := range map[string]string{
			"accepted/x.txt": "first", "accepted/x-2.txt": "second", "accepted/omps2OH829": "third",
			"rejected/bad.txt": "fourth", "rejected/bad-2.txt.error": "fifth", "rejected/bad-3.txt": "sixth",
		} {
			b.writeAt(name, data, old)
		}
		b.writeAt("x.txt", "run1", old)
		b.writeAt("omps2OH829", "", old)
		b.writeAt("bad.txt", "!!", old)
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds("accepted/omps2OH829 accepted/omps2OH829-2 accepted/x-2.txt accepted/x-3.txt accepted/x.txt "+
			"rejected/bad-2.txt.error rejected/bad-3.txt rejected/bad-4.txt rejected/bad-4.txt.error rejected/bad.txt", "omps2OH829 run1")
		for name, want := range map[string]string{
			"accepted/x.txt": "first", "accepted/x-2.txt": "second", "accepted/x-3.txt": "run1", "accepted/omps2OH829": "third",
			"rejected/bad.txt": "fourth", "rejected/bad-2.txt.error": "fifth", "rejected/bad-3.txt": "sixth", "rejected/bad-4.txt": "!!",
		} {
			if got := strings.TrimSuffix(b.read(name), "\n"); got != want {
				t.Errorf("%s holds %q, want %q", name, got, want)
			}
		}
	})
}

func TestNumberedNamesAreShortEnoughAndKeepTheirExtension(t *testing.T) {
	for name, want := range map[string]string{"list.txt": "list-2.txt", "omps2OH829": "omps2OH829-2", "a.tar.gz": "a.tar-2.gz", "x." + strings.Repeat("e", 40): "x." + strings.Repeat("e", 40) + "-2"} {
		if got := numbered(name, 2, maxName); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.RuneFrom([]rune("abé世.")), 1, 120, maxName).Draw(t, "name")
		n := rapid.IntRange(1, maxNames).Draw(t, "n")
		got := numbered(name, n, maxName-len(errorExt))
		if len(got)+len(errorExt) > maxName || !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
		if n == 1 && len(name)+len(errorExt) <= maxName && got != name {
			t.Fatalf("%q became %q without need", name, got)
		}
	})
}

func TestTheLongestNameCanBeRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		name := strings.Repeat("n", maxName-4) + ".txt"
		b.writeAt(name, "!", time.Now().Add(-time.Hour))
		stop := b.start()
		rest(time.Second)
		stop()
		cut := strings.Repeat("n", maxName-10) + ".txt"
		b.holds("rejected/"+cut+" rejected/"+cut+".error", "")
	})
}

func TestWhatIsNotARegularFileIsLeftAloneAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		outside := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(outside, []byte("run1"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, make := range map[string]func(path string) error{
			"fifo":     func(path string) error { return unix.Mkfifo(path, 0o666) },
			"link":     func(path string) error { return os.Symlink(outside, path) },
			"dangling": func(path string) error { return os.Symlink("nowhere", path) },
			"dir":      func(path string) error { return os.Mkdir(path, 0o777) },
			"socket": func(path string) error {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
			},
		} {
			if err := make(filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		stop := b.start()
		rest(time.Hour)
		if err := os.Mkdir(filepath.Join(b.dir, "dir", "new"), 0o777); err != nil { // its mtime changes
			t.Fatal(err)
		}
		rest(time.Hour)
		stop()
		told := b.events()
		if len(told) != 5 {
			t.Errorf("told %q, want each once", told)
		}
		b.holds("dangling fifo link socket", "")
	})
}

// Between the look and the reading a file can become another or a symlink.
func TestAFileThatIsNoLongerWhatItWasIsNotRead(t *testing.T) {
	b := newBench(t)
	old := time.Now().Add(-time.Hour)
	b.writeAt("x.txt", "run1", old)
	if err := b.drop.open(); err != nil {
		t.Fatal(err)
	}
	defer b.drop.close()
	st, err := b.drop.lstat("x.txt")
	if err != nil {
		t.Fatal(err)
	}
	p, it := &pass{Inbox: b.Inbox}, &item{from: b.drop, name: "x.txt", look: &look{stamp: st}}
	if err := p.load(it); err != nil || len(it.result.HandIns) != 1 {
		t.Fatalf("unchanged: %v", err)
	}
	b.writeAt("x.txt", "run1andmore", old)
	if err := p.load(it); !errors.Is(err, errChanged) {
		t.Errorf("grown: %v", err)
	}
	path := filepath.Join(b.dir, "x.txt")
	if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
		t.Fatal(err)
	}
	if err := p.load(it); !errors.Is(err, unix.ELOOP) {
		t.Errorf("symlink: %v, want ELOOP", err)
	}
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	if err := p.load(it); !errors.Is(err, errChanged) {
		t.Errorf("fifo: %v", err)
	}
}

func TestReasonsThatCannotBeWrittenAreWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.writeAt("rejected/bad.txt", "run1\n!", time.Now())
		inTheWay := filepath.Join(b.rejected.path, "bad.txt.error")
		if err := os.Mkdir(inTheWay, 0o755); err != nil {
			t.Fatal(err)
		}
		stop := b.start()
		defer stop()
		rest(5 * time.Minute)
		b.holds("rejected/bad.txt", "run1")
		b.expect("drop file cannot be taken yet drop/rejected/bad.txt 0")
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		rest(2 * time.Minute)
		b.holds("rejected/bad.txt rejected/bad.txt.error", "run1")
		if report := b.read("rejected/bad.txt.error"); !strings.Contains(report, "line 2") {
			t.Errorf("report: %q", report)
		}
	})
}

func TestWhereAFolderCannotBeUsedTheIDsAreTakenOnceAndTheFileMovesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		outside := t.TempDir()
		for _, name := range []string{acceptedDir, rejectedDir} {
			path := filepath.Join(b.dir, name)
			if err := errors.Join(os.Remove(path), os.Symlink(outside, path)); err != nil {
				t.Fatal(err)
			}
		}
		old := time.Now().Add(-time.Hour)
		b.writeAt("x.txt", "run1", old)
		b.writeAt("bad.txt", "run2\n!", old)
		stop := b.start()
		defer stop()
		rest(9 * time.Minute)
		b.holds("accepted bad.txt rejected x.txt", "run1 run2")
		b.expect("drop directory cannot be read drop/accepted 0", "drop directory cannot be read drop/rejected 0")
		if b.ledger.adds() != 1 {
			t.Errorf("read %d times", b.ledger.adds())
		}
		if names, err := os.ReadDir(outside); err != nil || len(names) != 0 {
			t.Errorf("a symlink was followed: %v %v", names, err)
		}
		if err := errors.Join(os.Remove(filepath.Join(b.dir, acceptedDir)), os.Remove(filepath.Join(b.dir, rejectedDir))); err != nil {
			t.Fatal(err)
		}
		rest(3 * time.Minute) // the folders are made anew
		b.holds("accepted/x.txt rejected/bad.txt rejected/bad.txt.error", "run1 run2")
	})
}

func TestTheDropDirectoryMayGoAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		stop := b.start()
		defer stop()
		rest(time.Second)
		if err := os.Rename(b.dir, b.dir+".away"); err != nil {
			t.Fatal(err)
		}
		rest(9 * time.Minute)
		b.expect("drop directory cannot be read drop 0")
		if err := os.Mkdir(b.dir, 0o770); err != nil {
			t.Fatal(err)
		}
		b.write("x.txt", "run1")
		rest(15 * time.Second)
		b.holds("accepted/x.txt", "run1")
		b.expect("drop directory can be read again drop 0", "drop file accepted drop/accepted/x.txt 1")
	})
}

func TestAFileIsCopiedToAFolderOnAnotherDevice(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "inbox")
	if err != nil {
		testenv.Missing(t, "no second file system: "+err.Error())
	}
	defer os.RemoveAll(other)
	b := newBench(t)
	b.accepted.path = other
	if err := errors.Join(b.drop.open(), b.accepted.open()); err != nil {
		t.Fatal(err)
	}
	defer b.drop.close()
	defer b.accepted.close()
	if b.drop.id.dev == b.accepted.id.dev {
		testenv.Missing(t, "/dev/shm is no second file system")
	}
	for i, want := range []error{nil, fs.ErrExist} {
		b.writeAt("x.txt", fmt.Sprint("run", i), time.Unix(1772064000, 123456789))
		st, err := b.drop.lstat("x.txt")
		if err != nil {
			t.Fatal(err)
		}
		if err := moveFile(b.drop, "x.txt", b.accepted, "x.txt", st); !errors.Is(err, want) {
			t.Fatalf("move %d: %v, want %v", i, err, want)
		}
		got, err := b.accepted.lstat("x.txt")
		if data, _ := os.ReadFile(other + "/x.txt"); err != nil || !got.same(st) || string(data) != "run0\n" {
			t.Errorf("move %d: %q %+v, want %+v", i, data, got, st)
		}
	}
	b.holds("x.txt", "")   // the second, which found its name taken
	if os.Geteuid() == 0 { // a file that may be copied, but not removed, is not multiplied
		data := filepath.Dir(b.dir)
		for _, dir := range []string{filepath.Dir(filepath.Dir(data)), filepath.Dir(data), data, b.dir} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		b.writeAt("x.txt", "run2", time.Unix(1772064000, 0))
		if err := errors.Join(os.Chmod(filepath.Join(b.dir, "x.txt"), 0o644), os.Chmod(other, 0o777)); err != nil {
			t.Fatal(err)
		}
		st, err := b.drop.lstat("x.txt")
		if err != nil {
			t.Fatal(err)
		}
		unprivileged(t, func() { err = moveFile(b.drop, "x.txt", b.accepted, "y.txt", st) })
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("removing it: %v, want no permission", err)
		}
	}
	if names, err := os.ReadDir(other); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v %v", names, err)
	}
}
