package download_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// A warning of a moment ago was of other assets.
func TestPeopleAreToldOfManyMoreThatWouldBeDeadBeforeTheNextWarning(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		w.narrowed(2 * mb)
		w.many("run1", cliff("a", 15, 4*mb, 20*time.Second))
		w.start()
		w.pass(10 * time.Second)
		before := len(w.told(run.AtRisk))
		if before != 1 {
			t.Errorf("told %d times of the first", before)
		}
		w.many("run2", cliff("b", 60, 2*mb, 20*time.Second))
		w.pass(10 * time.Second)
		told := w.told(run.AtRisk)
		if len(told) != before+1 || told[before].Count < 30 || told[before].Took < 5*time.Second {
			t.Errorf("told %+v", told)
		}
	})
}

// tooLarge is found to be too large after so long, whatever the throttle says.
func tooLarge(after time.Duration) fetchFunc {
	return func(_ context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		size, _ := sized(r.URL)
		if err := p.Reset(run.PartMark{ETag: `"e"`, Total: size}); err != nil {
			return transfer.Result{}, failure(transfer.Disk, 200, err)
		}
		progress(0, size)
		time.Sleep(after)
		return transfer.Result{}, failure(transfer.Rule, 200, errors.New("too large"))
	}
}

// Whoever is told of a loss may take a while, and decisions go on meanwhile.
func TestAnAssetThatIsLostIsAtRiskNoMore(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		w.narrowed(2 * mb)
		w.s.rule("https://cdn/huge", tooLarge(70*time.Second))
		w.onTell = func(e run.Event) {
			if e.Kind == run.AssetGone {
				time.Sleep(time.Minute)
			}
		}
		w.many("run1", cliff("huge", 1, 900*mb, 3*time.Minute))
		w.many("run2", cliff("a", 230, 2*mb, 200*time.Second))
		w.start()
		w.pass(time.Minute)
		huge := key("run1", "huge000")
		if !slices.Contains(w.pool.AtRisk(), huge) {
			t.Error("it is not at risk before it is lost")
		}
		w.pass(30 * time.Second)
		w.lost(huge, run.LossRefused)
		w.pass(10 * time.Minute)
		if w.stored() != 230 || len(w.told(run.AssetGone)) != 1 {
			t.Errorf("%d stored", w.stored())
		}
		if left := w.pool.AtRisk(); len(left) > 0 {
			t.Errorf("at risk, though nothing is left: %v", left)
		}
		if n := len(w.told(run.RiskOver)); n != 1 {
			t.Errorf("told %d times that it is over", n)
		}
	})
}

func TestNothingOfARemovedRunIsAtRisk(t *testing.T) {
	live(t, func(w *world) {
		w.q.cuts = map[string]time.Time{"cdn": time.Now()}
		w.narrowed(2 * mb)
		w.many("gone", cliff("a", 4, 300*mb, 4*time.Minute))
		w.many("stays", cliff("b", 60, 2*mb, 5*time.Minute))
		w.start()
		w.pass(time.Minute)
		of := func() (n int) {
			for _, k := range w.pool.AtRisk() {
				if k.Run == "gone" {
					n++
				}
			}
			return n
		}
		if n, all := of(), len(w.pool.InFlight()); n == 0 || all == 0 {
			t.Errorf("%d at risk, %d under way: this shows nothing", n, all)
		}
		w.q.mu.Lock()
		for k := range w.q.assets {
			if k.Run == "gone" {
				delete(w.q.assets, k)
			}
		}
		delete(w.q.runs, "gone")
		w.q.mu.Unlock()
		w.pool.Forget("gone")
		w.pass(time.Second)
		if n := of(); n > 0 {
			t.Errorf("%d assets of a run that was removed are at risk", n)
		}
	})
}
