package daemon

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

// keeping is a retainer at work in a bubble, whose history remembers up to when it
// was asked to forget.
type keeping struct {
	*retainer
	clocks  *clocks
	started time.Time
	before  []time.Time
	told    []run.Event
	fail    error
}

func newKeeping(t *testing.T, k kept) *keeping {
	t.Helper()
	drop := filepath.Join(t.TempDir(), "drop")
	if _, err := inbox.Prepare(drop); err != nil {
		t.Fatal(err)
	}
	r := &keeping{clocks: &clocks{known: true}, started: time.Now()}
	r.retainer = &retainer{
		gate: gate{server: r.clocks.api, local: r.clocks.now, built: r.started.Add(-time.Hour)},
		tick: make(chan struct{}, 1), drop: drop, copied: time.Now, left: func() {},
		history: func(_ context.Context, before time.Time) (int, error) {
			r.before = append(r.before, before)
			return 0, r.fail
		},
		tell: func(e run.Event) { r.told = append(r.told, e) },
	}
	r.configure(k)
	return r
}

// looks has the retainer look so often, a tick apart, and says how often it went on.
func (r *keeping) looks(t *testing.T, n int) int {
	t.Helper()
	went := len(r.before)
	for range n {
		time.Sleep(retainEvery)
		synctest.Wait()
		r.look(t.Context())
	}
	return len(r.before) - went
}

func TestRetentionGoesByTheServersClockOnceTwoLooksAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, kept{runs: time.Hour, files: time.Hour})
		r.clocks.server = 3 * time.Hour // the local clock is wrong
		if n := r.looks(t, 1); n != 0 {
			t.Error("went on after one look")
		}
		if n := r.looks(t, 2); n != 2 || !r.before[0].Equal(r.started.Add(2*retainEvery+2*time.Hour)) {
			t.Errorf("went on %d times: %v", n, r.before)
		}
		r.configure(kept{runs: 2 * time.Hour, files: time.Hour}) // SIGHUP
		if r.looks(t, 1); !r.before[2].Equal(r.started.Add(4*retainEvery + time.Hour)) {
			t.Errorf("%v", r.before)
		}
		if len(r.told) > 0 {
			t.Errorf("told %+v", r.told)
		}
	})
}

func TestNothingIsRemovedWhileAClockJumps(t *testing.T) {
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
				r := newKeeping(t, kept{runs: time.Hour, files: time.Hour})
				if n := r.looks(t, 3); n != 2 {
					t.Fatalf("went on %d times", n)
				}
				c.jump(r.clocks)
				if n := r.looks(t, 3); n != c.went {
					t.Errorf("went on %d times", n)
				}
				var why []string
				for _, e := range r.told {
					if e.Kind != run.RetentionHeld {
						t.Errorf("told %+v", e)
					}
					why = append(why, e.Err.Error())
				}
				if c.why == "" && len(why) > 0 || c.why != "" && (len(why) == 0 || !strings.HasPrefix(why[0], c.why)) {
					t.Errorf("told %q", why)
				}
			})
		})
	}
}

func TestAClockThatJumpsAtEveryLookRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, kept{runs: time.Hour, files: time.Hour})
		for range 10 {
			r.clocks.server += 365 * 24 * time.Hour
			if n := r.looks(t, 1); n != 0 {
				t.Error("went on")
			}
		}
	})
}

func TestWhatCannotBeRemovedIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeping(t, kept{runs: time.Hour, files: time.Hour})
		r.fail = errors.New("no")
		r.looks(t, 5)
		r.fail = nil
		r.looks(t, 1)
		r.fail = errors.New("no")
		r.looks(t, 2)
		kinds := func() (k []run.EventKind) {
			for _, e := range r.told {
				k = append(k, e.Kind)
			}
			return k
		}()
		if want := []run.EventKind{run.RetentionFailed, run.RetentionFailed}; !slices.Equal(kinds, want) {
			t.Errorf("told %v", kinds)
		}
	})
}

// A drop file is still needed where no copy of the queue has its runs yet. File times
// are real, so this is no bubble: the clocks are a year ahead of them.
func TestADropFileStaysUntilACopyOfTheQueueHasItsRuns(t *testing.T) {
	r := newKeeping(t, kept{runs: time.Hour, files: time.Hour})
	path := filepath.Join(r.drop, "accepted", "list.txt")
	if err := os.WriteFile(path, []byte("run1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	r.clocks.local = 365 * 24 * time.Hour
	r.copied = func() time.Time { return old }
	r.look(t.Context())
	r.look(t.Context())
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if r.gate.last.IsZero() || len(r.before) == 0 {
		t.Fatal("it never went on")
	}
	r.copied = func() time.Time { return time.Now().Add(time.Minute) }
	r.files = time.Time{}
	r.look(t.Context())
	if _, err := os.Stat(path); err == nil {
		t.Error("it is still there")
	}
	if last := r.told[len(r.told)-1]; last.Kind != run.DropTrimmed || last.Count != 1 {
		t.Errorf("told %+v", last)
	}
}
