package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func lookAt(t *testing.T, c Config) (Sight, error) {
	t.Helper()
	v, err := New(c, Deps{})
	must(t, err)
	return v.Look()
}

func TestLookSaysWhoseAVolumeIsAndChangesNothing(t *testing.T) {
	c := plainConfig(inMemory(t))
	s, err := lookAt(t, c)
	if err != nil || s.Queue != "" || s.Denied != nil || s.Free <= 0 {
		t.Errorf("a volume that is nobody's: %+v, %v", s, err)
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	plantFile(t, filepath.Join(c.Dir, markerFile), `{"volume":"v","queue":"queue-9"}`)
	if s, err = lookAt(t, c); err != nil || s.Queue != "queue-9" || s.Volume != "v" {
		t.Errorf("another's: %+v, %v", s, err)
	}
	plantFile(t, filepath.Join(c.Dir, markerFile), `half`)
	if _, err = lookAt(t, c); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("a marker that nobody can read: %v", err)
	}
	c.Mounted = true
	c.Dir = filepath.Join(c.Dir, metaDir) // surely no mount
	if _, err = lookAt(t, c); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("no mount: %v", err)
	}
	c.Dir += "/none"
	if _, err = lookAt(t, c); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("not there: %v", err)
	}
}

func TestLookSeesThatItMayNotWrite(t *testing.T) {
	c := plainConfig(inMemory(t))
	must(t, os.MkdirAll(filepath.Join(c.Dir, partsDir), 0o755))
	for _, dir := range []string{filepath.Dir(c.Dir), c.Dir, filepath.Join(c.Dir, metaDir)} {
		must(t, os.Chmod(dir, 0o777))
	}
	must(t, os.Chmod(filepath.Join(c.Dir, partsDir), 0o555)) // as root's start would leave it for another user
	v, err := New(c, Deps{})
	must(t, err)
	unprivileged(t, func() { // Look would ask on a thread that root keeps
		if s, err := v.look(); err != nil || !errors.Is(s.Denied, fs.ErrPermission) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// unprivileged runs f as nobody: file system permissions do not hold for root. The
// thread is given up afterwards, since it cannot become root again.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			t.Errorf("setresuid: %v", errno)
			return
		}
		f()
	}()
	<-done
}
