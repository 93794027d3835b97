package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// masked sets the umask until the test ends.
func masked(t *testing.T, mask int) {
	t.Helper()
	old := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(old) })
}

func (r *rig) mode(name string) fs.FileMode {
	r.t.Helper()
	info, err := os.Stat(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return info.Mode() &^ fs.ModeDir
}

func TestDirectoriesMadeHereHaveTheirModeWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0o077, 0o027, 0o022, 0} {
		masked(t, mask)
		above := inMemory(t)
		r := openRig(t, plainConfig(filepath.Join(above, "data", "assets")), newLedger("queue-1"))
		r.Default, r.DirMode = true, 0o770
		r.masked = mask&0o770 != 0
		if err := r.Use(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.running()
		r.mustKeep(r.asset("run1", run.Images, "abc"), []byte("picture"))
		for _, name := range []string{"..", ".", ".assetd", ".assetd/parts", "app", "app/run1", "app/run1/images"} {
			if got := r.mode(name); got != 0o770 {
				t.Errorf("umask %03o: %s has mode %v", mask, name, got)
			}
		}
	}
}

func TestNewKnowsWhetherTheUmaskTakesSomething(t *testing.T) {
	for mask, want := range map[int]bool{0o077: true, 0o027: false, 0o022: false, 0: false} {
		masked(t, mask)
		if r := openRig(t, plainConfig(inMemory(t)), newLedger("queue-1")); r.masked != want {
			t.Errorf("umask %03o takes something from 0750: %v", mask, r.masked)
		}
	}
}

func TestASetGroupIDIsHandedDownAndWhatIsThereKeepsItsMode(t *testing.T) {
	masked(t, 0o077)
	r := newRig(t)
	r.running()
	if err := os.Chmod(r.dir, 0o770|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "app"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.mustKeep(r.asset("run1", run.Images, "abc"), []byte("picture"))
	want := map[string]fs.FileMode{".": fs.ModeSetgid | 0o770, "app": fs.ModeSetgid | 0o700, "app/run1": fs.ModeSetgid | 0o750, "app/run1/images": fs.ModeSetgid | 0o750}
	for name, want := range want {
		if got := r.mode(name); got != want {
			t.Errorf("%s has mode %v, want %v", name, got, want)
		}
	}
}

func TestADirectoryLeftBetweenItsMakingAndItsModeIsFinishedLater(t *testing.T) {
	masked(t, 0o077)
	above := inMemory(t)
	cfg := plainConfig(filepath.Join(above, "data", "assets"))
	cfg.Default = true
	q := newLedger("queue-1")
	died := errors.New("died")
	key := run.Key{Run: "run1", Kind: run.Images, ID: "abc"}
	deaths := 0
	for living := 0; ; living++ { // each life dies at its living-th chmod of a directory
		r := openRig(t, cfg, q)
		chmod, seen := r.sys.chmod, 0
		r.sys.chmod = func(f *os.File, mode fs.FileMode) error {
			if info, err := f.Stat(); err != nil || !info.IsDir() {
				return chmod(f, mode)
			}
			if seen++; seen > living {
				return died
			}
			return chmod(f, mode)
		}
		err := r.Use(t.Context())
		if err == nil {
			stop := r.running()
			r.asset(key.Run, key.Kind, key.ID)
			p, writeErr := r.write(key, run.PartMark{Total: -1}, []byte("picture"))
			if err = writeErr; err == nil {
				done := make(chan error, 1)
				p.Keep(whole(key, []byte("picture")), func(err error) { done <- err })
				if stop(); q.state(key) != run.AssetStored {
					err = died
				}
				<-done
			}
		}
		if err == nil {
			for _, name := range []string{"..", ".", ".assetd", "app", "app/run1", "app/run1/images"} {
				if got := r.mode(name); got != 0o750 {
					t.Errorf("%s has mode %v", name, got)
				}
			}
			break
		}
		if deaths++; deaths > 20 {
			t.Fatal(err)
		}
		q.mu.Lock()
		delete(q.assets, key) // fetched again
		q.mu.Unlock()
	}
	if deaths < 3 {
		t.Errorf("died only %d times: the test proves nothing", deaths)
	}
}

func TestWhatWaitsForRoomForItsDirectoryIsToldOnceAndStoredThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var full atomic.Bool
		full.Store(true)
		mkdir := r.sys.mkdir
		r.sys.mkdir = func(root *os.Root, name string, mode fs.FileMode) error {
			if full.Load() && name == "images" {
				return unix.ENOSPC // no inode is left
			}
			return mkdir(root, name, mode)
		}
		stop := r.running()
		defer stop()
		done := make(chan error, 1)
		key := r.asset("run1", run.Images, "abc")
		p, err := r.write(key, run.PartMark{Total: -1}, []byte("picture"))
		if err != nil {
			t.Fatal(err)
		}
		p.Keep(whole(key, []byte("picture")), func(err error) { done <- err })
		time.Sleep(10 * time.Second)
		if n := r.told(NameTrouble); n != 1 {
			t.Errorf("told %d times", n)
		}
		full.Store(false)
		if err := <-done; err != nil || r.q.state(key) != run.AssetStored {
			t.Errorf("%v, %s", err, r.q.state(key))
		}
	})
}
