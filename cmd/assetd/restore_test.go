package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// waitCopy waits until the newest copy of the queue has so many runs, and gives its
// path.
func (r *rig) waitCopy(runs int) string {
	r.t.Helper()
	for range 600 {
		copies, err := boltkv.Copies(boltkv.BackupDir(filepath.Join(r.dir, "state")), time.Now())
		if err != nil {
			r.t.Fatal(err)
		}
		if len(copies) > 0 {
			if c, err := queue.Verify(copies[0].Path); err == nil && c.Runs >= runs {
				return copies[0].Path
			}
		}
		pause(r.t, 50*time.Millisecond)
	}
	r.t.Fatalf("no copy has %d runs\n%s", runs, tail(r.log.String(), 3000))
	return ""
}

// until waits until a run is in one of these states.
func (r *rig) until(id run.ID, is func(run.State) bool) {
	r.t.Helper()
	for range 600 {
		if v, err := r.client().Run(r.t.Context(), id); err == nil && is(v.State) {
			return
		}
		pause(r.t, 50*time.Millisecond)
	}
	r.t.Fatalf("run %s: %s\n%s", id, r.open(), tail(r.log.String(), 3000))
}

func isState(s run.State) func(run.State) bool { return func(is run.State) bool { return is == s } }

// A damaged queue costs no run, whatever happened to the runs since the copy was
// made, and nothing is fetched twice that a manifest names.
func TestAfterDamageTheNewestCopyAndTheDropFilesSinceThenMakeTheQueueWhole(t *testing.T) {
	t.Parallel()
	page := int64(os.Getpagesize())
	for name, damage := range map[string]struct {
		spoil   func(f *os.File) error
		running bool // under the daemon, which ends by itself
		bad     int  // newest copies that are damaged, too
	}{
		"body zeroed":             {spoil: zeros(2*page, 1<<20)},
		"heads zeroed":            {spoil: zeros(0, 2*page), bad: 1},
		"cut under the daemon":    {spoil: func(f *os.File) error { return f.Truncate(3 * page) }, running: true},
		"gone":                    {spoil: func(f *os.File) error { return os.Remove(f.Name()) }},
		"the newest copy is half": {spoil: func(f *os.File) error { return f.Truncate(0) }, bad: 2},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "body zeroed" {
				testenv.Long(t)
			}
			t.Parallel()
			r := newRig(t, []string{"backup.keep=5"})
			r.damaged(damage.spoil, damage.running, damage.bad)
		})
	}
}

func zeros(from, n int64) func(f *os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteAt(make([]byte, n), from)
		return err
	}
}

func (r *rig) damaged(spoil func(f *os.File) error, running bool, bad int) {
	t := r.t
	t.Helper()
	before, during, after, pending, rejected := run.ID("before0001"), run.ID("during0001"), run.ID("after00001"), run.ID("pending001"), run.ID("reject0001")
	ids := []run.ID{before, during, after, pending, rejected}
	for id, opts := range map[run.ID][]simulator.RunOption{
		before:   {simulator.App("app1"), simulator.Image("img1", 9000)},
		during:   {simulator.App("app1"), simulator.Image("img1", 9000), simulator.Video("vid1", 200_000, simulator.Slow(4000, 100*time.Millisecond))},
		after:    {simulator.App("app1"), simulator.Image("img1", 9000), simulator.Image("img2", 9000)},
		pending:  {simulator.App("app1"), simulator.FromFirstPoll(), simulator.Running(12 * time.Second), simulator.Image("img1", 9000)},
		rejected: {simulator.App("app1"), simulator.Image("img1", 9000)},
	} {
		if err := r.sim.AddRun(id, opts...); err != nil {
			t.Fatal(err)
		}
	}
	settings := r.settings
	r.settings = append(settings[:len(settings):len(settings)], "backup.interval=1s")
	p := r.start().ready()
	r.handIn([]run.ID{before, during})
	r.until(before, run.State.Settled)
	r.until(during, isState(run.Downloading))
	good := r.waitCopy(2)
	p.kill()

	r.settings = append(settings[:len(settings):len(settings)], "backup.interval=1h")
	p = r.start().ready()
	r.handIn([]run.ID{after, pending})
	plant(t, filepath.Join(r.dir, "drop", "bad.txt"), string(rejected)+"\nnot an ID\n")
	for _, id := range []run.ID{during, after, rejected} {
		r.until(id, run.State.Settled)
	}
	r.until(pending, isState(run.Waiting))
	fetched := r.fetched(before, during, after, rejected)
	if !running {
		p.kill()
	}
	db := boltkv.Path(filepath.Join(r.dir, "state"))
	f, err := os.OpenFile(db, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := spoil(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for i := range bad {
		plant(t, boltkv.CopyPath(filepath.Dir(good), time.Now().Add(time.Duration(i)*time.Second)), "half")
	}
	if running {
		plant(t, filepath.Join(r.dir, "drop", "more.txt"), string(after)+"\n")
		if err := <-p.ended; err == nil {
			t.Errorf("the daemon ended with exit 0\n%s", tail(r.log.String(), 3000))
		}
		p.ended <- nil
	}
	p = r.start().ready()
	r.waitSettled(len(ids), time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.judgeEnd(ids)
	if again := r.fetched(before, during, after, rejected); again != fetched {
		t.Errorf("%d requests for assets, %d were made before the damage: something was fetched twice", again, fetched)
	}
	said := r.log.String()
	for _, want := range []string{"the queue is damaged, its newest good copy is put in its place", "the queue was restored from a copy", filepath.Base(good), `"drop_files_put_back":`} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s\n%s", want, tail(said, 5000))
		}
	}
	if n := strings.Count(said, "this copy of the queue is damaged, too"); n != bad {
		t.Errorf("%d bad copies were told of, want %d", n, bad)
	}
	if aside, _ := filepath.Glob(db + ".damaged-*"); len(aside) != 1 && !strings.Contains(said, `"finding":"it is gone"`) {
		t.Errorf("moved aside: %v", aside)
	}
}

// fetched is how many requests were made for the assets of these runs.
func (r *rig) fetched(ids ...run.ID) (n int) {
	for _, id := range ids {
		for _, e := range r.sim.Expected() {
			if e.ID == id {
				for _, a := range e.Assets {
					n += len(r.sim.Downloads(a.Key))
				}
			}
		}
	}
	return n
}
