package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/run"
)

func TestCase_E2_AFileOfWriteIsInTheQueueWhenAwaitReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 100 { // which are all not settled yet
			b.write(fmt.Sprintf("other%d.txt", i), "other")
		}
		stop := b.start()
		defer stop()
		rest(10 * time.Millisecond)
		begun := time.Now()
		paths, err := dropfile.Write(b.dir, []run.HandIn{{ID: "run1"}, {ID: "run2", Labels: map[string]string{"a": "b"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Await(t.Context(), paths); err != nil || time.Since(begun) != 0 || b.ledger.ids() != "run1 run2" {
			t.Errorf("%v after %v: %s", err, time.Since(begun), b.ledger.ids())
		}
		// Any number at a time.
		for i := range 20 {
			go func() {
				paths, err := dropfile.Write(b.dir, []run.HandIn{{ID: run.ID(fmt.Sprintf("many%d", i))}})
				if err == nil {
					err = b.Await(context.Background(), paths)
				}
				if err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if time.Since(begun) != 0 || strings.Count(b.ledger.ids(), "many") != 20 {
			t.Errorf("after %v: %s", time.Since(begun), b.ledger.ids())
		}
		if err := b.Await(t.Context(), paths); err != nil { // taken long ago
			t.Error(err)
		}
		if len(b.waiters) != 0 {
			t.Errorf("%d still wait", len(b.waiters))
		}
	})
}

func TestCase_E2_AwaitEndsWithItsContextAndTheFileIsTakenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ledger.fail(errors.New("no room"))
		stop := b.start()
		defer stop()
		rest(time.Second)
		paths, err := dropfile.Write(b.dir, []run.HandIn{{ID: "run1"}})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := b.Await(ctx, paths); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		b.ledger.fail(nil)
		rest(2 * time.Minute)
		if b.ledger.ids() != "run1" || len(b.waiters) != 0 {
			t.Errorf("%s, %d wait", b.ledger.ids(), len(b.waiters))
		}
	})
}

// A file whose IDs are in the queue but that cannot be moved away keeps nobody waiting.
func TestCase_E2_AwaitDoesNotWaitForTheMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		accepted := filepath.Join(b.dir, acceptedDir)
		if err := errors.Join(os.Remove(accepted), os.WriteFile(accepted, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		stop := b.start()
		defer stop()
		rest(time.Second)
		paths, err := dropfile.Write(b.dir, []run.HandIn{{ID: "run1"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Await(t.Context(), paths); err != nil || b.ledger.ids() != "run1" {
			t.Errorf("%v, %s", err, b.ledger.ids())
		}
	})
}

// By inotify, in real time: drop.settle is an hour here.
func TestCase_E2_AFileRenamedIntoPlaceIsTakenAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		put   func(b *bench) (open *os.File)
		taken bool
	}{
		"renamed within": {func(b *bench) *os.File {
			b.cut(".x.tmp", "run1", time.Now())
			b.rename(filepath.Join(b.dir, ".x.tmp"))
			return nil
		}, true},
		"moved in": {func(b *bench) *os.File {
			b.cut("../x.txt", "run1", time.Now())
			b.rename(filepath.Join(b.dir, "../x.txt"))
			return nil
		}, true},
		"uploaded": {func(b *bench) *os.File {
			b.cut("x.txt.filepart", "run1\n", time.Now())
			b.rename(filepath.Join(b.dir, "x.txt.filepart"))
			return nil
		}, true},
		"written there": {func(b *bench) *os.File {
			b.cut("x.txt", "run1\n", time.Now())
			return nil
		}, false},
		"renamed while it is written": {func(b *bench) *os.File {
			f, err := os.Create(filepath.Join(b.dir, ".x.tmp"))
			if err == nil {
				_, err = f.WriteString("run1\n")
			}
			if err != nil {
				b.t.Fatal(err)
			}
			b.rename(f.Name())
			return f
		}, false},
		"by add": {func(b *bench) *os.File {
			if _, err := dropfile.Write(b.dir, []run.HandIn{{ID: "run1"}}); err != nil {
				b.t.Fatal(err)
			}
			return nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, taken := watched(t)
			b.Configure(Config{Settle: time.Hour, Rescan: time.Hour})
			stop := b.start()
			defer stop()
			<-b.Scanned()
			if open := c.put(b); open != nil {
				defer open.Close()
			}
			if c.taken {
				await(t, taken, 1)
				return
			}
			// What comes after it is taken: by then it was looked at, too.
			time.AfterFunc(10*spacing, func() {
				if _, err := dropfile.Write(b.dir, []run.HandIn{{ID: "last"}}); err != nil {
					t.Error(err)
				}
			})
			await(t, taken, 1)
			if got := b.ledger.ids(); got != "last" {
				t.Errorf("taken: %s", got)
			}
		})
	}
}

func (b *bench) rename(path string) {
	b.t.Helper()
	if err := os.Rename(path, filepath.Join(b.dir, "x.txt")); err != nil {
		b.t.Fatal(err)
	}
}

func TestWatch_ForgetsARenamedFileThatIsWrittenOrGoes(t *testing.T) {
	for name, c := range map[string]struct {
		ops  []fsnotify.Op
		file string
		want bool
	}{
		"renamed":          {[]fsnotify.Op{fsnotify.Create}, "x.txt", true},
		"and chmod":        {[]fsnotify.Op{fsnotify.Create, fsnotify.Chmod}, "x.txt", true},
		"written":          {[]fsnotify.Op{fsnotify.Create, fsnotify.Write}, "x.txt", false},
		"gone":             {[]fsnotify.Op{fsnotify.Create, fsnotify.Remove}, "x.txt", false},
		"moved away":       {[]fsnotify.Op{fsnotify.Create, fsnotify.Rename}, "x.txt", false},
		"written, renamed": {[]fsnotify.Op{fsnotify.Write, fsnotify.Create}, "x.txt", true},
		"temporary":        {[]fsnotify.Op{fsnotify.Create}, "x.part", false},
	} {
		w := watch{renamed: map[string]time.Time{}}
		for _, op := range c.ops {
			w.note(fsnotify.Event{Name: "/drop/" + c.file, Op: op})
		}
		if _, got := w.renamed[c.file]; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
