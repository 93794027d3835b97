package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// count is how often the watchdog was fed since the last time.
func count(t *testing.T, socket int) (fed int) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(socket, buf)
		if errors.Is(err, unix.EAGAIN) {
			return fed
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(buf[:n]), "WATCHDOG=1") {
			fed++
		}
	}
}

// X02.
func TestAWriterThatHangsStarvesTheWatchdogAndOneThatIsSlowDoesNot(t *testing.T) {
	short, err := os.MkdirTemp("", "assetd") // a path short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	path := filepath.Join(short, "notify")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(socket)
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000000") // as in the unit: fed every 15 s
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		stuck, took := make(chan struct{}), make(chan time.Duration)
		q, err := queue.Open(dir, queue.Options{Timed: func(time.Duration, time.Duration) {
			select { // the writer calls this: it is at a commit for so long
			case d := <-took:
				time.Sleep(d)
			case <-stuck:
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s := health.New(q)
		go systemd{}.watchdog(t.Context(), func() bool { return s.Alive().OK }) //nolint:errcheck // it returns nil
		pass := func(d time.Duration) {
			for range d / time.Second {
				time.Sleep(time.Second)
				s.Tick()
			}
		}
		add := func(id run.ID) {
			if _, err := q.Add(t.Context(), []run.HandIn{{ID: id}}); err != nil {
				t.Error(err)
			}
		}
		go add("slow")
		took <- 12 * time.Second
		pass(time.Minute)
		slow := count(t, socket)
		if slow < 4 {
			t.Errorf("a slow disk: fed %d times in a minute", slow)
		}
		go add("hang")
		pass(31 * time.Second) // two of its intervals
		count(t, socket)
		pass(time.Minute)
		if n := count(t, socket); n != 0 {
			t.Errorf("a disk that hangs: fed %d times in a minute", n)
		}
		if h := s.Alive(); h.OK || !strings.Contains(h.Reasons[0], "one commit for") {
			t.Errorf("%+v", h)
		}
		close(stuck)
		pass(31 * time.Second)
		if n := count(t, socket); n == 0 || !s.Alive().OK {
			t.Errorf("when it answers again: fed %d times, %+v", n, s.Alive())
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}
