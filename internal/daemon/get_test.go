package daemon

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
)

func TestAKeyIsRefusedByA401AndByA403OfAllOnly(t *testing.T) {
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

func TestWhoWaitsIsToldEveryMinuteHowItStands(t *testing.T) {
	c, _, err := config.Load(config.Options{Set: []string{"storage.dir=" + t.TempDir(), "data_dir=" + t.TempDir()}, UID: 1})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		pulses, looks := 0, 0
		g, err := openGet(GetOptions{
			Config: c, Key: "key", IDs: []run.HandIn{{ID: "aaaa"}}, Log: zap.NewNop(), Tell: func(run.Event) {},
			Progress: func([]download.Transfer) { looks++ },
			Pulse: func(runs []run.Run) {
				if pulses++; len(runs) != 1 || runs[0].ID != "aaaa" {
					t.Errorf("told of %v", runs)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer g.queue.Close()
		defer g.engine.close()
		if _, err := g.queue.Add(t.Context(), g.IDs); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer cancel()
		g.watch(ctx)
		if pulses != 3 || looks < 300 {
			t.Errorf("%d pulses and %d looks in 3 minutes", pulses, looks)
		}
	})
}
