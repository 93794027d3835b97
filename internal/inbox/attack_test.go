package inbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
