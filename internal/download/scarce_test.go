package download_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

const mb = 1_000_000

// cliff is n assets of so many bytes that die together.
func cliff(name string, n int, bytes int64, life time.Duration) sizes {
	all := sizes{}
	for i := range n {
		all[fmt.Sprintf("%s%03d", name, i)] = struct {
			bytes int64
			life  time.Duration
		}{bytes, life}
	}
	return all
}

func (w *world) stored() (n int) {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	return len(w.v.stored)
}

func TestWhatCannotBeFinishedInTimeIsBegunHeldAndFinishedAfter(t *testing.T) {
	for _, maxOpen := range []int{64, 0} {
		live(t, func(w *world) {
			w.cfg.MaxOpen = maxOpen
			l := w.narrowed(2 * mb)
			w.many("run1", cliff("a", 40, 2*mb, 20*time.Second)) // 40 s of the line
			w.start()
			w.pass(2 * time.Minute)
			switch got, l := w.stored(), l.tally(); {
			case maxOpen > 0 && (got != 40 || l.refused > 0):
				t.Errorf("%d of 40 saved, %d refused", got, l.refused)
			case maxOpen == 0 && (got < 17 || got > 24 || l.most > w.cfg.Workers || len(l.held) > 0):
				t.Errorf("%d saved, %d open at a time, %d held: none may be", got, l.most, len(l.held))
			}
		})
	}
}

func TestNoMoreConnectionsAreHeldThanMayBe(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 8
		l := w.narrowed(2 * mb)
		w.many("run1", cliff("a", 40, 2*mb, 20*time.Second))
		w.start()
		w.pass(2 * time.Minute)
		if got, most := w.stored(), l.tally().most; most > 8+w.cfg.Workers || got < 24 || got > 34 {
			t.Errorf("%d open at a time, %d saved", most, got)
		}
	})
}

func TestHostThatCutsIsRememberedAndNothingOfItHeld(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		l := w.narrowed(2 * mb)
		l.cuts = true
		w.many("run1", cliff("a", 40, 2*mb, 20*time.Second))
		w.start()
		w.pass(2 * time.Minute)
		if told := w.told(run.HostCuts); len(told) != 1 || told[0].Host != "cdn" {
			t.Errorf("told %+v", told)
		}
		if w.q.cuts["cdn"].IsZero() {
			t.Error("it is not on record")
		}
		w.stop()
		l.count(func() { clear(l.held) })
		before := w.stored()
		w.many("run2", cliff("b", 40, 2*mb, 20*time.Second))
		w.start() // another life
		w.pass(time.Minute)
		if got, held := w.stored()-before, l.tally().held; got < 17 || len(held) > 0 {
			t.Errorf("%d of 20 that can be are saved, held were %v", got, held)
		}
	})
}

func TestHostWhoseTransfersOutliveTheirURLsIsNotTakenForACutter(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		w.q.cuts = map[string]time.Time{"cdn": time.Now()}
		w.narrowed(2 * mb)
		w.many("run1", cliff("long", 1, 60*mb, 10*time.Second)) // it cannot be stopped in time to help
		w.start()
		w.pass(time.Minute)
		if w.stored() != 1 || len(w.q.cuts) > 0 {
			t.Errorf("%d stored, on record as cutting: %v", w.stored(), w.q.cuts)
		}
	})
}

func TestFarTransferIsStoppedAndItsPartKeptWhenANearOneNeedsTheLink(t *testing.T) {
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.many("far1", cliff("far", 4, 20*mb, hour))
		w.start()
		w.pass(4 * time.Second)
		w.many("near", cliff("near", 9, 2*mb, 12*time.Second)) // 9 s of the line
		w.pass(12 * time.Second)
		for i := range 9 {
			w.expect(key("near", fmt.Sprintf("near%03d", i)), run.AssetStored)
		}
		w.pass(2 * time.Minute)
		if got := w.stored(); got != 13 {
			t.Errorf("%d stored", got)
		}
		if n := len(w.s.of("https://cdn/far")); n <= 4 || n > 16 {
			t.Errorf("%d requests for 4 far assets: want some that were stopped and gone on with, not many", n)
		}
		kept := w.told(run.AssetKept)
		if at := kept[len(kept)-1]; at.Took > 100*time.Second {
			t.Errorf("the last took %s", at.Took)
		}
	})
}

func TestLateUrgentArrivalOvertakesWhatIsOrdered(t *testing.T) {
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.many("run1", cliff("a", 30, 2*mb, 20*time.Second))
		w.start()
		w.pass(5 * time.Second)
		w.many("run2", cliff("urgent", 1, mb, 3*time.Second))
		w.pass(3 * time.Second)
		w.expect(key("run2", "urgent000"), run.AssetStored)
	})
}

func TestSizesAreAskedOnlyWhenTimeIsShortAndNotOfAHostThatMinds(t *testing.T) {
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.many("calm", cliff("calm", 30, mb, hour))
		w.start()
		w.pass(30 * time.Second)
		if len(w.s.sized) > 0 {
			t.Errorf("%d sizes were asked for with time for all", len(w.s.sized))
		}
		w.many("run1", cliff("a", 40, 2*mb, 15*time.Second))
		w.pass(3 * time.Second)
		if len(w.s.sized) < 20 {
			t.Errorf("%d sizes were asked for", len(w.s.sized))
		}
		seen := map[run.Key]int{}
		for _, r := range w.s.sized {
			if seen[r.key]++; seen[r.key] > 1 {
				t.Errorf("%s was asked for twice", r.key)
			}
		}
	})
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.s.size = func(r transfer.Request) (int64, error) { return 0, failure(transfer.Refused, 403, errTold) }
		w.many("run1", cliff("a", 40, 2*mb, 9*time.Second))
		w.start()
		w.pass(8 * time.Second)
		if n := len(w.s.sized); n == 0 || n > 8 {
			t.Errorf("%d sizes were asked for, of a host that refused the first", n)
		}
	})
}

var errTold = fmt.Errorf("no")

func TestPeopleAreToldOnceWhatMayBeLostAndWhenThatIsOver(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		w.narrowed(2 * mb)
		w.many("run1", cliff("a", 40, 2*mb, 20*time.Second))
		w.start()
		w.pass(3 * time.Second)
		told := w.told(run.AtRisk)
		if len(told) != 1 {
			t.Errorf("told %d times: %+v", len(told), told)
			return
		}
		e := told[0]
		if e.Count < 10 || e.Bytes < 15*mb || e.Took > 20*time.Second || !strings.Contains(e.Note, "the link is too slow") || !strings.Contains(e.Note, "held open") {
			t.Errorf("told %+v", e)
		}
		w.pass(2 * time.Minute)
		if n, over := len(w.told(run.AtRisk)), len(w.told(run.RiskOver)); n > 1 || over != 1 {
			t.Errorf("told %d times of it, %d times that it is over", n, over)
		}
	})
}

func TestPeopleAreToldOfWhatAHostOrTheVolumeHoldsUpBeforeItDies(t *testing.T) {
	for what, hinder := range map[string]func(w *world){
		"https://down": nil,
		"no room":      func(w *world) { w.v.free = 1 },
		"offline":      func(w *world) { w.v.offline = run.ErrVolumeOffline },
	} {
		live(t, func(w *world) {
			if hinder != nil {
				hinder(w)
			}
			host := "https://cdn/a"
			if hinder == nil {
				host = what + "/a"
				w.s.rule(host, refuse(transfer.Throttled, 503))
			}
			w.addMany("run1", "a", host, 5, 40*time.Minute)
			w.start()
			w.pass(23 * time.Minute)
			if told := w.told(run.AtRisk); len(told) > 0 {
				t.Errorf("%s: told long before: %+v", what, told)
				return
			}
			w.pass(2 * time.Minute)
			told := w.told(run.AtRisk)
			if len(told) == 0 || told[0].Took > 17*time.Minute || told[0].Took < 15*time.Minute || !strings.Contains(told[0].Note, strings.TrimPrefix(what, "https://")) {
				t.Errorf("%s: told %+v", what, told)
			}
			if n := len(w.pool.AtRisk()); n != 5 || len(told) > 2 {
				t.Errorf("%s: told of %d of 5, %d times", what, n, len(told))
			}
		})
	}
}

func TestAMomentOfAHostsIsNothingToTellOf(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/a", retryAfter(transfer.Throttled, 503, 5*time.Second))
		w.addMany("run1", "a", "https://cdn/a", 5, 10*time.Minute)
		w.start()
		w.pass(12 * time.Second)
		w.s.rule("https://cdn/a", serve("well", 0))
		w.pass(time.Minute)
		if told := w.told(run.AtRisk); len(told) > 0 || w.stored() != 5 {
			t.Errorf("%d stored, told %+v", w.stored(), told)
		}
	})
}

func TestStopFinishesWhatIsHeldInTheTimeItLeaves(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		l := w.narrowed(2 * mb)
		w.many("run1", cliff("a", 20, 2*mb, 6*time.Second))
		w.start()
		w.pass(7 * time.Second)
		if open := l.tally().open; open < 8 {
			t.Errorf("%d are open", open)
		}
		w.stopping()
		w.pass(20 * time.Second)
		if got := w.stored(); got != 20 {
			t.Errorf("%d of 20 stored in the time that a stop left", got)
		}
	})
}

func TestWhatIsDeadGetsAFreshURLWhileTheLinkIsBusy(t *testing.T) {
	live(t, func(w *world) {
		w.q.cuts = map[string]time.Time{"cdn": time.Now()}
		w.narrowed(2 * mb)
		w.many("dead", cliff("dead", 1, 30*mb, 5*time.Second)) // can never be had in time
		w.many("run1", cliff("a", 60, 2*mb, 40*time.Second))
		w.start()
		w.pass(10 * time.Second)
		for _, r := range w.asked() {
			if r.id == "dead" && r.at < 8*time.Second {
				return
			}
		}
		t.Errorf("asked for %v", w.asked())
	})
}

func TestHostsThatMayBeDeadDoNotTakeAllWorkersWhileTimeIsShort(t *testing.T) {
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.s.rule("https://dead", hang(30*time.Second))
		w.many("run1", cliff("a", 40, 2*mb, 20*time.Second))
		w.start()
		w.pass(3 * time.Second)
		all := map[run.Key]run.Listed{}
		for i := range 20 {
			k := key("run2", fmt.Sprint("d", i))
			all[k] = w.listed(k, signed(fmt.Sprint("dead", i), k.ID, mb, 10*time.Second), 10*time.Second)
		}
		w.answer("run2", all)
		before := w.stored()
		w.pass(8 * time.Second)
		if got := w.stored() - before; got < 4 {
			t.Errorf("%d stored in 8 s beside dead hosts", got)
		}
	})
}

func TestNothingIsHeldOrAskedWhileThereIsTimeForAll(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		l := w.narrowed(10 * mb)
		w.many("run1", cliff("a", 200, mb, hour))
		w.start()
		w.pass(time.Minute)
		if l := l.tally(); w.stored() != 200 || len(l.held) > 0 || len(w.s.sized) > 0 || len(w.s.of("")) != 200 || l.most > 4 {
			t.Errorf("%d stored, %v held, %d sizes, %d requests, %d at a time", w.stored(), l.held, len(w.s.sized), len(w.s.of("")), l.most)
		}
	})
}

func TestFailingDecisionLeavesThePlainOrder(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.clk.boom.Store(true)
		w.add("run1", "a", "https://boom/a", 12*hour)
		w.addMany("run1", "b", "https://cdn/b", 100, hour)
		w.start()
		w.pass(2 * time.Second) // a is not begun yet
		w.clk.boom.Store(false)
		w.pass(time.Minute)
		if w.stored() != 101 || len(w.told(run.StageRecovered)) == 0 {
			t.Errorf("%d stored, %d panics told", w.stored(), len(w.told(run.StageRecovered)))
		}
	})
}
