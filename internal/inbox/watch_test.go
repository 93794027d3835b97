package inbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// watched is a bench with a real watch, and so in real time; a channel says when
// something was taken. The rescan is too rare to help.
func watched(t *testing.T) (*bench, chan int) {
	b := newBench(t)
	b.watch.open = fsnotify.NewWatcher
	b.Configure(Config{Settle: 100 * time.Millisecond, Rescan: time.Hour})
	taken := make(chan int, 1000)
	b.ledger.taken = func([]run.HandIn) { taken <- len(b.ledger.known) }
	return b, taken
}

// await waits until the queue has n runs: for so long that only a fault lasts.
func await(t *testing.T, taken chan int, n int) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case have := <-taken:
			if have >= n {
				return
			}
		case <-late:
			t.Fatalf("never had %d runs", n)
		}
	}
}

func TestAWatchedDirectoryNeedsNoRescan(t *testing.T) {
	b, taken := watched(t)
	stop := b.start()
	defer stop()
	<-b.Scanned()
	b.write(".x.tmp", "run1")
	if err := os.Rename(filepath.Join(b.dir, ".x.tmp"), filepath.Join(b.dir, "x.txt")); err != nil {
		t.Fatal(err)
	}
	await(t, taken, 1)
}

// Where a directory above it is moved, the watch goes on and hears nothing more.
func TestARecreatedDirectoryIsWatchedAgain(t *testing.T) {
	for name, moved := range map[string]func(b *bench) string{
		"itself":   func(b *bench) string { return b.dir },
		"above it": func(b *bench) string { return filepath.Dir(b.dir) },
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := watched(t)
			defer b.watch.close()
			b.pass(t.Context())
			if err := os.Rename(moved(b), moved(b)+".away"); err != nil {
				t.Fatal(err)
			}
			if _, err := Prepare(b.dir); err != nil {
				t.Fatal(err)
			}
			b.pass(t.Context())
			b.write("x.txt", "run1")
			late := time.After(time.Minute)
			for {
				select {
				case event := <-b.watch.events():
					if event.Name == filepath.Join(b.dir, "x.txt") {
						return
					}
				case <-late:
					t.Fatal("the new directory is not watched")
				}
			}
		})
	}
}

func TestAWatchThatFailsIsToldOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var told []run.Event
		b.tell = func(e run.Event) { told = append(told, e) }
		stop := b.start()
		rest(9 * time.Minute)
		stop()
		if len(told) != 1 || told[0].Kind != WatchLost || !strings.Contains(told[0].Hint, "max_user_instances") {
			t.Errorf("told %v", told)
		}
		told, b.watch.open = nil, fsnotify.NewWatcher
		b.pass(t.Context())
		b.watch.close()
		if len(told) != 1 || told[0].Kind != WatchBack {
			t.Errorf("told %v", told)
		}
	})
}

// More files than the kernel keeps events for, while nobody reads the events.
func TestAllFilesOfABurstAreTakenOnceThoughEventsOverflow(t *testing.T) {
	files := testenv.Cases(20_000, 50_000)
	if limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events"); err == nil {
		if n, _ := strconv.Atoi(strings.TrimSpace(string(limit))); n >= files {
			testenv.Missing(t, fmt.Sprintf("fs.inotify.max_queued_events is %d: nothing overflows", n))
		}
	}
	if os.Getenv("TMPDIR") == "" { // in memory, where there is such a file system: 20,000 files take their time on a disk
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			t.Setenv("TMPDIR", "/dev/shm")
		}
	}
	b, taken := watched(t)
	hold, held := make(chan struct{}), false
	b.ledger.refuse = func([]run.HandIn) error {
		if !held {
			held = true
			taken <- 0
			<-hold
		}
		return nil
	}
	stop := b.start()
	b.write("first.txt", "first")
	<-taken
	for i := range files {
		f, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("run%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	close(hold)
	await(t, taken, files+1)
	stop()
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%d entries left: %v", len(left), err)
	}
	accepted := 0
	for _, e := range b.told {
		if e.Kind == run.FileAccepted {
			accepted++
		}
	}
	if accepted != files+1 || b.ledger.adds() > 200 {
		t.Errorf("%d files accepted with %d commits", accepted, b.ledger.adds())
	}
}
