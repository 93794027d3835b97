package maintenance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// copying returns Backups that make copies of a queue in a directory of its own.
func copying(t *testing.T, keep int, files time.Duration) (b *Backups, emitted *[]run.EventKind) {
	t.Helper()
	dir := t.TempDir()
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	emitted = &[]run.EventKind{}
	c := &config.Config{State: config.State{Dir: dir}, Backup: config.Backup{Interval: time.Hour, Keep: keep}}
	return NewBackups(c, q, func() time.Duration { return files }, func(e run.Event) { *emitted = append(*emitted, e.Kind) }), emitted
}

func (b *Backups) names(t *testing.T) (names []string) {
	t.Helper()
	copies, err := boltkv.Copies(b.dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range copies {
		names = append(names, c.At.Format(time.TimeOnly))
	}
	return names
}

func TestBackups_CopyEachIntervalAndKeepTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, emitted := copying(t, 2, 24*time.Hour)
		defer b.queue.Close()
		for range 4 * 60 {
			b.copyIfDue(t.Context())
			time.Sleep(time.Minute)
		}
		if got := b.names(t); !slices.Equal(got, []string{"03:00:00", "02:00:00"}) {
			t.Errorf("%v", got)
		}
		if len(*emitted) != 4 || !b.Covered().Equal(time.Now().Add(-time.Hour)) {
			t.Errorf("emitted %v, covered until %v", *emitted, b.Covered())
		}
		again, _ := copying(t, 2, time.Hour) // after a restart the last copy counts
		defer again.queue.Close()
		again.dir = b.dir
		again.copyIfDue(t.Context())
		if again.Covered().IsZero() || len(again.names(t)) != 2 {
			t.Errorf("covered until %v", again.Covered())
		}
	})
}

func TestBackups_CopyAsOftenAsDropFilesAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := copying(t, 9, 10*time.Minute)
		defer b.queue.Close()
		for range 25 {
			b.copyIfDue(t.Context())
			time.Sleep(time.Minute)
		}
		if got := b.names(t); !slices.Equal(got, []string{"00:20:00", "00:10:00", "00:00:00"}) {
			t.Errorf("%v", got)
		}
	})
}

func TestBackups_ReportFailureAndRecoveryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, emitted := copying(t, 2, 24*time.Hour)
		defer b.queue.Close()
		if err := os.WriteFile(b.dir, []byte("no directory"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			b.copyIfDue(t.Context())
			time.Sleep(time.Minute)
		}
		if err := os.Remove(b.dir); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			b.copyIfDue(t.Context())
			time.Sleep(time.Minute)
		}
		if want := []run.EventKind{run.BackupTrouble, run.BackupBack, run.BackupMade}; !slices.Equal(*emitted, want) {
			t.Errorf("emitted %v", *emitted)
		}
	})
}

func TestBackups_RemoveWhatACrashLeft(t *testing.T) {
	b, _ := copying(t, 2, time.Hour)
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	whole := boltkv.CopyPath(b.dir, time.Now())
	for _, path := range []string{whole, boltkv.HalfCopy(whole), filepath.Join(b.dir, onRequest), boltkv.HalfCopy(filepath.Join(b.dir, onRequest))} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.tidy(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(b.dir); len(left) != 1 || left[0].Name() != filepath.Base(whole) {
		t.Errorf("left %v", left)
	}
	f, err := b.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if left, _ := os.ReadDir(b.dir); len(left) != 1 {
		t.Errorf("a copy that was asked for has a name: %v", left)
	}
}

// What came after the copy and cannot be put back would be lost: then nothing is
// restored, and the daemon does not start.
func TestOpenQueue_RestoresNothingIfDropFilesCannotBePutBack(t *testing.T) {
	b, _ := copying(t, 2, time.Hour)
	b.copyIfDue(t.Context())
	state := filepath.Dir(b.dir)
	if err := errors.Join(b.queue.Close(), os.Truncate(boltkv.Path(state), 100)); err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.DebugLevel)
	c := &config.Config{State: config.State{Dir: state}, Drop: config.Drop{Dir: filepath.Join(state, "gone")}}
	_, err := OpenQueue(c, queue.Options{}, zap.New(core))
	if !errors.As(err, new(*kv.DamageError)) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(boltkv.Path(state)); err != nil || info.Size() != 100 {
		t.Errorf("the damaged file was touched: %v", err)
	}
	if err := os.Mkdir(c.Drop.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	q, err := OpenQueue(c, queue.Options{}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if n := logged.FilterMessage("the queue was restored from a copy").Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// Retention asks for the newest copy while another one is made, which can take long.
func TestCase_F_RetentionDoesNotWaitForACopyUnderWay(t *testing.T) {
	b, _ := copying(t, 3, time.Hour)
	made := time.Now()
	b.newest.Store(&made)
	b.copying.Lock()
	defer b.copying.Unlock()
	got := make(chan time.Time, 1)
	go func() { got <- b.Covered() }()
	select {
	case at := <-got:
		if !at.Equal(made) {
			t.Errorf("%v, want %v", at, made)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the copy")
	}
}
