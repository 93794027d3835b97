package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

func TestTheFirstStartMakesTheMarkerAndLaterOnesNeedIt(t *testing.T) {
	r := newRig(t)
	var mk marker
	must(t, json.Unmarshal([]byte(r.content(markerFile)), &mk))
	if mk.Queue != "queue-1" || len(mk.Volume) != 24 || mk.Note == "" {
		t.Errorf("marker %+v", mk)
	}
	if r.told(VolumeTaken) != 1 || !r.q.used[r.dir] {
		t.Errorf("told %d times, noted %v", r.told(VolumeTaken), r.q.used)
	}
	must(t, r.Check())
	again := openRig(t, r.Config, r.q)
	must(t, again.Use(t.Context()))
	if again.told(VolumeTaken) != 0 {
		t.Error("the second start tells it again")
	}
	// S05: the mount point without its volume.
	must(t, os.RemoveAll(filepath.Join(r.dir, metaDir)))
	for name, do := range everyUse(r) {
		if err := do(); !errors.Is(err, run.ErrVolumeOffline) {
			t.Errorf("%s without the marker: %v", name, err)
		}
	}
	if err := openRig(t, r.Config, r.q).Use(t.Context()); !errors.Is(err, run.ErrVolumeOffline) ||
		!strings.Contains(err.Error(), "assetd check --adopt-volume") {
		t.Errorf("a start without the marker: %v", err)
	}
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) != 0 {
		t.Errorf("something was written there: %v, %v", entries, err)
	}
}

// everyUse is every way to the volume's bytes.
func everyUse(r *rig) map[string]func() error {
	ctx := context.Background()
	return map[string]func() error{
		"Check":      r.Check,
		"Part":       func() error { _, err := r.Part(run.Key{Run: "run1", ID: "x"}); return err },
		"RemovePart": func() error { return r.RemovePart(run.Key{Run: "run1", ID: "x"}) },
		"Parts":      func() error { _, err := r.Parts(); return err },
		"Free":       func() error { _, err := r.Free(); return err },
		"Sweep":      func() error { _, err := r.Sweep(ctx, func() (map[string]bool, error) { return nil, nil }); return err },
		"ReadRecord": func() error { _, err := r.ReadRecord(ctx, "app/run1", "manifest.json"); return err },
		"Sizes":      func() error { _, err := r.Sizes(ctx, "app/run1", []string{"a"}); return err },
		"Aside":      func() error { _, err := r.Aside(ctx, run.Key{Run: "run1", ID: "x"}, "app/run1", "a"); return err },
		"Clear":      func() error { _, err := r.Clear(ctx, []string{"x"}); return err },
		"Sum":        func() error { _, err := r.Sum(ctx, "app/run1", "a", nil); return err },
		"WriteRecords": func() error {
			_, err := r.WriteRecords(ctx, []run.Records{{Dir: "app/run1", Files: []run.Record{{Name: "a", Write: writes("a")}}}})
			return err
		},
	}
}

func TestAForeignOrUnreadableMarkerIsTheVolumeOfSomebodyElse(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, file string){
		"another queue": func(t *testing.T, file string) {
			plantFile(t, file, `{"volume":"v-9","queue":"queue-9"}`)
		},
		"empty":     func(t *testing.T, file string) { plantFile(t, file, "") },
		"half":      func(t *testing.T, file string) { plantFile(t, file, `{"volume":"v`) },
		"directory": func(t *testing.T, file string) { must(t, os.MkdirAll(file, 0o755)) },
		"link": func(t *testing.T, file string) {
			plantFile(t, file+".1", `{"volume":"v","queue":"queue-1"}`)
			must(t, os.Symlink("volume.1", file))
		},
		".assetd is a file": func(t *testing.T, file string) { plantFile(t, filepath.Dir(file), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			c := plainConfig(inMemory(t))
			plant(t, filepath.Join(c.Dir, markerFile))
			r := openRig(t, c, newLedger("queue-1"))
			err := r.Use(t.Context())
			if !errors.Is(err, run.ErrVolumeOffline) || !strings.Contains(err.Error(), "--adopt-volume") {
				t.Errorf("start: %v", err)
			}
			if name == "another queue" && (!strings.Contains(err.Error(), "v-9") || !strings.Contains(err.Error(), "queue-9")) {
				t.Errorf("the text does not say whose it is: %v", err)
			}
			for name, do := range everyUse(r) {
				if err := do(); !errors.Is(err, run.ErrVolumeOffline) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if r.q.used[c.Dir] {
				t.Error("the queue notes that it uses it")
			}
		})
	}
}

func TestAMarkerThatNamesThisQueueIsAlwaysTaken(t *testing.T) {
	c := plainConfig(inMemory(t))
	plantFile(t, filepath.Join(c.Dir, markerFile), `{"volume":"v","queue":"queue-1"}`)
	r := openRig(t, c, newLedger("queue-1")) // crashed before its note, or restored
	must(t, r.Use(t.Context()))
	if !r.q.used[c.Dir] || r.told(VolumeTaken) != 0 {
		t.Errorf("noted %v, told %d", r.q.used, r.told(VolumeTaken))
	}
}

func TestTheMarkerIsDurableBeforeTheQueueNotesIt(t *testing.T) {
	c := plainConfig(inMemory(t))
	q := newLedger("queue-1")
	q.fault = func(op string) error {
		if op == "use" {
			return errors.New("queue trouble")
		}
		return nil
	}
	r := openRig(t, c, q)
	if err := r.Use(t.Context()); err == nil {
		t.Fatal("the queue's trouble is not told")
	}
	if _, err := os.Stat(filepath.Join(c.Dir, markerFile)); err != nil {
		t.Errorf("noted before the marker stands: %v", err)
	}
	q.fault = nil
	r = openRig(t, c, q)
	r.sys.syncDir = func(*os.File) error { return unix.EIO }
	os.Remove(filepath.Join(c.Dir, markerFile))
	if err := r.Use(t.Context()); err == nil || q.used[c.Dir] {
		t.Errorf("noted though the marker is not durable: %v", err)
	}
}

func TestStorageDirIsMadeOnlyWhereItIsTheDefault(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "data", "assets")
	for _, c := range []struct {
		name                   string
		byDefault, mounted     bool
		used, offline, working bool
	}{
		{name: "default", byDefault: true, working: true},
		{name: "named"},
		{name: "mounted", mounted: true, offline: true},
		{name: "default, used before", byDefault: true, used: true, offline: true},
		{name: "named, used before", used: true, offline: true},
	} {
		os.RemoveAll(filepath.Dir(missing))
		cfg := plainConfig(missing)
		cfg.Default, cfg.Mounted = c.byDefault, c.mounted
		q := newLedger("queue-1")
		q.used[missing] = c.used
		err := openRig(t, cfg, q).Use(t.Context())
		if (err == nil) != c.working || errors.Is(err, run.ErrVolumeOffline) != c.offline {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: the error does not name the path: %v", c.name, err)
		}
		if _, err := os.Stat(missing); (err == nil) != c.working {
			t.Errorf("%s: made: %v", c.name, err == nil)
		}
	}
}

func TestAMountedVolumeMustBeAnotherDeviceFromTheFirstStartOn(t *testing.T) {
	c := plainConfig(inMemory(t))
	c.Mounted = true
	r := openRig(t, c, newLedger("queue-1"))
	if err := r.Use(t.Context()); !errors.Is(err, run.ErrVolumeOffline) || !strings.Contains(err.Error(), "storage.mounted") {
		t.Errorf("err = %v", err)
	}
	if entries, _ := os.ReadDir(c.Dir); len(entries) != 0 {
		t.Errorf("written below the bare mount point: %v", entries)
	}
	if err := r.Adopt(t.Context()); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("adopted: %v", err)
	}
}

func TestAdoptTakesANewForeignOrDamagedVolumeOnPurpose(t *testing.T) {
	for name, text := range map[string]string{"none": "-", "foreign": `{"volume":"v-9","queue":"queue-9"}`, "damaged": "{"} {
		c := plainConfig(inMemory(t))
		q := newLedger("queue-1")
		q.used[c.Dir] = true // so that nothing is made by itself
		if text != "-" {
			plantFile(t, filepath.Join(c.Dir, markerFile), text)
		}
		r := openRig(t, c, q)
		if err := r.Check(); !errors.Is(err, run.ErrVolumeOffline) {
			t.Errorf("%s: before: %v", name, err)
		}
		must(t, r.Adopt(t.Context()))
		must(t, r.Check())
		if r.told(VolumeTaken) != 1 {
			t.Errorf("%s: told %d times", name, r.told(VolumeTaken))
		}
		if name == "foreign" && !strings.Contains(r.content(markerFile), "v-9") {
			t.Error("a foreign volume lost its own id")
		}
		must(t, r.Adopt(t.Context())) // ours already: nothing to tell
		if r.told(VolumeTaken) != 1 {
			t.Errorf("%s: told again", name)
		}
	}
}

func TestAVolumeSwappedUnderAnOpenPartGetsNothingOfIt(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.asset("run1", run.Images, "i")
	p, err := r.write(key, run.PartMark{Total: -1}, []byte("pic"))
	must(t, err)
	away := r.dir + ".away"
	t.Cleanup(func() { os.RemoveAll(away) })
	must(t, os.Rename(r.dir, away)) // as an unmount: the root that is open goes with it
	must(t, os.Mkdir(r.dir, 0o755))
	if _, err := p.Write([]byte("ture")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.Keep(whole(key, []byte("picture")), func(err error) { done <- err })
	must(t, <-done)
	if entries, _ := os.ReadDir(r.dir); len(entries) != 0 {
		t.Errorf("written below the bare directory: %v", entries)
	}
	if data, err := os.ReadFile(filepath.Join(away, "app/run1/images/i.png")); err != nil || string(data) != "picture" {
		t.Errorf("on the volume: %q, %v", data, err)
	}
}

// P4.10, S06.
func TestAHungVolumeAnswersLateWithOneQuestionOutstanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var asked atomic.Int32
		hold, real := make(chan struct{}), r.sys.openRoot
		r.sys.openRoot = func(dir string) (*os.Root, error) {
			asked.Add(1)
			<-hold
			return real(dir)
		}
		before := time.Now()
		for i := range 3 {
			if err := r.Check(); !errors.Is(err, run.ErrVolumeOffline) || !strings.Contains(err.Error(), "not answered") {
				t.Errorf("look %d: %v", i, err)
			}
		}
		if took := time.Since(before); took != probeTime || asked.Load() != 1 {
			t.Errorf("%v and %d questions, want %v and 1", took, asked.Load(), probeTime)
		}
		if _, err := r.Free(); !errors.Is(err, run.ErrVolumeOffline) {
			t.Errorf("Free: %v", err)
		}
		close(hold)
		synctest.Wait()
		must(t, r.Check())
	})
}

// S07: a refusal is over only when a write has shown it.
func TestAfterARefusedWriteOnlyAWriteShowsThatTheVolumeIsBack(t *testing.T) {
	r := newRig(t)
	bad, real := true, r.sys.open
	r.sys.open = func(root *os.Root, name string, flag int, perm os.FileMode) (*os.File, error) {
		if bad && flag&os.O_CREATE != 0 {
			return nil, &os.PathError{Op: "openat", Path: name, Err: unix.EROFS}
		}
		return real(root, name, flag, perm)
	}
	if err := r.Check(); err != nil {
		t.Errorf("nothing was written yet: %v", err)
	}
	if _, err := r.Part(run.Key{Run: "run1", ID: "x"}); !errors.Is(err, run.ErrVolumeOffline) || !errors.Is(err, unix.EROFS) {
		t.Errorf("part: %v", err)
	}
	for range 2 {
		err := r.Check()
		if !errors.Is(err, run.ErrVolumeOffline) || strings.Contains(err.Error(), "volume offline") || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("check: %v", err)
		}
	}
	bad = false
	must(t, r.Check())
	if len(r.tree()) != 0 {
		t.Errorf("the trial is left: %q", r.tree())
	}
}

// S11.
func TestMissingDescriptorsAreNoVerdictOnTheVolume(t *testing.T) {
	r := newRig(t)
	r.sys.openRoot = func(string) (*os.Root, error) { return nil, &os.PathError{Op: "open", Path: r.dir, Err: unix.EMFILE} }
	_, err := r.Part(run.Key{Run: "run1", ID: "x"})
	if errors.Is(err, run.ErrVolumeOffline) || errors.Is(err, run.ErrNoRoom) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("err = %v", err)
	}
	if len(r.inUse) != 0 {
		t.Error("the part is held after the failure")
	}
}

func TestTheKeeperTakesOnlyAsManyAsDescriptorsAllow(t *testing.T) {
	r := newRig(t)
	r.committer.slots = make(chan struct{}, 2)
	parts := make([]*Part, 5)
	for i := range parts {
		key := r.asset("run1", run.Images, fmt.Sprint(i))
		p, err := r.write(key, run.PartMark{Total: -1}, []byte("x"))
		must(t, err)
		parts[i] = p
	}
	kept, done := make(chan int, len(parts)), make(chan error, len(parts))
	go func() {
		for i, p := range parts {
			p.Keep(whole(p.key, []byte("x")), func(err error) { done <- err })
			kept <- i
		}
	}()
	<-kept
	<-kept
	if len(r.committer.slots) != 2 {
		t.Errorf("%d in the keeper", len(r.committer.slots))
	}
	r.running()
	for range parts {
		must(t, <-done)
	}
}
