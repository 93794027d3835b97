package download_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

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
		"by a panic":      {10 * time.Minute, ""},
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
					if c.class == "" {
						panic("in the middle")
					}
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
