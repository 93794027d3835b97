package storage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// inChild runs the test once more in a process of its own, with a mount namespace
// of its own where mounts is true, and reports whether this is that process.
func inChild(t *testing.T, mounts bool) bool {
	t.Helper()
	const mark = "ASSETD_STORAGE_CHILD"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	if mounts && os.Geteuid() != 0 {
		testenv.Missing(t, "root, to mount file systems in a namespace")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	if mounts {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM):
		testenv.Missing(t, "the right to make a mount namespace")
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	}
	return false
}

// tmpfs mounts a file system in memory.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		testenv.Missing(t, fmt.Sprintf("tmpfs (%v)", err))
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// S01.
func TestAFullDiskPausesAndRecovers(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	dir := filepath.Join(t.TempDir(), "volume")
	tmpfs(t, dir, "size=4M")
	c := plainConfig(dir)
	r := openRig(t, c, newLedger("q"))
	must(t, r.Use(t.Context()))
	r.running()
	key := r.asset("run1", run.Videos, "v")
	p, err := r.Part(key)
	must(t, err)
	if err := p.Reserve(8 << 20); !errors.Is(err, run.ErrNoRoom) {
		t.Errorf("twice the disk: %v", err)
	}
	must(t, p.Reset(run.PartMark{ETag: "e", Total: 2 << 20}))
	must(t, p.Reserve(2<<20))
	data := body(2<<20, "v")
	if _, err := p.Write(data[:1<<20]); err != nil {
		t.Fatal(err)
	}
	hog := filepath.Join(dir, "hog") // somebody else takes the room that was promised
	if err := os.WriteFile(hog, make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	if _, err := p.Write(data[1<<20:]); !errors.Is(err, run.ErrNoRoom) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("write on a full disk: %v", err)
	}
	must(t, p.Close())
	if free, err := r.Free(); err != nil || free > 3<<20 {
		t.Errorf("free %d, %v", free, err)
	}
	must(t, os.Remove(hog))
	r.mustKeep(key, data)
}

// S05.
func TestAnUnmountedVolumeGetsNotOneByteBelowItsMountPoint(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	base := t.TempDir()
	dir, away := filepath.Join(base, "volume"), filepath.Join(base, "away")
	must(t, os.Mkdir(away, 0o755))
	must(t, os.Mkdir(dir, 0o755))
	c := plainConfig(dir)
	c.Mounted = true
	r := openRig(t, c, newLedger("q"))
	if err := r.Check(); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("the first start, not mounted: %v", err)
	}
	tmpfs(t, dir, "")
	must(t, r.Check()) // it has come: the start goes on
	r.running()
	r.mustKeep(r.asset("run1", run.Images, "one"), []byte("1"))
	must(t, unix.Mount(dir, away, "", unix.MS_MOVE, ""))
	for name, do := range everyUse(r) {
		if err := do(); !errors.Is(err, run.ErrVolumeOffline) || !strings.Contains(err.Error(), "mount") {
			t.Errorf("%s while unmounted: %v", name, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("below the bare mount point: %v", entries)
	}
	tmpfs(t, dir, "") // another volume, empty
	if err := r.Check(); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("an empty volume in its place: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("on the empty volume: %v", entries)
	}
	must(t, unix.Unmount(dir, 0)) // nothing of ours holds it
	must(t, unix.Mount(away, dir, "", unix.MS_MOVE, ""))
	must(t, r.Check())
	r.mustKeep(r.asset("run1", run.Images, "two"), []byte("2"))
	must(t, unix.Unmount(dir, 0))
}

// S07.
func TestAVolumeThatBecomesReadOnlyPausesAndRecovers(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	dir := filepath.Join(t.TempDir(), "volume")
	tmpfs(t, dir, "")
	r := openRig(t, plainConfig(dir), newLedger("q"))
	must(t, r.Use(t.Context()))
	r.running()
	key := r.asset("run1", run.Images, "i")
	r.mustKeep(r.asset("run1", run.Images, "before"), []byte("x"))
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, err := range []error{r.keep(key, []byte("picture")), r.Check()} {
		if !errors.Is(err, run.ErrVolumeOffline) || !errors.Is(err, unix.EROFS) {
			t.Errorf("read-only: %v", err)
		}
	}
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, ""))
	must(t, r.Check())
	r.mustKeep(key, []byte("picture"))
}

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// S07 again: chattr +i on a run's directory.
func TestAnImmutableDirectoryHoldsItsOwnAssetsOnly(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	dir := filepath.Join(t.TempDir(), "volume")
	tmpfs(t, dir, "")
	r := openRig(t, plainConfig(dir), newLedger("q"))
	must(t, r.Use(t.Context()))
	r.running()
	must(t, os.MkdirAll(filepath.Join(dir, "app/run1"), 0o750))
	d, err := os.Open(filepath.Join(dir, "app/run1"))
	must(t, err)
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		testenv.Missing(t, fmt.Sprintf("chattr +i on tmpfs (%v)", err))
	}
	key := r.asset("run1", run.Images, "i")
	p, err := r.write(key, run.PartMark{Total: -1}, []byte("picture"))
	must(t, err)
	done := make(chan error, 1)
	p.Keep(whole(key, []byte("picture")), func(err error) { done <- err })
	r.mustKeep(r.asset("run2", run.Images, "i"), []byte("neighbour"))
	if r.q.state(key) != run.AssetVerified || len(done) != 0 || r.told(NameTrouble) != 1 {
		t.Errorf("state %s, told %d times", r.q.state(key), r.told(NameTrouble))
	}
	must(t, unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, 0))
	must(t, <-done)
	if r.content("app/run1/images/i.png") != "picture" {
		t.Error("other bytes")
	}
}

// S02: a disk that takes the bytes and fails at the sync.
func TestADiskThatFailsOnlyAtTheSyncLeavesNothingUnderAFinalName(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	base := t.TempDir()
	small, dir := filepath.Join(base, "small"), filepath.Join(base, "volume")
	tmpfs(t, small, "size=20M")
	image := filepath.Join(small, "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	must(t, os.Mkdir(dir, 0o755))
	for _, args := range [][]string{{"mke2fs", "-q", "-t", "ext4", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			testenv.Missing(t, fmt.Sprintf("%s (%v: %s)", args[0], err, out))
		}
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	r := openRig(t, plainConfig(dir), newLedger("q"))
	r.sys.allocate = func(*os.File, int64, int64) error { return unix.EOPNOTSUPP }
	must(t, r.Use(t.Context()))
	r.running()
	key := r.asset("run1", run.Videos, "v")
	if err := r.keep(key, body(40<<20, "v")); err == nil {
		t.Error("40 MiB on a disk of 20 were stored")
	}
	if r.q.state(key) != run.AssetWaiting || r.q.count("stored") != 0 {
		t.Errorf("state %s", r.q.state(key))
	}
	if _, err := os.Stat(filepath.Join(dir, "app/run1/videos")); err == nil {
		t.Error("something has a final name")
	}
}

// S11.
func TestFewDescriptorsMeanWaitingNotFailing(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))
	r := newRig(t)
	r.running()
	work := make(chan run.Key)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range work {
				for {
					err := r.keep(key, []byte(key.ID))
					if err == nil {
						break
					}
					if !errors.Is(err, unix.EMFILE) {
						t.Errorf("%s: %v", key, err)
						return
					}
				}
			}
		})
	}
	for i := range 500 {
		work <- r.asset("run1", run.Images, fmt.Sprint(i))
	}
	close(work)
	wg.Wait()
	if n := len(r.tree()); n != 500 {
		t.Errorf("%d files of 500", n)
	}
}
