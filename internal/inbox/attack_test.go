package inbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// A member of the drop group puts something else in the place of a directory while it
// is in use: the pass goes on with the directory that it holds and waits for nobody.
func TestCase_G3_ADirectoryExchangedDuringAPassHoldsUpNothing(t *testing.T) {
	exchanges := map[string]func(path string) error{
		"FIFO":   func(path string) error { return unix.Mkfifo(path, 0o660) },
		"socket": func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o660, 0) },
		"file":   func(path string) error { return os.WriteFile(path, nil, 0o660) },
		"link to a FIFO": func(path string) error {
			return errors.Join(unix.Mkfifo(path+".fifo", 0o660), os.Symlink(path+".fifo", path))
		},
		"link to another place": func(path string) error { return os.Symlink(os.TempDir(), path) },
		"nothing":               func(string) error { return nil },
	}
	for _, folder := range []string{acceptedDir, rejectedDir, "."} {
		for name, exchange := range exchanges {
			t.Run(folder+" "+name, func(t *testing.T) {
				b := newBench(t)
				b.writeAt("good.txt", "run1\n", time.Now().Add(-time.Hour))
				b.writeAt("bad.txt", "run2\nno ID\n", time.Now().Add(-time.Hour))
				path := filepath.Join(b.dir, folder)
				b.ledger.taken = func([]run.HandIn) {
					if err := errors.Join(os.Rename(path, path+".away"), exchange(path)); err != nil {
						t.Error(err)
					}
				}
				b.Configure(Config{Rescan: time.Hour})
				done := make(chan struct{})
				go func() {
					defer close(done)
					b.pass(t.Context())
				}()
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("the pass hangs")
				}
				held := b.dir
				if folder == "." {
					held += ".away"
				}
				for _, want := range []string{"accepted/good.txt", "rejected/bad.txt", "rejected/bad.txt.error"} {
					if filepath.Dir(want) == folder {
						want = folder + ".away/" + filepath.Base(want)
					}
					if _, err := os.Lstat(filepath.Join(held, want)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// Whoever can write into the drop directory can link a file there that the daemon can
// read and they cannot.
func TestCase_G9_AFileWithSeveralNamesIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte("PLANTED5ecret and more\nrun1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.writeAt("good.txt", "run2\n", old)
		for _, name := range []string{"link.txt", "link.json", "run3", "accepted/taken.txt", "rejected/taken.txt"} {
			if err := os.Link(key, filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		stop := b.start()
		defer stop()
		rest(time.Hour)
		b.holds("accepted/good.txt accepted/taken.txt link.json link.txt rejected/taken.txt run3", "run2")
		if told := b.events(); len(told) != 4 {
			t.Errorf("told %q", told)
		}
		// Once it is the only name, the file is like any other.
		for _, name := range []string{"link.json", "run3", "accepted/taken.txt", "rejected/taken.txt"} {
			if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		rest(time.Hour)
		b.holds("accepted/good.txt rejected/link.txt rejected/link.txt.error", "run1 run2")
	})
}

// A file that becomes a link to another between two looks is not read, nor copied.
func TestCase_G9_AFileThatBecomesALinkMeanwhileIsNotRead(t *testing.T) {
	b := newBench(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("run1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(key)
	if err != nil {
		t.Fatal(err)
	}
	b.writeAt("x.txt", "run2\n", info.ModTime())
	if err := errors.Join(b.drop.open(), b.accepted.open()); err != nil {
		t.Fatal(err)
	}
	defer b.drop.close()
	defer b.accepted.close()
	st, err := b.drop.lstat("x.txt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, "x.txt")
	if err := errors.Join(os.Remove(path), os.Link(key, path)); err != nil {
		t.Fatal(err)
	}
	p := &pass{Inbox: b.Inbox}
	if err := p.load(&item{from: b.drop, name: "x.txt", look: &look{stamp: st}}); !errors.Is(err, errChanged) {
		t.Errorf("read: %v", err)
	}
	if err := copyFile(b.drop, "x.txt", b.accepted, "x.txt", st); !errors.Is(err, errChanged) {
		t.Errorf("copied: %v", err)
	}
}

// Where the file system cannot rename without replacing, a file has two names for a
// moment. A crash then leaves both: the move is ended, and the file is not left alone
// as a link.
func TestCase_G9_AMoveThatACrashCutShortIsEnded(t *testing.T) {
	for _, to := range []string{"accepted/x.txt", "accepted/x-2.txt", "rejected/x.txt"} {
		t.Run(to, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.writeAt("x.txt", "run1\n", time.Now().Add(-time.Hour))
				tree := to
				if filepath.Base(to) == "x-2.txt" {
					b.writeAt("accepted/x.txt", "run2\n", time.Now().Add(-time.Hour))
					tree = to + " accepted/x.txt"
				}
				if err := os.Link(filepath.Join(b.dir, "x.txt"), filepath.Join(b.dir, to)); err != nil {
					t.Fatal(err)
				}
				stop := b.start()
				rest(time.Minute)
				stop()
				b.holds(tree, "")
				if told := b.events(); len(told) != 0 {
					t.Errorf("told %q", told)
				}
			})
		})
	}
}
