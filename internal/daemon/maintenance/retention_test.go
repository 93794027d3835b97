package maintenance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/run"
)

// clocks are a local and a server's clock that can be set.
type clocks struct {
	local, server time.Duration // ahead of the bubble's
	known         bool
}

func (c *clocks) now() time.Time { return time.Now().Add(c.local) }

func (c *clocks) api() (time.Time, bool) { return time.Now().Add(c.server), c.known }

// keeping is a Retention at work in a bubble, whose history records up to when it was asked
// to remove runs.
type keeping struct {
	*Retention
	clocks  *clocks
	started time.Time
	before  []time.Time
	emitted []run.Event
	covered time.Time
	fail    error
}

func (r *keeping) Expired(_ context.Context, before time.Time) ([]run.ID, error) {
	r.before = append(r.before, before)
	return nil, r.fail
}

func (*keeping) Expire(context.Context, []run.ID, time.Time) (int, error) { return 0, nil }

func newKeeping(t *testing.T, keep limits) *keeping {
	t.Helper()
	drop := filepath.Join(t.TempDir(), "drop")
	if _, err := inbox.Prepare(drop); err != nil {
		t.Fatal(err)
	}
	r := &keeping{clocks: &clocks{known: true}, started: time.Now(), covered: time.Now()}
	r.Retention = NewRetention(configOf(keep), RetentionDeps{
		History: r, DropDir: drop, Clock: r.clocks.api, Built: r.started.Add(-time.Hour),
		Covered: func() time.Time { return r.covered }, Leftover: func() {},
		Emit: func(e run.Event) { r.emitted = append(r.emitted, e) },
	})
	r.clock.local = r.clocks.now
	return r
}

func configOf(keep limits) *config.Config {
	return &config.Config{Retention: config.Retention{Runs: keep.runs}, Drop: config.Drop{Keep: keep.files}}
}

// looks has r trim n times, a tick apart, and returns how often it trusted the clock.
func (r *keeping) looks(t *testing.T, n int) int {
	t.Helper()
	went := len(r.before)
	for range n {
		time.Sleep(retentionInterval)
		synctest.Wait()
		r.trim(t.Context())
	}
	return len(r.before) - went
}

func TestRetention_FollowsTheServersClockOnceTwoReadingsAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, limits{runs: time.Hour, files: time.Hour})
		r.clocks.server = 3 * time.Hour // the local clock is wrong
		if n := r.looks(t, 1); n != 0 {
			t.Error("went on after one look")
		}
		if n := r.looks(t, 2); n != 2 || !r.before[0].Equal(r.started.Add(2*retentionInterval+2*time.Hour)) {
			t.Errorf("went on %d times: %v", n, r.before)
		}
		r.Configure(configOf(limits{runs: 2 * time.Hour, files: time.Hour})) // SIGHUP
		if r.looks(t, 1); !r.before[2].Equal(r.started.Add(4*retentionInterval + time.Hour)) {
			t.Errorf("%v", r.before)
		}
		if len(r.emitted) > 0 {
			t.Errorf("emitted %+v", r.emitted)
		}
	})
}

func TestRetention_RemovesNothingWhileAClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		jump func(*clocks)
		why  string // told; empty: there is nothing to tell
		went int    // in the three looks after it
	}{
		"forward a year":    {func(c *clocks) { c.server += 365 * 24 * time.Hour }, "it jumped by 8760h0m0s", 2},
		"back half an hour": {func(c *clocks) { c.server -= 30 * time.Minute }, "it jumped by -30m0s", 2},
		"before the build":  {func(c *clocks) { c.server -= 2 * time.Hour }, "the API's clock says", 0},
		"local before it":   {func(c *clocks) { c.local -= 2 * time.Hour }, "the local clock says", 0},
		"not known":         {func(c *clocks) { c.known = false }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newKeeping(t, limits{runs: time.Hour, files: time.Hour})
				if n := r.looks(t, 3); n != 2 {
					t.Fatalf("went on %d times", n)
				}
				c.jump(r.clocks)
				if n := r.looks(t, 3); n != c.went {
					t.Errorf("went on %d times", n)
				}
				var why []string
				for _, e := range r.emitted {
					if e.Kind != run.RetentionHeld {
						t.Errorf("emitted %+v", e)
					}
					why = append(why, e.Err.Error())
				}
				if c.why == "" && len(why) > 0 || c.why != "" && (len(why) == 0 || !strings.HasPrefix(why[0], c.why)) {
					t.Errorf("emitted %q", why)
				}
			})
		})
	}
}

func TestRetention_RemovesNothingIfAClockJumpsEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, limits{runs: time.Hour, files: time.Hour})
		for range 10 {
			r.clocks.server += 365 * 24 * time.Hour
			if n := r.looks(t, 1); n != 0 {
				t.Error("went on")
			}
		}
	})
}

func TestRetention_ReportsAFailureOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, limits{runs: time.Hour, files: time.Hour})
		r.fail = errors.New("no")
		r.looks(t, 5)
		r.fail = nil
		r.looks(t, 1)
		r.fail = errors.New("no")
		r.looks(t, 2)
		kinds := func() (k []run.EventKind) {
			for _, e := range r.emitted {
				k = append(k, e.Kind)
			}
			return k
		}()
		if want := []run.EventKind{run.RetentionFailed, run.RetentionFailed}; !slices.Equal(kinds, want) {
			t.Errorf("emitted %v", kinds)
		}
	})
}

// A drop file is still needed where no copy of the queue has its runs yet. File times
// are real, so this is no bubble: the clocks are a year ahead of them.
func TestRetention_DropFileStaysUntilACopyOfTheQueueHasItsRuns(t *testing.T) {
	r := newKeeping(t, limits{runs: time.Hour, files: time.Hour})
	path := filepath.Join(r.deps.DropDir, "accepted", "list.txt")
	if err := os.WriteFile(path, []byte("run1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	r.clocks.local = 365 * 24 * time.Hour
	r.covered = old
	r.trim(t.Context())
	r.trim(t.Context())
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if r.clock.last.IsZero() || len(r.before) == 0 {
		t.Fatal("it never went on")
	}
	r.covered = time.Now().Add(time.Minute)
	r.nextFiles = time.Time{}
	r.trim(t.Context())
	if _, err := os.Stat(path); err == nil {
		t.Error("it is still there")
	}
	if last := r.emitted[len(r.emitted)-1]; last.Kind != run.DropTrimmed || last.Count != 1 {
		t.Errorf("emitted %+v", last)
	}
}
