package download_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// seconds are moments since the beginning.
func seconds(all ...float64) (at []time.Duration) {
	for _, s := range all {
		at = append(at, time.Duration(math.Round(s*1000))*time.Millisecond)
	}
	return at
}

func TestThrottlingHostGetsOneProbeAtATimeAndTheFirstSuccessOpensIt(t *testing.T) {
	for _, status := range []int{429, 503} {
		live(t, func(w *world) {
			w.s.rule("https://cdn/", serve("warm", 0))
			warm := w.add("run1", "warm", "https://cdn/warm", hour)
			w.start()
			w.pass(time.Second)
			w.expect(warm, run.AssetStored) // the host is known to answer
			w.s.rule("https://cdn/", slowly(100*time.Millisecond, refuse(transfer.Throttled, status)))
			w.addMany("run1", "a", "https://cdn/a", 20, 12*hour)
			w.pass(20 * time.Second)
			// Four workers find it out at once; then probes after 1 and 2 s, and after
			// no more than lets each of the 16 that were not refused have its turn.
			at := w.s.times("https://cdn/a")
			if d := cmp.Diff(seconds(1, 1, 1, 1, 2.1, 4.2), at[:6]); d != "" {
				t.Errorf("%d: requests at (-want +got):\n%s", status, d)
			}
			for i, when := range at[6:] {
				if gap := when - at[i+5]; gap < 2400*time.Millisecond || gap > 2600*time.Millisecond {
					t.Errorf("%d: requests at %v", status, at)
				}
			}
			if got := len(w.told(run.HostSlowed)); got != len(at) || len(at) != 12 {
				t.Errorf("slowed was told %d times for %d requests", got, len(at))
			}
			w.s.rule("https://cdn/", serve("body", 0))
			w.pass(time.Minute)
			if got := len(w.told(run.AssetKept)); got != 21 {
				t.Errorf("%d stored", got)
			}
			if back := w.told(run.HostBack); len(back) != 1 || back[0].Host != "cdn" {
				t.Errorf("back was told as %+v", back)
			}
			// All that had not been tried came with the success, not one by one.
			if at = w.s.times("https://cdn/a"); at[len(at)-1] > 100*time.Second {
				t.Errorf("the last request came at %v", at[len(at)-1])
			}
		})
	}
}

func TestFailingAssetDoesNotKeepItsHostClosed(t *testing.T) {
	live(t, func(w *world) {
		bad := w.add("run1", "bad", "https://cdn/bad", hour)
		w.s.rule("https://cdn/bad", refuse(transfer.Throttled, 503))
		w.addMany("run1", "good", "https://cdn/good", 100, 6*hour)
		w.start()
		w.pass(30 * time.Second)
		if got := len(w.told(run.AssetKept)); got != 100 {
			t.Errorf("%d of 100 stored", got)
		}
		w.expect(bad, run.AssetWaiting)
	})
}

func TestRetryAfterIsObeyedUpToTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		asked, life, want time.Duration
		start             time.Duration // so long after the URL was first seen
	}{
		"in full":                           {7 * time.Minute, 12 * hour, 7 * time.Minute, 0},
		"shorter than the own wait":         {time.Millisecond, 12 * hour, time.Second, 0},
		"beyond the deadline":               {10 * 365 * 24 * hour, 12 * hour, (12*hour - 2*time.Minute) / 2, 0},
		"short of a short life":             {hour, time.Minute, 60 * time.Second * 3 / 4 / 2, 0},
		"unknown expiry, ten minutes":       {10 * time.Minute, 0, 10 * time.Minute, 0},
		"unknown expiry, ten years":         {10 * 365 * 24 * hour, 0, 15 * time.Minute, 0},
		"in the margin, after the deadline": {hour, time.Minute, 5 * time.Second, 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.add("run1", "a", "https://cdn/a", c.life)
				w.s.rule("https://cdn/", retryAfter(transfer.Throttled, 429, c.asked))
				w.pass(c.start)
				w.start()
				w.pass(time.Millisecond)
				w.s.rule("https://cdn/", serve("body", 0))
				w.pass(12 * hour)
				at := w.s.times("")
				if len(at) != 2 || at[1]-at[0] < c.want || at[1]-at[0] > c.want+50*time.Millisecond {
					t.Errorf("requests at %v, the second is due at %v", at, c.want)
				}
			})
		})
	}
}

func TestRetryAfterForOneAssetIsNotObeyedBeyondAnothersDeadline(t *testing.T) {
	for name, when := range map[string]string{"ready": "ready", "in backoff": "backoff", "arriving later": "later"} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.cfg.Workers = 1
				far := w.add("run1", "far", "https://cdn/far", 12*hour)
				w.s.rule("https://cdn/far", slowly(time.Second, retryAfter(transfer.Throttled, 429, 6*hour)))
				w.s.rule("https://cdn/near", refuse(transfer.Server, 500))
				if when == "backoff" {
					w.add("run2", "near", "https://cdn/near", 20*time.Minute)
				}
				w.start()
				w.pass(500 * time.Millisecond)
				if when == "ready" {
					w.add("run2", "near", "https://cdn/near", 20*time.Minute)
				}
				w.pass(2 * time.Second)
				if when == "later" {
					w.add("run2", "near", "https://cdn/near", 20*time.Minute)
				}
				w.s.rule("https://cdn/near", serve("body", 0))
				w.pass(10 * time.Minute)
				w.expect(key("run2", "near"), run.AssetStored)
				w.expect(far, run.AssetWaiting)
			})
		})
	}
}

func TestRetryAfterOfABrokenServerIsTheAssetsAlone(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.add("run1", "a", "https://cdn/a", hour)
		w.add("run1", "b", "https://cdn/b", 6*hour)
		w.s.rule("https://cdn/a", retryAfter(transfer.Server, 500, 5*time.Minute))
		w.start()
		w.pass(6 * time.Minute)
		if d := cmp.Diff(seconds(0, 300), w.s.times("https://cdn/a")); d != "" {
			t.Errorf("requests at (-want +got):\n%s", d)
		}
		if d := cmp.Diff(seconds(0), w.s.times("https://cdn/b")); d != "" {
			t.Errorf("requests for another at (-want +got):\n%s", d)
		}
	})
}

func TestNetworkFailureOfOneTransferLeavesAHostAloneThatAnswersOthers(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/", serve("body", time.Second))
		w.s.rule("https://cdn/cut", func(_ context.Context, _ transfer.Request, _ transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			progress(0, 10)
			time.Sleep(3 * time.Second)
			return transfer.Result{}, failure(transfer.Network, 200, errors.New("connection reset"))
		})
		w.add("run1", "cut", "https://cdn/cut", hour)
		w.addMany("run1", "a", "https://cdn/a", 100, 6*hour)
		w.start()
		w.pass(time.Minute)
		if got := len(w.told(run.HostSlowed)); got != 0 {
			t.Errorf("the host was closed %d times", got)
		}
		if got := len(w.told(run.AssetKept)); got != 100 {
			t.Errorf("%d of 100 stored", got)
		}
	})
}

func TestPartThatIsGoneOnWithIsNoAnswerOfTheHost(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.add("run1", "b", "https://cdn/b", 6*hour)
		w.v.parts[k] = &fakePart{v: w.v, key: k, data: []byte("01234"), mark: run.PartMark{ETag: `"e"`, Total: 10}}
		w.s.rule("https://cdn/a", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			progress(5, 10) // as transfer does before it asks
			return hang(time.Hour)(ctx, r, p, progress)
		})
		w.start()
		w.pass(time.Minute)
		if got := w.s.of("https://cdn/b"); len(got) != 0 {
			t.Errorf("%d more requests to a host that has answered nothing", len(got))
		}
	})
}

// After an outage many URLs are dead, and theirs are the most urgent assets: that
// they are refused says nothing of whether the host still throttles.
func TestDeadURLsDoNotKeepAThrottledHostClosed(t *testing.T) {
	live(t, func(w *world) {
		const runs = 30
		w.s.rule("https://cdn/live", refuse(transfer.Refused, 403))
		w.s.rule("https://cdn/dead", refuse(transfer.Refused, 403))
		last := w.add("run", "live", "https://cdn/live", 12*hour)
		w.start()
		w.pass(time.Millisecond) // the host is closed
		w.s.rule("https://cdn/live", serve("x", time.Millisecond))
		w.mu.Lock()
		w.onRenew = func(id run.ID) {
			k := key(id, "a")
			go w.answer(id, map[run.Key]run.Listed{k: w.listed(k, "https://cdn/fresh", 12*hour)})
		}
		w.mu.Unlock()
		var keys []run.Key
		for i := range runs {
			keys = append(keys, w.add(run.ID(fmt.Sprintf("run%02d", i)), "a", "https://cdn/dead", -time.Minute))
		}
		w.pass((runs + 10) * time.Second)
		for _, k := range append(keys, last) {
			w.expect(k, run.AssetStored)
		}
		if got := len(w.s.of("https://cdn/dead")); got > runs {
			t.Errorf("%d requests for %d dead URLs", got, runs)
		}
	})
}
