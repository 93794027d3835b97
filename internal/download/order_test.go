package download_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

func TestMostUrgentAssetComesFirst(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.add("run1", "far", "https://cdn/far", 12*hour)
		w.add("run2", "near", "https://cdn/near", hour)
		w.add("run3", "mid", "https://cdn/mid", 6*hour)
		w.add("run4", "unknown", "https://cdn/unknown", 0)
		w.start()
		w.pass(hour / 60)
		if d := cmp.Diff([]string{"unknown", "near", "mid", "far"}, w.order()); d != "" {
			t.Errorf("order (-want +got):\n%s", d)
		}
	})
}

func TestLateUrgentAssetOvertakesAllThatHaveNotStarted(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.addMany("run1", "far", "https://cdn/far", 5, 12*hour)
		w.start()
		w.pass(150 * time.Millisecond) // in the second one
		w.add("run2", "near", "https://cdn/near", hour)
		w.pass(time.Second)
		if got := w.order(); got[2] != "near" {
			t.Errorf("order %v", got)
		}
	})
}

func TestFailuresOfOneAssetTouchNoOther(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 2
		bad := w.add("run1", "bad", "https://cdn/bad", hour)
		w.s.rule("https://cdn/bad", refuse(transfer.Server, 500))
		hot := w.add("run1", "hot", "https://cdn/hot", hour)
		w.s.rule("https://cdn/hot", func(context.Context, transfer.Request, transfer.Part, func(int64, int64)) (transfer.Result, error) {
			panic("at https://cdn/hot?token=secret")
		})
		good := w.addMany("run1", "good", "https://cdn/good", 20, 6*hour)
		w.start()
		w.pass(3 * time.Second)
		for _, k := range good {
			w.expect(k, run.AssetStored)
		}
		w.expect(bad, run.AssetWaiting)
		w.expect(hot, run.AssetWaiting)
		panics := w.told(run.StageRecovered)
		if len(panics) == 0 {
			t.Fatal("no panic was told")
		}
		if e := panics[0]; e.Asset != hot || !strings.Contains(e.Note, "goroutine") || strings.Contains(e.Err.Error()+e.Note, "secret") {
			t.Errorf("panic told as %+v", e)
		}
		w.s.rule("https://cdn/bad", serve("now it works", 0))
		w.s.rule("https://cdn/hot", serve("now it works", 0))
		w.pass(time.Minute)
		w.expect(bad, run.AssetStored)
		w.expect(hot, run.AssetStored)
	})
}

func TestAsManyAtATimeAsThereAreWorkers(t *testing.T) {
	live(t, func(w *world) {
		w.addMany("run1", "a", "https://cdn/", 50, hour)
		w.start()
		w.pass(time.Minute)
		if w.s.max != 4 {
			t.Errorf("%d at a time, want 4", w.s.max)
		}
		if len(w.told(run.AssetKept)) != 50 || len(w.s.of("")) != 50 {
			t.Errorf("%d kept with %d requests", len(w.told(run.AssetKept)), len(w.s.of("")))
		}
	})
}

func TestAssetWaitsASecondDoublingToAMinute(t *testing.T) {
	live(t, func(w *world) {
		w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/a", refuse(transfer.Server, 500))
		w.start()
		w.pass(4 * time.Minute)
		s := time.Second
		want := []time.Duration{0, s, 3 * s, 7 * s, 15 * s, 31 * s, 63 * s, 123 * s, 183 * s}
		if d := cmp.Diff(want, w.s.times("")); d != "" {
			t.Errorf("tried at (-want +got):\n%s", d)
		}
	})
}

func TestPollsThatBringNothingNewShortenNoWait(t *testing.T) {
	live(t, func(w *world) {
		w.v.free = 5
		w.add("run1", "a", "https://cdn/a", 12*hour)
		w.add("run1", "room", "https://room/a", 12*hour)
		w.s.rule("https://cdn/a", slowly(900*time.Millisecond, refuse(transfer.Server, 500)))
		w.start()
		for range 80 { // as of a run that goes on
			w.pass(500 * time.Millisecond)
			w.again("run1")
		}
		if d := cmp.Diff(seconds(0, 1.9, 4.8, 9.7, 18.6, 35.5), w.s.times("https://cdn/a")); d != "" {
			t.Errorf("tried at (-want +got):\n%s", d)
		}
		if got := len(w.s.of("https://room/")); got != 1 {
			t.Errorf("asked %d times for what has no room", got)
		}
	})
}

func TestOnlyTheFirstAnswerAfterARefusalShortensAWait(t *testing.T) {
	live(t, func(w *world) {
		w.add("run1", "a", "https://cdn/a", 0)
		w.s.rule("https://cdn/a", refuse(transfer.Refused, 403))
		w.start()
		w.pass(500 * time.Millisecond)
		w.s.rule("https://cdn/a", refuse(transfer.Server, 500))
		for range 60 {
			w.again("run1")
			w.pass(500 * time.Millisecond)
		}
		if d := cmp.Diff(seconds(0, 0.5, 2.5, 6.5, 14.5, 30.5), w.s.times("")); d != "" {
			t.Errorf("tried at (-want +got):\n%s", d)
		}
	})
}

func TestAssetIsTriedCloserTogetherAsItsDeathComesNear(t *testing.T) {
	live(t, func(w *world) {
		w.add("run1", "a", "https://cdn/a", 16*time.Minute)
		w.s.rule("https://cdn/a", refuse(transfer.Server, 500))
		w.start()
		w.pass(16 * time.Minute)
		at := w.s.times("")
		if gap := at[8] - at[7]; gap > time.Minute || gap < 30*time.Second {
			t.Errorf("far from death a gap of %v", gap)
		}
		if gap := at[len(at)-1] - at[len(at)-2]; gap != time.Second {
			t.Errorf("at death a gap of %v", gap)
		}
	})
}

func TestDeadHostDoesNotStarveAnother(t *testing.T) {
	live(t, func(w *world) {
		w.addMany("run1", "d", "https://dead/", 1000, hour)
		w.s.rule("https://dead/", hang(10*time.Second))
		good := w.addMany("run2", "g", "https://cdn/", 40, 6*hour)
		w.start()
		w.pass(3 * time.Second) // 40 of 100 ms each over three workers
		for _, k := range good {
			w.expect(k, run.AssetStored)
		}
		w.pass(10 * time.Minute)
		if got := w.s.of("https://dead/"); len(got) < 8 || len(got) > 14 {
			t.Errorf("%d requests to a dead host in ten minutes", len(got))
		}
		for i, r := range w.s.of("https://dead/") {
			if i > 0 && r.at-w.s.of("https://dead/")[i-1].at < 10*time.Second {
				t.Fatalf("two requests at a time, the second at %v", r.at)
			}
		}
	})
}

func TestSlowHostDoesNotStarveAnother(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://slow/", serve("slow", time.Minute))
		w.addMany("run1", "s", "https://slow/", 1000, hour)
		w.start()
		w.pass(30 * time.Second)
		if got := len(w.s.of("https://slow/")); got != 4 {
			t.Errorf("%d workers for the host that has all work, want 4", got)
		}
		good := w.addMany("run2", "g", "https://cdn/g", 50, 6*hour)
		w.pass(36 * time.Second) // a worker is free after 30 of them
		for _, k := range good {
			w.expect(k, run.AssetStored)
		}
		if got := len(w.s.of("https://slow/")); got != 8 {
			t.Errorf("%d requests to the slow host in two rounds, want 8", got)
		}
	})
}

func TestRunIsPreparedWhenItHasEndedOnceAndAgainWhenItEndsByItself(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/bad", refuse(transfer.Server, 500))
		w.start()
		w.goesOn("run1", "bad", "https://cdn/bad", hour)
		w.pass(10 * time.Second)
		if len(w.prepared) != 0 {
			t.Errorf("prepared %d times before its end", len(w.prepared))
		}
		w.ends("run1", nil)
		w.addMany("run1", "a", "https://cdn/", 10, hour)
		w.pass(10 * time.Second)
		if len(w.prepared) != 1 {
			t.Errorf("prepared %d times, want once", len(w.prepared))
		}
		w.prepare = func(run.ID) (bool, error) { return true, nil }
		w.pool.Changed(run.Change{Run: w.q.runs["run1"], Ended: true}) // it had been given up
		w.pass(time.Minute)
		if len(w.prepared) != 2 {
			t.Errorf("prepared %d times, want once more", len(w.prepared))
		}
		requests := len(w.s.of("https://cdn/bad"))
		w.pass(hour / 2)
		if got := len(w.s.of("https://cdn/bad")); got != requests {
			t.Error("it was asked for after an older manifest had it")
		}
	})
}

func TestRunThatCannotBePreparedIsTriedAgain(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		fail := true
		w.prepare = func(run.ID) (bool, error) {
			if fail {
				return false, errors.New("directory: permission denied")
			}
			return false, nil
		}
		w.start()
		w.pass(10 * time.Second)
		if len(w.s.of("")) != 0 || len(w.told(run.AssetRetry)) == 0 {
			t.Errorf("%d requests, %d told", len(w.s.of("")), len(w.told(run.AssetRetry)))
		}
		if len(w.svc.Paused()) == 0 {
			t.Error("time in which the volume cannot be used is counted")
		}
		w.mu.Lock()
		fail = false
		w.mu.Unlock()
		w.pass(time.Minute)
		w.expect(k, run.AssetStored)
		if got := w.svc.Paused(); len(got) != 0 {
			t.Errorf("paused by %v", got)
		}
	})
}

func TestInFlightShowsWhatRuns(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://CDN/a", hour)
		w.s.rule("https://CDN/a", serve("0123456789", 10*time.Second))
		w.start()
		w.pass(time.Second)
		want := []download.Transfer{{Key: k, Host: "cdn", Bytes: 5, Total: 10, Since: w.begin}}
		if d := cmp.Diff(want, w.pool.InFlight()); d != "" {
			t.Errorf("in flight (-want +got):\n%s", d)
		}
		w.pass(10 * time.Second)
		if got := w.pool.InFlight(); len(got) != 0 {
			t.Errorf("in flight: %v", got)
		}
		kept := w.told(run.AssetKept)
		if len(kept) != 1 || kept[0].Bytes != 10 || kept[0].Took != 10*time.Second || kept[0].Host != "cdn" {
			t.Errorf("told %+v", kept)
		}
	})
}

func TestRunThatAnOlderManifestHasIsLeftAlone(t *testing.T) {
	live(t, func(w *world) {
		w.prepare = func(run.ID) (bool, error) { return true, nil }
		w.addMany("run1", "a", "https://cdn/a", 10, hour)
		w.start()
		w.pass(hour)
		if len(w.s.of("")) != 0 || len(w.prepared) != 1 {
			t.Errorf("%d requests, prepared %d times", len(w.s.of("")), len(w.prepared))
		}
	})
}

// The other workers have taken assets of the run when the first one finds out.
func TestRunThatAnOlderManifestHasIsLeftAloneByAllWorkers(t *testing.T) {
	live(t, func(w *world) {
		w.add("run0", "opens the host", "https://cdn/first", hour)
		w.start()
		w.pass(time.Second)
		w.mu.Lock()
		w.prepare = func(id run.ID) (bool, error) {
			for w.q.reads(id) < w.cfg.Workers {
				runtime.Gosched()
			}
			adopted := false // the second time nothing is open
			for i := range w.cfg.Workers {
				w.q.set(key(id, fmt.Sprintf("a%03d", i)), func(a *run.Asset) {
					adopted = adopted || a.State == run.AssetWaiting
					a.State = run.AssetStored
				})
			}
			return adopted, nil
		}
		w.mu.Unlock()
		w.addMany("run1", "a", "https://cdn/a", w.cfg.Workers, hour)
		w.pass(time.Minute)
		if got := len(w.s.of("https://cdn/a")); got != 0 {
			t.Errorf("%d requests for what is stored", got)
		}
	})
}

func TestAnotherURLBeginsItsWaitsAnew(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/", refuse(transfer.Server, 500))
		w.start()
		w.pass(10 * time.Minute)
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn/b", 12*hour)})
		w.pass(4 * time.Second)
		if d := cmp.Diff(seconds(600, 601, 603), w.s.times("https://cdn/b")); d != "" {
			t.Errorf("tried at (-want +got):\n%s", d)
		}
	})
}
