package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// manager is a service manager that counts what it is told.
type manager struct{ ready, fed atomic.Int64 }

// manage listens on a socket as sd_notify(3) has it, and returns the environment of
// a service that is told to feed its watchdog twice a second.
func manage(t *testing.T, dir string) (*manager, []string) {
	t.Helper()
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m, done := &manager{}, make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			for _, line := range strings.Split(string(buf[:n]), "\n") {
				switch line {
				case "READY=1":
					m.ready.Add(1)
				case "WATCHDOG=1":
					m.fed.Add(1)
				}
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return m, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"}
}

// fuse mounts a file system that never answers over a directory, in a mount namespace
// of this goroutine's thread, which what it starts from there is in, too. Whoever
// touches it hangs, until release.
func fuse(t *testing.T, dir string) (release func()) {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testenv.Missing(t, fmt.Sprintf("/dev/fuse (%v)", err))
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)
	if err := unix.Mount("hangs", dir, "fuse", 0, options); err != nil {
		unix.Close(dev)
		testenv.Missing(t, fmt.Sprintf("mounting FUSE (%v)", err))
	}
	return func() {
		unix.Close(dev) // what hangs fails now
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

// ownMounts gives this goroutine's thread a mount namespace; the thread ends with it.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		testenv.Missing(t, fmt.Sprintf("a mount namespace (%v)", err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		testenv.Missing(t, fmt.Sprintf("private mounts (%v)", err))
	}
}

// S06: what hangs on the volume is no reason to
// end the daemon, which would only hang again.
func TestAVolumeThatHangsLeavesTheDaemonAliveAndItGoesOnByItself(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	ownMounts(t)
	r := newRig(t, nil)
	for _, id := range []run.ID{"good000001", "late000001"} {
		if err := r.sim.AddRun(id, simulator.Image("img1", 9000)); err != nil {
			t.Fatal(err)
		}
	}
	m, env := manage(t, r.dir)
	daemon := r.command("run")
	daemon.Env = append(daemon.Env, env...)
	p := r.launch(daemon).ready()
	r.handIn([]run.ID{"good000001"})
	r.waitSettled(1, time.Minute)

	release := fuse(t, filepath.Join(r.dir, "assets"))
	r.handIn([]run.ID{"late000001"})
	r.becomes("assetd_volume_up", equals(0)) // the fault has fired
	if free, there := r.metric("assetd_storage_free_bytes"); there {
		t.Errorf("an offline volume has %v bytes free", free)
	}
	if _, _, code := r.output("health", "--ready"); code != 1 {
		t.Errorf("health --ready exits %d", code)
	}
	if ready := r.page("/readyz"); !strings.Contains(ready, `"ok":false`) || !strings.Contains(ready, "has not answered") {
		t.Errorf("/readyz says %s", ready)
	}
	r.staysAlive(m, 20*time.Second) // longer than a tick, or the writer, may be late
	release()
	r.waitSettled(2, time.Minute)
	r.becomes("assetd_volume_up", equals(1))
	if code := p.stop(); code != 0 || m.ready.Load() != 1 {
		t.Errorf("exit %d, told ready %d times", code, m.ready.Load())
	}
}

// staysAlive asks for so long whether the daemon is alive, and sees that its watchdog
// is fed all the time.
func (r *rig) staysAlive(m *manager, d time.Duration) {
	r.t.Helper()
	end := time.After(d)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var fed []int64
	for {
		select {
		case <-tick.C:
		case <-end:
			if half := fed[len(fed)/2]; fed[0] == half || half == fed[len(fed)-1] {
				r.t.Errorf("the watchdog was not fed: %v", fed)
			}
			return
		}
		if alive := r.page("/healthz"); !strings.Contains(alive, `"ok":true`) {
			r.t.Fatalf("/healthz says %s", alive)
		}
		fed = append(fed, m.fed.Load())
	}
}

func TestADeadAPILeavesTheDaemonAliveAndReady(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []string{"api.base_url=http://" + gone.Addr().String()})
	gone.Close()
	p := r.start().ready()
	r.handIn([]run.ID{"good000001"})
	r.becomes("assetd_api_up", equals(0))
	for _, args := range [][]string{{"health"}, {"health", "--ready"}} {
		if out, errs, code := r.output(args...); code != 0 {
			t.Errorf("assetd %s: %s%s", strings.Join(args, " "), out, errs)
		}
	}
	if v, there := r.metric(`assetd_polls_total{result="unreachable"}`); !there || v < 1 {
		t.Errorf("%v polls found nobody", v)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestHealthAsksWhatTheContainerAsks(t *testing.T) {
	data, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	asks := func(line string) bool {
		return strings.HasPrefix(line, "HEALTHCHECK ") && strings.HasSuffix(line, `CMD ["/assetd", "health"]`)
	}
	if !slices.ContainsFunc(strings.Split(string(data), "\n"), asks) {
		t.Error("the image's HEALTHCHECK is not assetd health")
	}
	r := newRig(t, nil)
	if _, errs, code := r.output("health"); code != 1 || !strings.Contains(errs, "no daemon runs") {
		t.Errorf("without a daemon: exit %d, %s", code, errs)
	}
}
