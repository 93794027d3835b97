package download_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// poll answers each call of Renew a second later, at most every 30 s a run, with
// what the API listed before.
func (w *world) poll() {
	last := map[run.ID]time.Time{}
	w.onRenew = func(id run.ID) {
		at := time.Now().Add(time.Second)
		if next := last[id].Add(30 * time.Second); at.Before(next) {
			at = next
		}
		last[id] = at
		time.AfterFunc(time.Until(at), func() { w.again(id) })
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

// A body without proof of its end.

const gif = "GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

func TestUnprovenBodyIsStoredWhereItWouldBeLost(t *testing.T) {
	unproven := send(gif, 0, false)
	for name, c := range map[string]struct {
		before, then fetchFunc
		life         time.Duration
		lost         run.LossRule // empty: stored
	}{
		"by final answers":                  {unproven, unproven, 200 * hour, ""},
		"by final answers, the last is 404": {unproven, refuse(transfer.Gone, 404), 200 * hour, ""},
		"by expiry":                         {unproven, refuse(transfer.Refused, 403), 10 * time.Minute, ""},
		"by time":                           {unproven, refuse(transfer.Server, 500), 200 * hour, ""},
		"by time, the host is dead":         {unproven, hang(10 * time.Second), 200 * hour, ""},
		"cut":                               {send(gif[:20], 0, false), send(gif[:20], 0, false), 200 * hour, run.LossFinal},
		"refused by the rules":              {unproven, refuse(transfer.Rule, 0), 200 * hour, run.LossRefused},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.poll()
				w.clk.skew["cdn"] = 0
				k := w.add("run1", "a", "https://cdn/a", c.life)
				w.s.rule("https://cdn/", c.before)
				w.start()
				w.pass(5 * time.Minute)
				w.expect(k, run.AssetWaiting)
				w.s.rule("https://cdn/", c.then)
				w.pass(169 * hour)
				if c.lost != "" {
					w.lost(k, c.lost)
					return
				}
				w.expect(k, run.AssetStored)
				if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "unproven" || string(w.v.bytes[k]) != gif {
					t.Errorf("stored %q with warnings %q", w.v.bytes[k], got)
				}
			})
		})
	}
}

func TestUnprovenBodiesThatDifferAreNotStored(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		k := w.add("run1", "a", "https://cdn/a", 200*hour)
		n := 0
		w.s.rule("https://cdn/", func(c context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			n++
			return send(fmt.Sprintf("%s%d", gif, n), 0, false)(c, r, p, progress)
		})
		w.start()
		w.pass(hour)
		w.lost(k, run.LossFinal)
		if n < 3 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestProvenBodyIsStoredAfterUnprovenOnes(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 200*hour)
		w.s.rule("https://cdn/", send(gif, 0, false))
		w.start()
		w.pass(2 * time.Minute)
		w.s.rule("https://cdn/", send(gif, 0, true))
		w.pass(2 * time.Minute)
		w.expect(k, run.AssetStored)
		if got := w.v.stored[k].Warnings; len(got) != 0 {
			t.Errorf("warnings %q", got)
		}
	})
}

func TestOverdueAssetIsFetchedOnceMoreForTheSakeOfAnUnprovenBody(t *testing.T) {
	for _, again := range []fetchFunc{send(gif, 0, false), refuse(transfer.Server, 500)} {
		live(t, func(w *world) {
			w.cfg.LostAfter = hour
			k := w.add("run1", "a", "https://cdn/a", 200*hour)
			// Known from an earlier life: one fetch, whose bytes are gone.
			w.q.set(k, func(a *run.Asset) { a.Evidence.Finals, a.Evidence.UnprovenSum = 1, sum(gif) })
			w.s.rule("https://cdn/", retryAfter(transfer.Throttled, 503, 3*hour))
			w.start()
			w.pass(hour / 2)
			w.s.rule("https://cdn/", again)
			w.pass(hour / 2)
			w.pass(2 * time.Second)
			if len(w.s.of("")) != 2 {
				t.Errorf("%d requests, want one more at the end", len(w.s.of("")))
			}
			if w.q.state(k) == run.AssetStored {
				if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "unproven" {
					t.Errorf("warnings %q", got)
				}
				return
			}
			w.lost(k, run.LossTime)
		})
	}
}

func TestUnprovenBodyIsNotStoredOnceItsPartWasBegunAnew(t *testing.T) {
	late := 59*time.Minute + 50*time.Second
	for name, c := range map[string]struct {
		at    time.Duration
		class transfer.Class
	}{
		"before the loss": {10 * time.Minute, transfer.Network},
		"at the loss":     {late, transfer.Network},
		"without room":    {10 * time.Minute, transfer.NoRoom},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.cfg.LostAfter = hour
				w.cfg.GiveUpAfter = 10 * hour
				k := w.add("run1", "a", "https://cdn/a", 200*hour)
				w.s.rule("https://cdn/", send(gif, 0, false))
				w.start()
				w.until(c.at)
				w.s.rule("https://cdn/", func(_ context.Context, _ transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
					p.Reset(run.PartMark{Total: -1})
					progress(0, -1)
					io.WriteString(p, "cut")
					time.Sleep(2 * time.Minute)
					w.v.mu.Lock()
					w.v.free = 0
					w.v.mu.Unlock()
					return transfer.Result{}, failure(c.class, 200, run.ErrNoRoom)
				})
				w.again("run1") // tried at once
				w.until(2 * hour)
				w.lost(k, run.LossTime)
			})
		})
	}
}

func TestOverdueAssetGetsNoSecondLastTry(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.LostAfter = hour
		w.v.free = 10
		k := w.add("run1", "a", "https://cdn/a", 200*hour)
		w.q.set(k, func(a *run.Asset) { a.Evidence.Finals, a.Evidence.UnprovenSum = 1, sum(gif) })
		w.s.rule("https://cdn/", send(gif, 0, false))
		w.start()
		w.pass(hour + 3*time.Second)
		w.lost(k, run.LossTime)
		if got := len(w.s.of("")); got != 2 {
			t.Errorf("%d requests", got)
		}
	})
}

func TestPartHeldForARescueIsClosedAtTheEnd(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 200*hour)
		w.s.rule("https://cdn/", send(gif, 0, false))
		w.start()
		w.pass(2 * time.Minute)
		if p := w.v.parts[k]; p == nil || !p.open {
			t.Fatal("nothing is held")
		}
		w.stop()
		w.s.rule("https://cdn/", send(gif, 0, true))
		w.start()
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}
