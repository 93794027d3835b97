package download_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

func TestStartTakesInAllOpenAssets(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 16
		keys := w.addMany("run1", "a", "https://cdn/a", 1500, hour) // more than a page
		keys = append(keys, w.addMany("run2", "b", "https://cdn/b", 900, hour)...)
		w.start()
		w.pass(time.Minute)
		for _, k := range keys {
			w.expect(k, run.AssetStored)
		}
		if got := len(w.s.of("")); got != len(keys) {
			t.Errorf("%d requests", got)
		}
	})
}

func TestStartResumesWhatIsVerifiedWithoutAsking(t *testing.T) {
	live(t, func(w *world) {
		good := w.add("run1", "good", "https://cdn/good", hour)
		bad := w.add("run1", "bad", "https://cdn/bad", hour)
		for _, k := range []run.Key{good, bad} {
			w.q.set(k, func(a *run.Asset) { a.State, a.Stored = run.AssetVerified, &run.Stored{Size: 7} })
		}
		w.v.resume = func(a run.Asset) error {
			if a.Key == good {
				return nil
			}
			w.q.set(bad, func(a *run.Asset) { a.State, a.Stored = run.AssetWaiting, nil })
			return errors.New("neither part nor file compares")
		}
		w.start()
		w.pass(10 * time.Second)
		w.expect(good, run.AssetStored)
		w.expect(bad, run.AssetStored)
		if len(w.s.of("https://cdn/good")) != 0 || len(w.s.of("https://cdn/bad")) != 1 {
			t.Errorf("asked for %v", w.order())
		}
		if got := w.told(run.AssetAgain); len(got) != 1 || got[0].Asset != bad {
			t.Errorf("told %v", got)
		}
	})
}

func TestWhatStaysVerifiedIsHandedToTheStoreAgain(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.q.set(k, func(a *run.Asset) { a.State, a.Stored = run.AssetVerified, &run.Stored{Size: 7} })
		var tries atomic.Int64
		w.v.resume = func(run.Asset) error {
			if tries.Add(1) < 4 {
				return errors.New("its part is still in use")
			}
			return nil
		}
		w.start()
		w.pass(time.Second)
		if got := tries.Load(); got != 1 {
			t.Errorf("tried %d times in a second", got)
		}
		w.pass(20 * time.Second)
		w.expect(k, run.AssetStored)
		if tries.Load() != 4 || len(w.s.of("")) != 0 {
			t.Errorf("tried %d times, %d requests", tries.Load(), len(w.s.of("")))
		}
	})
}

func TestRestartInTheMiddleGoesOnWithItsParts(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		done := w.add("run1", "done", "https://cdn/done", hour)
		half := w.add("run1", "half", "https://cdn/half", 2*hour)
		gone := w.add("run1", "gone", "https://cdn/gone", 3*hour)
		w.s.rule("https://cdn/half", serve("0123456789", hour))
		w.s.rule("https://cdn/gone", refuse(transfer.Gone, 404))
		w.start()
		w.pass(10 * time.Minute)
		finals := w.evidence(gone).Finals
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if p := w.v.parts[half]; p == nil || p.open || len(p.data) != 5 {
			t.Fatalf("part %+v", p)
		}
		before := len(w.s.of("https://cdn/done"))
		w.s.rule("https://cdn/half", serve("0123456789", time.Minute))
		w.start()
		w.pass(10 * time.Minute)
		w.expect(half, run.AssetStored)
		if string(w.v.bytes[half]) != "0123456789" {
			t.Errorf("stored %q", w.v.bytes[half])
		}
		w.expect(done, run.AssetStored)
		if got := len(w.s.of("https://cdn/done")); got != before {
			t.Error("what was stored was asked for again")
		}
		if got := w.evidence(gone).Finals; got <= finals {
			t.Errorf("%d final-looking answers after the restart, %d before", got, finals)
		}
		w.pass(15 * time.Minute)
		w.lost(gone, run.LossFinal)
	})
}

func TestStopLetsRunningTransfersEndAndStartsNothing(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 2
		keys := w.addMany("run1", "a", "https://cdn/a", 10, hour)
		w.s.rule("https://cdn/", serve("body", 10*time.Second))
		w.start()
		w.pass(12 * time.Second) // one is done, two are on their way
		w.stopping()
		w.pass(4 * time.Second)
		select {
		case err := <-w.done:
			t.Fatalf("ended with transfers on their way: %v", err)
		default:
		}
		w.pass(5 * time.Second)
		select {
		case err := <-w.done:
			w.done <- err
		default:
			t.Fatal("still running though its transfers have ended")
		}
		stored := 0
		for _, k := range keys {
			if w.q.state(k) == run.AssetStored {
				stored++
			}
		}
		if requests := len(w.s.of("")); stored != requests || requests > 4 {
			t.Errorf("%d stored of %d begun", stored, requests)
		}
	})
}

func TestHardStopKeepsThePartsAndCountsNoFailure(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.s.rule("https://cdn/", serve("0123456789", 10*time.Second))
		w.start()
		w.pass(time.Second)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if p := w.v.parts[k]; p == nil || p.open || string(p.data) != "01234" {
			t.Errorf("part %+v", p)
		}
		if len(w.q.trials[k]) != 0 || len(w.told(run.AssetRetry)) != 0 {
			t.Errorf("counted %v", w.q.trials[k])
		}
		w.s.rule("https://cdn/", func(ctx context.Context, _ transfer.Request, _ transfer.Part, _ func(int64, int64)) (transfer.Result, error) {
			<-ctx.Done()
			return transfer.Result{}, failure(transfer.Server, 500, errors.New("in the same moment"))
		})
		w.start()
		w.pass(time.Second)
		w.stop()
		if got := w.told(run.QueueTrouble); len(got) != 0 {
			t.Errorf("told %v", got)
		}
	})
}

func TestBrokenQueueEndsThePool(t *testing.T) {
	live(t, func(w *world) {
		w.addMany("run1", "a", "https://cdn/a", 10, hour)
		w.s.rule("https://cdn/", slowly(time.Second, refuse(transfer.Server, 500)))
		w.s.rule("https://cdn/a000", serve("body", hour))
		w.start()
		w.pass(100 * time.Millisecond)
		w.q.mu.Lock()
		w.q.fail = errBroken
		w.q.mu.Unlock()
		w.pass(2 * time.Second)
		select {
		case err := <-w.done:
			if !errors.Is(err, errBroken) {
				t.Errorf("ended with %v", err)
			}
			w.done <- err
		default:
			t.Error("still running on a broken queue")
		}
	})
}

func TestQueueThatCannotBeWrittenForAWhileCostsNothing(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.s.rule("https://cdn/", refuse(transfer.Server, 500))
		w.q.fail = errors.New("no space left on device")
		w.start()
		w.pass(time.Minute)
		w.q.mu.Lock()
		w.q.fail = nil
		w.q.mu.Unlock()
		w.s.rule("https://cdn/", serve("body", 0))
		if got := len(w.told(run.QueueTrouble)); got == 0 || got > 20 {
			t.Errorf("trouble told %d times in a minute", got)
		}
		w.pass(2 * time.Minute)
		w.expect(k, run.AssetStored)
	})
}

func TestChangeThatComesWhileAnAssetIsFetchedIsNotMissed(t *testing.T) {
	live(t, func(w *world) {
		w.clk.skew["cdn"] = 0
		k := w.add("run1", "a", "https://cdn/old", time.Second)
		w.s.rule("https://cdn/old", slowly(10*time.Second, refuse(transfer.Refused, 403)))
		w.start()
		w.pass(5 * time.Second)
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn/new", hour)})
		w.pass(6 * time.Second)
		w.expect(k, run.AssetStored)
		if asked := w.asked(); len(asked) != 0 {
			t.Errorf("fresh URLs were asked for though they were there: %v", asked)
		}
	})
}

func TestURLThatTheQueueDoesNotKnowOfYetLosesNothing(t *testing.T) {
	live(t, func(w *world) {
		w.clk.skew["cdn"] = 0
		k := w.add("run1", "a", "https://cdn/old", time.Second)
		w.pass(time.Minute)
		w.again("run1") // dead, and no later one
		w.q.mu.Lock()
		w.q.urls[k] = w.listed(k, "https://cdn/new", hour) // saved, but not yet recorded
		w.q.mu.Unlock()
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.start()
		w.pass(time.Minute)
		w.expect(k, run.AssetWaiting)
		if len(w.s.of("https://cdn/new")) == 0 {
			t.Error("the URL at hand was not tried")
		}
	})
}

func TestRetriedAssetIsFetchedAgain(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://x/a", hour)
		w.s.rule("https://x/", refuse(transfer.Rule, 0))
		w.start()
		w.pass(time.Second)
		w.lost(k, run.LossRefused)
		w.q.set(k, func(a *run.Asset) { *a = a.Again() })
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn/a", hour)})
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}

func TestARunThatWasRemovedIsStoppedAndNoOtherIs(t *testing.T) {
	live(t, func(w *world) {
		gone := w.addMany("gone", "a", "https://cdn/gone", 10, hour)
		stays := w.add("stays", "a", "https://cdn/stays", hour)
		w.s.rule("https://cdn/", serve("0123456789", 10*time.Second))
		w.start()
		w.pass(time.Second)
		asked := len(w.s.of("https://cdn/gone"))
		if asked == 0 || asked == len(gone) || len(w.pool.InFlight()) != w.cfg.Workers {
			t.Fatalf("%d of %d asked for", asked, len(gone))
		}
		w.q.mu.Lock()
		for _, k := range gone {
			delete(w.q.assets, k)
		}
		delete(w.q.runs, "gone")
		w.q.mu.Unlock()
		w.pool.Forget("gone")
		w.pass(100 * time.Millisecond)
		for _, f := range w.pool.InFlight() {
			if f.Key.Run == "gone" {
				t.Errorf("%s is still under way", f.Key)
			}
		}
		w.pass(hour)
		w.expect(stays, run.AssetStored)
		if n := len(w.s.of("https://cdn/gone")); n != asked {
			t.Errorf("%d requests after the removal", n-asked)
		}
		if trouble := w.told(run.QueueTrouble); len(trouble) > 0 {
			t.Errorf("told %v", trouble)
		}
		for _, k := range gone {
			if p := w.v.parts[k]; p != nil && p.open {
				t.Errorf("the part of %s is open", k)
			}
		}
	})
}

func TestNoEventHoldsASecret(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		for n, f := range []fetchFunc{
			refuse(transfer.Gone, 404), refuse(transfer.Refused, 403), refuse(transfer.Rule, 0), serve("body", 0), hang(time.Second),
			func(_ context.Context, r transfer.Request, _ transfer.Part, _ func(int64, int64)) (transfer.Result, error) {
				panic(r.URL)
			},
		} {
			url := fmt.Sprintf("https://cdn%d/a", n)
			w.add("run1", fmt.Sprint("a", n), url+"?token=exp=1~hmac=SECRET", hour)
			w.s.rule(url, f)
		}
		w.start()
		w.pass(2 * hour)
		if len(w.events) < 10 {
			t.Fatalf("%d events", len(w.events))
		}
		for _, e := range w.events {
			if text := fmt.Sprintf("%+v %v", e, e.Err); strings.Contains(text, "SECRET") {
				t.Errorf("told %s", text)
			}
		}
	})
}
