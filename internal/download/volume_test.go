package download_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

var errOffline = fmt.Errorf("%w: the marker is missing", run.ErrVolumeOffline)

func TestEverythingWaitsForAnOfflineVolumeWhichIsLookedAtEveryFiveSeconds(t *testing.T) {
	live(t, func(w *world) {
		w.v.offline = errOffline
		keys := w.addMany("run1", "a", "https://cdn/a", 20, hour)
		w.start()
		w.pass(time.Second)
		if got := w.svc.Paused(); len(got) != 1 || got[0] != "volume" {
			t.Errorf("service clock paused by %v", got)
		}
		before := w.svc.Now()
		w.until(22 * time.Second)
		if len(w.s.of("")) != 0 {
			t.Errorf("%d requests", len(w.s.of("")))
		}
		var looks []time.Duration
		for _, at := range w.v.checks {
			looks = append(looks, at.Sub(w.begin))
		}
		if d := cmp.Diff(seconds(5, 10, 15, 20), looks); d != "" {
			t.Errorf("looked at (-want +got):\n%s", d)
		}
		w.v.mu.Lock()
		w.v.offline = nil
		w.v.mu.Unlock()
		w.until(27 * time.Second)
		if got := w.svc.Now() - before; got > 3*time.Second {
			t.Errorf("%v of the outage were counted", got)
		}
		for _, k := range keys {
			w.expect(k, run.AssetStored)
		}
		if a, b := len(w.told(run.VolumeOffline)), len(w.told(run.VolumeBack)); a != 1 || b != 1 {
			t.Errorf("offline told %d times, back %d times", a, b)
		}
	})
}

func TestVolumeThatGoesWhileTransfersRunLosesNothing(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.s.rule("https://cdn/", func(_ context.Context, _ transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			progress(0, 10)
			w.v.mu.Lock()
			w.v.offline = errOffline
			w.v.mu.Unlock()
			return transfer.Result{}, failure(transfer.Disk, 200, errOffline)
		})
		w.start()
		w.pass(time.Second)
		if len(w.told(run.VolumeOffline)) != 1 || len(w.q.trials[k]) != 0 {
			t.Errorf("offline told %d times, %d trials counted", len(w.told(run.VolumeOffline)), len(w.q.trials[k]))
		}
		w.s.rule("https://cdn/", serve("body", 0))
		w.v.mu.Lock()
		w.v.offline = nil
		w.v.mu.Unlock()
		w.pass(10 * time.Second)
		w.expect(k, run.AssetStored)
	})
}

func TestAssetThatCannotBeKeptIsFetchedAgain(t *testing.T) {
	for name, fail := range map[string]error{
		"disk":    errors.New("fsync: input/output error"),
		"room":    run.ErrNoRoom,
		"offline": errOffline,
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				k := w.add("run1", "a", "https://cdn/a", hour)
				fails := 3
				w.v.keepErr = func(run.Key) error {
					if fails--; fails >= 0 {
						return fail
					}
					return nil
				}
				w.start()
				w.pass(time.Minute)
				w.expect(k, run.AssetStored)
				if got := len(w.s.of("")); got != 4 {
					t.Errorf("%d requests", got)
				}
				if got := w.svc.Paused(); len(got) != 0 {
					t.Errorf("service clock still paused by %v", got)
				}
				if got := len(w.told(run.VolumeOffline)) > 0; got != (name == "offline") {
					t.Errorf("offline told: %v", got)
				}
			})
		})
	}
}

func TestAssetThatTheQueueNoLongerWantsIsForgotten(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/", serve("body", 10*time.Second))
		gone := w.add("run1", "gone", "https://cdn/gone", hour)
		lost := w.add("run1", "lost", "https://lost/a", hour)
		w.s.rule("https://lost/", slowly(time.Second, refuse(transfer.Server, 500)))
		w.v.keepErr = func(run.Key) error { return run.ErrUnknown }
		w.start()
		w.pass(500 * time.Millisecond)
		w.q.set(lost, func(a *run.Asset) { a.State = run.AssetLost })
		w.q.mu.Lock()
		delete(w.q.assets, gone)
		w.q.mu.Unlock()
		w.until(10*time.Second + 20*time.Millisecond)
		if got := w.svc.Paused(); len(got) != 0 {
			t.Errorf("service clock paused by %v", got)
		}
		w.pass(hour)
		if got := len(w.s.of("")); got != 2 {
			t.Errorf("%d requests", got)
		}
	})
}

func TestTroubleOfOneAssetsFilesIsNotCountedButDoesNotHoldOthers(t *testing.T) {
	live(t, func(w *world) {
		bad := w.add("run1", "bad", "https://cdn/bad", hour)
		w.v.keepErr = func(k run.Key) error {
			if k == bad {
				return errors.New("operation not permitted")
			}
			return nil
		}
		w.start()
		w.pass(30 * time.Second)
		if got := w.svc.Paused(); len(got) != 1 || got[0] != "storage" {
			t.Errorf("service clock paused by %v", got)
		}
		good := w.add("run2", "good", "https://cdn/good", hour)
		w.pass(200 * time.Millisecond)
		w.expect(good, run.AssetStored)
		if got := w.svc.Paused(); len(got) != 0 {
			t.Errorf("service clock paused by %v though assets are stored", got)
		}
		w.q.set(bad, func(a *run.Asset) { a.State = run.AssetLost })
		w.pass(time.Minute) // and it is forgotten
		w.v.mu.Lock()
		w.v.keepErr = func(run.Key) error { return errors.New("operation not permitted") }
		w.v.mu.Unlock()
		other := w.add("run3", "other", "https://cdn/other", hour)
		w.pass(120 * time.Millisecond)
		if got := w.svc.Paused(); len(got) != 1 {
			t.Errorf("service clock paused by %v, want storage", got)
		}
		w.s.rule("https://cdn/other", refuse(transfer.Server, 500))
		w.pass(2 * time.Second)
		if got := w.svc.Paused(); len(got) != 0 {
			t.Errorf("service clock paused by %v though %s got as far as its server", got, other)
		}
	})
}

func TestWithoutRoomThePartIsKeptAndWaits(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		big := strings.Repeat("x", 1000)
		w.v.free = 900
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.v.parts[k] = &fakePart{v: w.v, key: k, data: []byte(big[:100]), mark: run.PartMark{ETag: `"e"`, Total: 1000}}
		w.s.rule("https://cdn/a", serve(big, 0))
		w.addMany("run2", "b", "https://cdn/b", 50, 12*hour)
		w.s.rule("https://cdn/b", serve(big, 0))
		w.start()
		w.until(12 * time.Second)
		if got := len(w.s.of("https://cdn/a")); got != 1 {
			t.Errorf("asked %d times for what has no room", got)
		}
		if got := len(w.s.of("https://cdn/b")); got > 3 {
			t.Errorf("%d more requests in vain", got)
		}
		if low, back := len(w.told(run.DiskLow)), len(w.told(run.DiskBack)); low != 1 || back != 0 {
			t.Errorf("low told %d times, back %d times", low, back)
		}
		w.v.mu.Lock()
		w.v.free = 1 << 20
		w.v.mu.Unlock()
		w.until(30 * time.Second)
		w.expect(k, run.AssetStored)
		if got := len(w.told(run.AssetKept)); got != 51 {
			t.Errorf("%d stored", got)
		}
		if low, back := len(w.told(run.DiskLow)), len(w.told(run.DiskBack)); low != 1 || back != 1 {
			t.Errorf("low told %d times, back %d times", low, back)
		}
		var looks []time.Duration
		for _, at := range w.v.looks {
			looks = append(looks, at.Sub(w.begin).Round(time.Second))
		}
		if d := cmp.Diff(seconds(0, 5, 10, 15), looks); d != "" {
			t.Errorf("looked at (-want +got):\n%s", d)
		}
	})
}

func TestSmallAssetsGoOnWhereALargeOneHasNoRoom(t *testing.T) {
	live(t, func(w *world) {
		w.v.free = 500
		large := w.add("run1", "large", "https://cdn/large", hour)
		w.s.rule("https://cdn/large", serve(strings.Repeat("x", 1000), 0))
		small := w.addMany("run2", "s", "https://cdn/s", 20, 12*hour)
		w.start()
		w.pass(20 * time.Second)
		w.expect(large, run.AssetWaiting)
		for _, k := range small {
			w.expect(k, run.AssetStored)
		}
	})
}

func TestLeastUrgentPartsMakeRoomForTheMostUrgentAsset(t *testing.T) {
	for _, earlier := range []bool{false, true} { // parts of this life, or of an earlier one
		live(t, func(w *world) {
			w.v.free = 1000
			var parts []run.Key
			for n := range 4 {
				name := fmt.Sprint("p", n)
				k := w.add("run1", name, "https://cdn/"+name, time.Duration(n+2)*hour)
				parts = append(parts, k)
				if earlier {
					w.v.parts[k] = &fakePart{v: w.v, key: k, data: make([]byte, 200), mark: run.PartMark{ETag: `"e"`, Total: 400}}
				}
			}
			w.s.rule("https://cdn/p", func(_ context.Context, _ transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
				if have, _ := p.Have(); have == 0 {
					p.Reset(run.PartMark{ETag: `"e"`, Total: 400})
					progress(0, 400)
					p.Write(make([]byte, 200))
				}
				return transfer.Result{}, failure(transfer.Stall, 200, errors.New("stalled"))
			})
			w.start()
			w.pass(time.Second)
			w.s.rule("https://cdn2/urgent", serve(strings.Repeat("x", 500), 0))
			urgent := w.add("run2", "urgent", "https://cdn2/urgent", hour)
			w.pass(10 * time.Second)
			w.expect(urgent, run.AssetStored)
			if d := cmp.Diff([]run.Key{parts[3], parts[2]}, w.v.tookOut); d != "" {
				t.Errorf("deleted (-want +got):\n%s", d)
			}
			parts = append(parts, w.add("run1", "p9", "https://cdn/p9", 10*hour))
			w.pass(2 * time.Minute) // they come again
			w.v.tookOut = nil
			w.s.rule("https://cdn2/more", serve(strings.Repeat("x", 1000), 0))
			more := w.add("run2", "more", "https://cdn2/more", hour)
			w.pass(10 * time.Second)
			w.expect(more, run.AssetStored)
			if d := cmp.Diff([]run.Key{parts[4], parts[3], parts[2], parts[1], parts[0]}, w.v.tookOut); d != "" {
				t.Errorf("deleted (-want +got):\n%s", d)
			}
			w.v.tookOut = nil
			w.s.rule("https://cdn2/huge", serve(strings.Repeat("x", 1001), 0))
			huge := w.add("run3", "huge", "https://cdn2/huge", hour)
			w.pass(time.Minute)
			w.expect(huge, run.AssetWaiting)
			if got := len(w.v.tookOut); got != 0 {
				t.Errorf("%d parts deleted for what can never fit", got)
			}
		})
	}
}

func TestAssetOfUnknownSizeWaitsForAStep(t *testing.T) {
	live(t, func(w *world) {
		w.v.free = 63 << 20
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.s.rule("https://cdn/", func(_ context.Context, _ transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			progress(0, -1)
			if err := p.Reserve(64 << 20); err != nil {
				return transfer.Result{}, failure(transfer.NoRoom, 200, err)
			}
			return transfer.Result{}, failure(transfer.Network, 200, io.ErrUnexpectedEOF)
		})
		w.start()
		w.pass(time.Minute)
		if got := len(w.s.of("")); got != 1 {
			t.Errorf("%d requests", got)
		}
		w.v.mu.Lock()
		w.v.free = 65 << 20
		w.v.mu.Unlock()
		w.pass(6 * time.Second)
		if got := len(w.q.trials[k]); got == 0 {
			t.Error("not tried though there is room")
		}
	})
}

func TestRoomThatIsOnlySaidToBeThereIsNotToldAgainAndAgain(t *testing.T) {
	live(t, func(w *world) { // as under a quota, which statfs knows nothing of
		w.s.rule("https://cdn/", func(context.Context, transfer.Request, transfer.Part, func(int64, int64)) (transfer.Result, error) {
			return transfer.Result{}, failure(transfer.NoRoom, 200, run.ErrNoRoom)
		})
		w.add("run1", "a", "https://cdn/a", hour)
		w.start()
		w.pass(10 * time.Minute)
		if low, back := len(w.told(run.DiskLow)), len(w.told(run.DiskBack)); low != 1 || back != 0 {
			t.Errorf("low told %d times, back %d times", low, back)
		}
		if got := len(w.s.of("")); got < 100 || got > 121 {
			t.Errorf("%d requests in ten minutes, want one every 5 s", got)
		}
	})
}

func TestTroubleWithTheVolumeIsTriedAgainInTimeForADyingURL(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"part": func(w *world) { w.v.openErr = errors.New("too many open files") },
		"keep": func(w *world) { w.v.keepErr = func(run.Key) error { return errors.New("input/output error") } },
		"panic": func(w *world) {
			w.s.rule("https://cdn/", func(context.Context, transfer.Request, transfer.Part, func(int64, int64)) (transfer.Result, error) {
				panic("")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				k := w.add("run1", "a", "https://cdn/a", 10*time.Minute)
				fail(w)
				w.start()
				w.pass(9*time.Minute + 30*time.Second)
				w.v.mu.Lock()
				w.v.openErr, w.v.keepErr = nil, nil
				w.v.mu.Unlock()
				w.s.rule("https://cdn/", serve("body", 0))
				w.pass(4 * time.Second)
				w.expect(k, run.AssetStored)
			})
		})
	}
}

func TestTroubleWithAnAssetThatAnOlderManifestHasIsOver(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.v.openErr = errors.New("permission denied")
		w.add("run1", "a", "https://cdn/a", hour)
		w.add("run1", "b", "https://cdn/b", hour)
		w.start()
		w.pass(time.Minute)
		if got := w.svc.Paused(); len(got) != 1 || got[0] != "storage" {
			t.Fatalf("stands still for %q", got)
		}
		w.mu.Lock()
		w.prepare = func(run.ID) (bool, error) { return true, nil } // all of it is there already
		w.mu.Unlock()
		w.pool.Changed(run.Change{Run: run.Run{ID: "run1", State: run.Downloading}, Ended: true})
		w.pass(time.Hour)
		if got := w.svc.Paused(); len(got) != 0 {
			t.Errorf("nothing waits any more, and the clock stands still for %q", got)
		}
	})
}

func TestRoomIsGivenToAsManyAsItSuffices(t *testing.T) {
	live(t, func(w *world) {
		w.v.free = 700
		body := strings.Repeat("x", 800)
		w.s.rule("https://cdn/", serve(body, 20*time.Second))
		first := w.add("run1", "a", "https://cdn/a", hour)
		second := w.add("run1", "b", "https://cdn/b", 2*hour)
		w.start()
		w.until(time.Second)
		if low := w.told(run.DiskLow); len(low) != 1 {
			t.Fatalf("low told %d times", len(low))
		}
		w.until(11 * time.Second) // both have been found to need it
		before := len(w.s.of("https://cdn/b"))
		w.v.mu.Lock()
		w.v.free = 1000
		w.v.mu.Unlock()
		w.until(30 * time.Second)
		if got := len(w.s.of("https://cdn/b")); got != before {
			t.Errorf("%s was asked for %d times where there is room for %s alone", second, got-before, first)
		}
		w.v.mu.Lock()
		w.v.free = 2000
		w.v.mu.Unlock()
		w.until(2 * time.Minute)
		w.expect(first, run.AssetStored)
		w.expect(second, run.AssetStored)
	})
}
