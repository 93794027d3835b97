package download_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

func TestAHostGetsNoMoreRequestsASecondThanIsSet(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.HostRate = 2
		w.addMany("run1", "a", "https://cdn/a", 5, hour)
		w.addMany("run2", "b", "https://other/b", 2, 12*hour)
		w.start()
		w.pass(time.Minute)
		if d := cmp.Diff(seconds(0, 0.5, 1, 1.5, 2), w.s.times("https://cdn/")); d != "" {
			t.Errorf("requests (-want +got):\n%s", d)
		}
		if d := cmp.Diff(seconds(0, 0.5), w.s.times("https://other/")); d != "" {
			t.Errorf("requests to another host (-want +got):\n%s", d)
		}
	})
}

func TestAHostThatThrottledIsAskedForLessAndInTimeForAsMuchAsBefore(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/", serve("warm", 0))
		w.add("run1", "warm", "https://cdn/warm", hour)
		w.start()
		w.pass(time.Second)
		w.s.rule("https://cdn/", slowly(100*time.Millisecond, refuse(transfer.Throttled, 429)))
		w.addMany("run1", "a", "https://cdn/a", 200, 12*hour)
		w.pass(500 * time.Millisecond)
		w.s.rule("https://cdn/", serve("body", 0))
		w.pass(11 * time.Minute)
		if told := w.told(run.HostSlowed); !strings.HasSuffix(told[len(told)-1].Note, ", and no more than 2.3 a second") {
			t.Errorf("told as %q", told[len(told)-1].Note)
		}
		if got := len(w.told(run.AssetKept)); got != 201 {
			t.Errorf("%d of 201 stored", got)
		}
		early, at := 0, w.s.times("https://cdn/a")
		for _, when := range at[4:] {
			if when < 12*time.Second {
				early++
			}
		}
		if early > 30 || at[len(at)-1] > time.Minute {
			t.Errorf("%d requests in the first 10 s after, the last of all at %v", early, at[len(at)-1])
		}
		before := len(at)
		w.addMany("run2", "b", "https://cdn/a", 100, 12*hour)
		w.pass(time.Second)
		if got := len(w.s.times("https://cdn/a")) - before; got != 100 {
			t.Errorf("ten minutes later %d of 100 are asked for in a second", got)
		}
	})
}

func TestMoreRequestsOfATransferTakeTurnsWithNewOnes(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.HostRate = 1
		done := make(chan time.Duration, 3)
		w.s.rule("https://cdn/wide", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			progress(0, 1000)
			for range 3 {
				if err := r.Turn(ctx); err != nil {
					return transfer.Result{}, &transfer.Failure{Class: transfer.Canceled, Err: err}
				}
				done <- time.Since(w.begin)
			}
			return serve("body", 0)(ctx, r, p, progress)
		})
		wide := w.add("run1", "wide", "https://cdn/wide", hour)
		w.addMany("run2", "a", "https://cdn/a", 4, 12*hour)
		w.start()
		w.pass(time.Minute)
		w.expect(wide, run.AssetStored)
		var all []time.Duration
		for range 3 {
			all = append(all, <-done)
		}
		for i, at := range all[1:] {
			if at-all[i] < 2*time.Second {
				t.Errorf("two turns in a row: %v", all)
			}
		}
		if at := w.s.times(""); len(at) != 5 || at[4] > 8*time.Second {
			t.Errorf("transfers began at %v", at)
		}
	})
}
