package download_test

import (
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// poll answers each call of Renew a second later, at most every 30 s a run, with
// what the API listed before.
func (w *world) poll() { w.pollWith(w.again) }

// pollWith is the same with another answer.
func (w *world) pollWith(answer func(run.ID)) {
	last := map[run.ID]time.Time{}
	w.onRenew = func(id run.ID) {
		at := time.Now().Add(time.Second)
		if next := last[id].Add(30 * time.Second); at.Before(next) {
			at = next
		}
		last[id] = at
		time.AfterFunc(time.Until(at), func() { answer(id) })
	}
}

func TestRefusedByTheRulesIsLostAtOnce(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://10.0.0.1/a", hour)
		w.s.rule("https://10.0.0.1/", refuse(transfer.Rule, 0))
		other := w.add("run1", "b", "https://cdn/b", hour)
		w.start()
		w.pass(time.Second)
		w.lost(k, run.LossRefused)
		w.expect(other, run.AssetStored)
		gone := w.told(run.AssetGone)
		if len(gone) != 1 || gone[0].Asset != k || !strings.HasPrefix(gone[0].Note, "refused: ") || gone[0].Hint == "" {
			t.Errorf("told %+v", gone)
		}
	})
}

func TestLastLossMakesTheRunReady(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://x/", refuse(transfer.Rule, 0))
		w.add("run1", "a", "https://x/a", hour)
		w.add("run2", "a", "https://x/a", hour)
		w.add("run2", "b", "https://cdn/b", hour)
		w.s.rule("https://cdn/", serve("slow", hour/2))
		w.start()
		w.pass(time.Second)
		if len(w.ready) != 1 || w.ready[0] != "run1" {
			t.Errorf("ready: %v", w.ready)
		}
	})
}

func TestFinalLookingAnswersLoseAfterTheirTimeAndNotASecondBefore(t *testing.T) {
	for name, f := range map[string]fetchFunc{
		"404":           refuse(transfer.Gone, 404),
		"redirect loop": refuse(transfer.RedirectLoop, 302),
		"not media":     refuse(transfer.NotMedia, 200),
		"no proof":      send("body", 0, false),
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.poll()
				k := w.add("run1", "a", "https://cdn/a", 12*hour)
				w.s.rule("https://cdn/", f)
				w.start()
				w.until(30*time.Minute - time.Second)
				w.expect(k, run.AssetWaiting)
				w.until(31 * time.Minute)
				w.lost(k, run.LossFinal)
				if got := w.evidence(k); got.Finals < 3 || !got.FinalAnew || got.FinalFor.Total < 30*time.Minute {
					t.Errorf("lost on %+v", got)
				}
				if asked := w.asked(); asked[0].at != time.Second {
					t.Errorf("fresh URLs first asked for at %v, want after the second answer", asked[0].at)
				}
			})
		})
	}
}

func TestNothingToFetchIsAFinalLookingAnswer(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		k := w.add("run1", "a", "", 0)
		other := w.add("run1", "b", "", 0)
		w.start()
		w.until(29 * time.Minute)
		w.expect(k, run.AssetWaiting)
		w.answer("run1", map[run.Key]run.Listed{other: w.listed(other, "https://cdn/b", hour)})
		w.until(32 * time.Minute)
		w.lost(k, run.LossFinal)
		w.expect(other, run.AssetStored)
	})
}

func TestFinalLookingAnswersWithoutAPollAreNeverEnough(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/", refuse(transfer.Gone, 404))
		w.start()
		w.pass(3 * hour)
		w.expect(k, run.AssetWaiting)
		w.again("run1")
		w.pass(time.Second)
		w.lost(k, run.LossFinal)
	})
}

func TestAssetIsTriedAtOnceOnAURLFetchedAnew(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		k := w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/", refuse(transfer.Gone, 404))
		w.start()
		w.pass(2 * time.Second) // tried at 0 and 1 s, asked for at 1 s, answered at 2 s
		if at := w.s.times(""); len(at) != 3 || at[2] != 2*time.Second {
			t.Errorf("tried at %v", at)
		}
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn2/a", 12*hour)})
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}

func TestTimeWithoutAnswersIsNotCountedForALoss(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		k := w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/", refuse(transfer.Gone, 404))
		w.start()
		w.pass(10 * time.Minute)
		w.s.rule("https://cdn/", hang(10*time.Second))
		w.pass(2 * hour)
		w.s.rule("https://cdn/", refuse(transfer.Gone, 404))
		w.pass(15 * time.Minute)
		w.expect(k, run.AssetWaiting)
		w.pass(10 * time.Minute)
		w.lost(k, run.LossFinal)
	})
}

func TestExpiredURLIsLostAfterAPollWithoutALaterOneAndOneMoreTry(t *testing.T) {
	for _, f := range []fetchFunc{refuse(transfer.Refused, 403), refuse(transfer.Refused, 401), refuse(transfer.Gone, 410)} {
		live(t, func(w *world) {
			w.clk.skew["cdn"] = 0
			k := w.add("run1", "a", "https://cdn/a", time.Minute)
			w.s.rule("https://cdn/", f)
			w.pass(2 * time.Minute)
			w.start()
			w.pass(5 * time.Minute)
			w.expect(k, run.AssetWaiting)
			requests := len(w.s.of(""))
			w.again("run1")
			w.pass(time.Second)
			w.lost(k, run.LossExpired)
			if got := len(w.s.of("")); got != requests+1 {
				t.Errorf("%d tries after the poll, want one", got-requests)
			}
		})
	}
}

func TestExpiredURLThatIsStillServedIsNotLost(t *testing.T) {
	live(t, func(w *world) {
		w.clk.skew["cdn"] = 0
		k := w.add("run1", "a", "https://cdn/a", time.Minute)
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.pass(2 * time.Minute)
		w.start()
		w.pass(time.Second)
		w.s.rule("https://cdn/", serve("body", 0))
		w.again("run1") // no later URL, but the one try more
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}

func TestNothingIsLostWhileTheAPICannotBeAsked(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		w.clk.skew["cdn"] = 0
		rule := w.add("run1", "rule", "https://x/a", hour)
		gone := w.add("run2", "gone", "https://gone/a", 1000*hour)
		dead := w.add("run3", "dead", "https://cdn/a", time.Minute)
		late := w.add("run4", "late", "https://late/a", 1000*hour)
		w.s.rule("https://x/", refuse(transfer.Rule, 0))
		w.s.rule("https://gone/", refuse(transfer.Gone, 404))
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.s.rule("https://late/", refuse(transfer.Server, 500))
		w.cfg.LostAfter = 10 * hour
		w.svc.Pause("api")
		w.start()
		w.pass(20 * hour)
		for _, k := range []run.Key{rule, gone, dead, late} {
			w.expect(k, run.AssetWaiting)
		}
		w.svc.Resume("api")
		w.pass(2 * time.Minute)
		w.lost(rule, run.LossRefused)
		w.pass(10 * time.Minute)
		w.lost(dead, run.LossExpired)
		w.expect(gone, run.AssetWaiting)
		w.pass(30 * time.Minute)
		w.lost(gone, run.LossFinal)
		w.expect(late, run.AssetWaiting)
		w.pass(10 * hour)
		w.lost(late, run.LossTime)
	})
}

func TestAssetIsLostByTimeWhateverItWaitsFor(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.LostAfter = 2 * hour
		w.v.free = 5
		w.clk.skew["parked"] = 0
		room := w.add("run1", "room", "https://room/a", 12*hour)
		parked := w.add("run1", "parked", "https://parked/a", 0)
		closed := w.add("run1", "closed", "https://closed/a", 12*hour)
		behind := w.add("run1", "behind", "https://closed/b", 12*hour)
		w.s.rule("https://parked/", refuse(transfer.Refused, 403))
		w.s.rule("https://closed/", retryAfter(transfer.Throttled, 503, 5*hour))
		busy := w.add("run1", "busy", "https://busy/a", 12*hour)
		w.s.rule("https://busy/", serve("ok", 3*hour))
		w.start()
		w.until(2*hour - time.Second)
		for _, k := range []run.Key{room, parked, closed, behind} {
			w.expect(k, run.AssetWaiting)
		}
		w.until(2*hour + 2*time.Second)
		for _, k := range []run.Key{room, parked, closed, behind} {
			w.lost(k, run.LossTime)
		}
		w.expect(busy, run.AssetWaiting) // on its way
		w.until(4 * hour)
		w.expect(busy, run.AssetStored)
	})
}

func TestOverdueAssetsKeepTheirPaceWhileTheAPICannotBeAsked(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.LostAfter = hour
		k := w.add("run1", "a", "https://cdn/a", 1000*hour)
		w.s.rule("https://cdn/", refuse(transfer.Server, 500))
		w.start()
		w.pass(hour - time.Second)
		w.q.mu.Lock()
		r := w.q.runs["run1"]
		r.EndedService = 0
		w.q.runs["run1"] = r
		w.q.mu.Unlock()
		requests := len(w.s.of(""))
		w.v.keepErr = nil
		w.svc.Pause("api")
		cfg := w.cfg
		cfg.LostAfter = time.Minute // overdue by now
		w.pool.Configure(cfg)
		w.pass(10 * time.Minute)
		w.expect(k, run.AssetWaiting)
		if got := len(w.s.of("")) - requests; got > 11 {
			t.Errorf("%d requests in ten minutes", got)
		}
		w.svc.Resume("api")
		w.pass(31 * time.Second)
		w.lost(k, run.LossTime)
	})
}

func TestNothingIsLostOnAVolumeThatIsOfflineWithoutOurKnowing(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		w.cfg.LostAfter = hour
		closed := w.add("run1", "a", "https://cdn/a", 1000*hour)
		none := w.add("run2", "b", "", 0)
		w.s.rule("https://cdn/", retryAfter(transfer.Throttled, 429, 20*hour))
		w.start()
		w.pass(time.Second)
		w.v.mu.Lock()
		w.v.offline = errOffline
		w.v.mu.Unlock()
		w.pass(2 * hour)
		w.expect(closed, run.AssetWaiting)
		w.expect(none, run.AssetWaiting)
		if got := w.svc.Paused(); len(got) != 1 {
			t.Errorf("service clock paused by %v", got)
		}
		w.v.mu.Lock()
		w.v.offline = nil
		w.v.mu.Unlock()
		w.pass(hour)
		w.lost(closed, run.LossTime)
		w.expect(none, run.AssetLost)
	})
}

func TestOutageInTheMiddleOfALookLosesNoFurtherAsset(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.LostAfter = hour
		keys := w.addMany("run1", "a", "https://cdn/a", 10, 1000*hour)
		w.s.rule("https://cdn/", hang(10*time.Second))
		w.q.onLoss = func() { w.svc.Pause("api") }
		w.start()
		w.pass(2 * hour)
		lost := 0
		for _, k := range keys {
			if w.q.state(k) == run.AssetLost {
				lost++
			}
		}
		if lost != 1 {
			t.Errorf("%d lost, want the one before the outage", lost)
		}
	})
}

func TestNewSettingsHoldAtOnce(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 1000*hour)
		w.s.rule("https://cdn/", refuse(transfer.Server, 500))
		w.start()
		w.pass(3 * hour)
		w.expect(k, run.AssetWaiting)
		cfg := w.cfg
		cfg.LostAfter = 2 * hour
		w.pool.Configure(cfg)
		w.pass(2 * time.Second)
		w.lost(k, run.LossTime)
	})
}

func TestRunThatHasNotEndedLosesNothingByTime(t *testing.T) {
	live(t, func(w *world) {
		w.q.runs["run1"] = run.Run{ID: "run1", State: run.Waiting, HandedIn: time.Now()}
		k := w.add("run1", "a", "https://cdn/a", 1000*hour)
		w.s.rule("https://cdn/", refuse(transfer.Server, 500))
		w.cfg.LostAfter = 20 * hour
		w.start()
		w.pass(30 * hour)
		w.expect(k, run.AssetWaiting)
		r := w.q.runs["run1"]
		r.EndedAt, r.EndedService = time.Now(), w.svc.Now()
		w.q.runs["run1"] = r
		w.again("run1")
		w.pass(20*hour - time.Minute)
		w.expect(k, run.AssetWaiting)
		w.pass(2 * time.Minute)
		w.lost(k, run.LossTime)
	})
}

func TestNotMediaIsPutAsideOnce(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		k := w.add("run1", "a", "https://cdn/a", 12*hour)
		w.s.rule("https://cdn/", refuse(transfer.NotMedia, 200))
		w.start()
		w.pass(hour)
		w.lost(k, run.LossFinal)
		if got := w.v.aside[k]; got != 1 || len(w.told(run.Quarantined)) != 1 {
			t.Errorf("put aside %d times, told %d times", got, len(w.told(run.Quarantined)))
		}
		if first, second := w.q.trials[k][0].Quarantine, w.q.trials[k][1].Quarantine; first != "aside/a" || second != "" {
			t.Errorf("the queue was told %q, then %q", first, second)
		}
		if len(w.v.parts) != 0 {
			t.Errorf("%d parts left", len(w.v.parts))
		}
		w.q.set(k, func(a *run.Asset) { *a = a.Again() })
		w.again("run1")
		w.pass(hour)
		if got := w.v.aside[k]; got != 2 {
			t.Errorf("put aside %d times with a retry", got)
		}
	})
}
