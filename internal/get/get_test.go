package get

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

func TestKeyCheck_RefusedByA401AndByA403OfAllRunsOnly(t *testing.T) {
	stop := func(kind run.RefusalKind) run.Event {
		return run.Event{Kind: run.APIRefused, Err: &run.Refusal{Kind: kind}}
	}
	one := func(id run.ID, kind run.RefusalKind) run.Event {
		return run.Event{Kind: run.PollRefused, Run: id, Err: &run.Refusal{Kind: kind}}
	}
	back := run.Event{Kind: run.APIBack}
	for name, c := range map[string]struct {
		ids    []run.ID
		events []run.Event
		at     int // which event ends it; -1: none
	}{
		"401":                          {[]run.ID{"a", "b"}, []run.Event{stop(run.Unauthorized)}, 0},
		"403 of the only run":          {[]run.ID{"a"}, []run.Event{stop(run.Forbidden), one("a", run.Forbidden)}, 1},
		"403 of every run":             {[]run.ID{"a", "b"}, []run.Event{stop(run.Forbidden), one("a", run.Forbidden), one("b", run.Forbidden)}, 2},
		"403 of the first":             {[]run.ID{"a", "b"}, []run.Event{stop(run.Forbidden), one("a", run.Forbidden), one("a", run.Forbidden)}, -1},
		"403 of the first, then a 200": {[]run.ID{"a", "b"}, []run.Event{stop(run.Forbidden), one("a", run.Forbidden), back, one("a", run.Forbidden)}, -1},
		"403 at the next probe":        {[]run.ID{"a", "b", "c"}, []run.Event{stop(run.Forbidden), one("a", run.Forbidden), stop(run.Forbidden)}, 2},
		"403 hours after a 200":        {[]run.ID{"a", "b", "c"}, []run.Event{stop(run.Forbidden), back, stop(run.Forbidden), stop(run.Forbidden)}, 3},
		"one's own 403":                {[]run.ID{"a"}, []run.Event{one("a", run.Forbidden)}, -1},
		"404":                          {[]run.ID{"a"}, []run.Event{one("a", run.NotFound)}, -1},
		"of a run that nobody gave":    {[]run.ID{"a"}, []run.Event{stop(run.Forbidden), one("x", run.Forbidden)}, -1},
	} {
		k := keyCheck{runs: map[run.ID]bool{}}
		for _, id := range c.ids {
			k.runs[id] = false
		}
		if got := slices.IndexFunc(c.events, k.note); got != c.at {
			t.Errorf("%s: ended at event %d, want %d", name, got, c.at)
		}
	}
}

func TestGet_ReportsProgressWaitsAndRuns(t *testing.T) {
	c, _, err := config.Load(config.Options{Set: []string{"storage.dir=" + t.TempDir(), "data_dir=" + t.TempDir()}, UID: 1})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		pulses, looks, waits := 0, 0, 0
		g, err := open(Options{
			Config: c, Key: "key", IDs: []run.HandIn{{ID: "aaaa"}}, Log: zap.NewNop(), Tell: func(run.Event) {},
			Progress: func([]download.Transfer) { looks++ }, Waits: func(all []Wait) {
				if waits++; len(all) != 1 || all[0].For != "the API's first answer" || all[0].Until == "" {
					t.Errorf("waits for %+v", all)
				}
			},
			Pulse: func(runs []run.Run) {
				if pulses++; len(runs) != 1 || runs[0].ID != "aaaa" {
					t.Errorf("got runs %v", runs)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer g.queue.Close()
		defer g.pipeline.Close()
		if _, err := g.queue.Add(t.Context(), g.IDs); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+5*time.Second)
		defer cancel()
		g.watch(ctx)
		if pulses != 3 || looks < 300 || waits != 19 {
			t.Errorf("%d pulses, %d looks and %d waits in 3 minutes", pulses, looks, waits)
		}
	})
}

// ended is a run's terminal answer with one image.
func ended(t *testing.T, q *queue.Queue, id run.ID) {
	t.Helper()
	answer := run.Answer{Status: run.Completed, Assets: []run.Listed{{Kind: run.Images, ID: "img", URL: "https://cdn.example/x.png?token=t"}}}
	if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: &answer, Terminal: true, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func TestCase_E4_OnlyTheRunsNamedAreWorkedOnAndOthersCanBeForgotten(t *testing.T) {
	output := t.TempDir()
	c, _, err := config.Load(config.Options{Set: []string{"storage.dir=" + output, "storage.min_free=0B", "data_dir=" + t.TempDir()}, UID: 1})
	if err != nil {
		t.Fatal(err)
	}
	g, err := open(Options{
		Config: c, Key: "key", IDs: []run.HandIn{{ID: "mine"}}, Log: zap.NewNop(), Tell: func(run.Event) {},
		Progress: func([]download.Transfer) {}, Pulse: func([]run.Run) {}, Waits: func([]Wait) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var all []run.HandIn
	for _, id := range []run.ID{"aaaa", "bbbb", "mine", "typo", "zzzz"} {
		all = append(all, run.HandIn{ID: id})
	}
	if _, err := g.queue.Add(ctx, all); err != nil {
		t.Fatal(err)
	}
	for _, id := range []run.ID{"aaaa", "mine", "zzzz"} { // these are downloading, the others wait for the API
		ended(t, g.queue, id)
	}
	if err := g.pipeline.Volume.Check(); err != nil {
		t.Fatal(err)
	}
	left, err := g.park(ctx)
	if err != nil || !slices.Equal(left, []run.ID{"aaaa", "bbbb", "typo", "zzzz"}) {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := g.makeDue(ctx); err != nil {
		t.Fatal(err)
	}
	due, next, err := g.queue.Due(ctx, time.Now().Add(time.Hour), run.Turns{}, 100)
	if err != nil || len(due) != 1 || due[0].ID != "mine" || !next.IsZero() {
		t.Errorf("due: %v, the next at %v, %v", due, next, err)
	}
	seen := view{g.queue, g.mine, func(run.Run) {}, newMissing(time.Minute)}
	page, _, err := seen.Waiting(ctx, "", 100)
	if err != nil || len(page) != 1 || page[0].Key.Run != "mine" {
		t.Errorf("assets that wait: %v, %v", page, err)
	}
	g.pipeline.Close()
	if err := g.queue.Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := Forget(ctx, c, []run.ID{"typo", "nope"}); err == nil || !strings.Contains(err.Error(), "run nope is not among what earlier calls left in "+output+" (aaaa bbbb mine typo zzzz)") {
		t.Errorf("one that is not there: %v", err)
	}
	if left, err := Forget(ctx, c, []run.ID{"typo", "aaaa"}); err != nil || !slices.Equal(left, []run.ID{"bbbb", "mine", "zzzz"}) {
		t.Errorf("left: %v, %v", left, err)
	}
	if left, err := Forget(ctx, c, []run.ID{"mine", "bbbb", "zzzz"}); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(output, ".assetd")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what get needed is still there: %v", err)
	}
	if _, err := Forget(ctx, c, []run.ID{"mine"}); err == nil || !strings.Contains(err.Error(), "nothing is left of an earlier call in "+output) {
		t.Errorf("nothing there: %v", err)
	}
}
