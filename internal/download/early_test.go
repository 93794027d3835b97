package download_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// goesOn puts an asset into the queue as a poll of a run that goes on would.
func (w *world) goesOn(id run.ID, name, url string, life time.Duration) run.Key {
	w.q.mu.Lock()
	if _, known := w.q.runs[id]; !known {
		w.q.runs[id] = run.Run{ID: id, State: run.Waiting, HandedIn: time.Now()}
	}
	w.q.mu.Unlock()
	return w.add(id, name, url, life)
}

// ends is the poll that ends the run, with these assets listed.
func (w *world) ends(id run.ID, listed map[run.Key]run.Listed) {
	w.q.mu.Lock()
	r := w.q.runs[id]
	r.State, r.EndedAt, r.EndedService = run.Downloading, time.Now(), w.svc.Now()
	w.q.runs[id] = r
	for k, a := range w.q.assets {
		if k.Run == id {
			w.q.assets[k] = a.AtEnd()
		}
	}
	w.q.mu.Unlock()
	w.answer(id, listed)
}

// restart is what SIGKILL and a start are to the pool: all that it remembers is gone.
func (w *world) restart() {
	if err := w.stop(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

func (w *world) bytesOf(k run.Key) string {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	return string(w.v.bytes[k])
}

func (w *world) warnings(k run.Key) []string {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	return w.v.stored[k].Warnings
}

// tagged is serve with what a server says of the object besides.
func tagged(body, validator string) fetchFunc {
	do := serve(body, 100*time.Millisecond)
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		res, err := do(ctx, r, p, progress)
		res.Validator = validator
		return res, err
	}
}

const pv = "https://cdn/private/1/pv.png?token=exp=1~hmac=ab"

// What a run lists before it ends is fetched early and stored only when its end has
// shown what the result is: each case is tried as it is, and with a restart between
// the two answers.
func TestCase_A3_WhatIsListedEarlyIsStoredAsTheRunsEndHasIt(t *testing.T) {
	const early, final = "early bytes", "final bytes, more of them"
	for name, c := range map[string]struct {
		earlyURL, finalURL string // final: the same where empty
		tag                string // of the object when it is looked at again
		look               int64  // its size then
		want               string
		looked, fetched    int // at the end
	}{
		"the same":                   {pv, "", `"1"`, int64(len(early)), early, 1, 0},
		"another signature":          {pv, "https://cdn/private/1/pv.png?token=exp=2~hmac=cd", `"1"`, int64(len(early)), early, 1, 0},
		"another signature, first":   {pv, "https://cdn/private/1/pv.png?Expires=9&Signature=x&Key-Pair-Id=y", `"1"`, int64(len(early)), early, 1, 0},
		"another host":               {pv, "https://cdn2/private/1/pv.png?token=exp=1~hmac=ab", `"1"`, int64(len(early)), early, 1, 0},
		"another path":               {pv, "https://cdn/private/2/pv.png?token=exp=1~hmac=ab", `"1"`, int64(len(early)), final, 0, 1},
		"another parameter":          {pv, pv + "&take=2", `"1"`, int64(len(early)), final, 0, 1},
		"preview":                    {pv + "&preview=true&size=420", pv, `"1"`, int64(len(early)), final, 0, 1},
		"preview by its size":        {pv + "&w=420", pv, `"1"`, int64(len(early)), final, 0, 1},
		"preview in its path":        {"https://cdn/thumbs/pv.png?token=exp=1~hmac=ab", pv, `"1"`, int64(len(early)), final, 0, 1},
		"preview, listed to the end": {pv + "&preview=true", "", `"1"`, int64(len(early)), final, 0, 1},
		"grown":                      {pv, "", `"1"`, int64(len(final)), final, 1, 1},
		"shrunk":                     {pv, "", `"1"`, 3, final, 1, 1},
		"size not told":              {pv, "", `"1"`, -1, final, 1, 1},
		"another ETag":               {pv, "", `"2"`, int64(len(early)), final, 1, 1},
		"no ETag any more":           {pv, "", "", int64(len(early)), final, 1, 1},
		"weak now":                   {pv, "", `W/"1"`, int64(len(early)), final, 1, 1},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %v", name, killed), func(t *testing.T) {
				live(t, func(w *world) {
					w.s.rule("https://", tagged(early, `"1"`))
					w.s.look = func(transfer.Request) (transfer.Facts, error) {
						return transfer.Facts{Total: c.look, Validator: c.tag}, nil
					}
					w.start()
					k := w.goesOn("run1", "a1", c.earlyURL, 6*hour)
					w.pass(time.Minute)
					w.expect(k, run.AssetProvisional)
					if n := len(w.s.of("")); n != 1 {
						t.Fatalf("%d requests before the end, want 1", n)
					}
					if killed {
						w.restart()
						w.pass(time.Minute)
						w.expect(k, run.AssetProvisional)
					}
					if len(w.v.stored) > 0 {
						t.Error("it has a final name before its run ended")
					}
					w.s.rule("https://", tagged(final, c.tag))
					url := c.finalURL
					if url == "" {
						url = c.earlyURL
					}
					w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, url, 6*hour)})
					w.pass(time.Minute)
					w.expect(k, run.AssetStored)
					if got := w.bytesOf(k); got != c.want {
						t.Errorf("%q is stored, want %q", got, c.want)
					}
					if looked, fetched := len(w.s.looked), len(w.s.of(""))-1; looked != c.looked || fetched != c.fetched {
						t.Errorf("looked at %d times and fetched %d times at the end, want %d and %d", looked, fetched, c.looked, c.fetched)
					}
					if got := w.warnings(k); len(got) > 0 {
						t.Errorf("warnings %q", got)
					}
				})
			})
		}
	}
}

// While its run goes on an asset is fetched again where another object is listed, and
// an asset that was not listed early costs no request more than it must.
func TestCase_A3_AnAssetIsFetchedOnceForEachObjectThatIsListed(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://", tagged("bytes", `"1"`))
		w.s.look = func(transfer.Request) (transfer.Facts, error) { return transfer.Facts{Total: 5, Validator: `"1"`}, nil }
		w.start()
		k := w.goesOn("run1", "a1", pv, hour)
		w.pass(time.Minute)
		for range 3 { // the queue has it wait for another object alone
			w.again("run1")
			w.pass(time.Minute)
		}
		w.q.set(k, func(a *run.Asset) { a.State = run.AssetWaiting })
		w.goesOn("run1", "a1", "https://cdn/private/2/pv.png?token=x", hour)
		w.pass(time.Minute)
		w.expect(k, run.AssetProvisional)
		if n := len(w.s.of("")); n != 2 {
			t.Errorf("%d requests for two objects", n)
		}
		w.addMany("run2", "b", "https://cdn/b", 20, hour)
		w.pass(time.Minute)
		if looked, asked := len(w.s.looked), len(w.s.of("https://cdn/b")); looked != 0 || asked != 20 {
			t.Errorf("20 assets of an ended run cost %d looks and %d requests", looked, asked)
		}
	})
}

// Nothing that was answered before a run ended is evidence for a loss, during the run
// or after it.
func TestCase_A5_NothingIsLostBeforeItsRunEnds(t *testing.T) {
	for _, class := range []transfer.Class{
		transfer.Gone, transfer.Refused, transfer.NotMedia, transfer.RedirectLoop, transfer.Nothing, transfer.Rule, transfer.Server, transfer.Throttled,
	} {
		t.Run(string(class), func(t *testing.T) {
			live(t, func(w *world) {
				w.s.rule("https://cdn/", refuse(class, http.StatusNotFound))
				w.start()
				k := w.goesOn("run1", "a1", pv, 2*hour)
				for range 12 { // longer than its URL lives
					w.pass(hour / 4)
					w.again("run1")
				}
				w.expect(k, run.AssetWaiting)
				if got := w.evidence(k); got.Finals != 0 || got.Refusals != 0 || got.FinalFor.Total != 0 {
					t.Errorf("evidence from before the end: %+v", got)
				}
				w.s.rule("https://cdn/", serve("all of it", time.Second))
				w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv+"&n=2", hour)})
				w.pass(2 * time.Minute)
				w.expect(k, run.AssetStored)
			})
		})
	}
}

// After the end an asset has all the time that any has.
func TestCase_A5_TheTimeToALossBeginsWithTheRunsEnd(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		w.s.rule("https://cdn/", refuse(transfer.Gone, http.StatusNotFound))
		w.start()
		k := w.goesOn("run1", "a1", pv, 12*hour)
		w.pass(2 * hour)
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 12*hour)})
		w.pass(25 * time.Minute)
		w.expect(k, run.AssetWaiting)
		w.pass(10 * time.Minute)
		w.lost(k, run.LossFinal)
	})
}

// What was begun before the end and failed after it is no evidence either.
func TestCase_A5_AnAttemptThatBeganBeforeTheEndIsNoEvidence(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			time.Sleep(20 * time.Second)
			return transfer.Result{}, failure(transfer.Gone, http.StatusNotFound, errBroken)
		})
		w.start()
		k := w.goesOn("run1", "a1", pv, 12*hour)
		w.pass(10 * time.Second)
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 12*hour)})
		w.pass(15 * time.Second)
		if got := w.evidence(k); got.Finals != 0 {
			t.Errorf("%d final answers after one that was begun early", got.Finals)
		}
	})
}

// A transfer that runs when the run ends is provisional too, and looked at.
func TestCase_A4_ATransferThatTheRunsEndOvertakesIsLookedAtAgain(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			time.Sleep(20 * time.Second)
			return tagged("half", `"1"`)(ctx, r, p, progress)
		})
		w.s.look = func(transfer.Request) (transfer.Facts, error) { return transfer.Facts{Total: 9, Validator: `"2"`}, nil }
		w.start()
		k := w.goesOn("run1", "a1", pv, 12*hour)
		w.pass(10 * time.Second)
		w.s.rule("https://cdn/", tagged("the whole", `"2"`))
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 12*hour)})
		w.pass(time.Minute)
		w.expect(k, run.AssetStored)
		if got := w.bytesOf(k); got != "the whole" {
			t.Errorf("%q is stored", got)
		}
	})
}

// What cannot be looked at again, or fetched again, is stored with a warning where an
// asset would be lost, unless it is known to be no result.
func TestCase_A3_WhatCannotBeConfirmedIsKeptWithAWarning(t *testing.T) {
	for name, c := range map[string]struct {
		earlyURL, finalURL string
		class              transfer.Class
		status             int
		within             time.Duration
		lost               bool
	}{
		"404":                            {pv, pv, transfer.Gone, 404, time.Hour, false},
		"404 at another path":            {pv, "https://cdn/private/2/x.png?token=y", transfer.Gone, 404, time.Hour, false},
		"403 after its expiry":           {pv, pv, transfer.Refused, 403, 3 * time.Hour, false},
		"host is dead":                   {pv, pv, transfer.Network, 0, 169 * time.Hour, false},
		"503 for ever":                   {pv, pv, transfer.Throttled, 503, 169 * time.Hour, false},
		"an address that is refused":     {pv, "http://10.0.0.1/x", transfer.Rule, 0, time.Minute, false},
		"preview, the result is 404":     {pv + "&preview=true", pv, transfer.Gone, 404, time.Hour, true},
		"preview, and no other is known": {pv + "&preview=true", pv + "&preview=true", transfer.Gone, 404, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.poll()
				w.s.rule("https://", tagged("early bytes", `"1"`))
				w.start()
				k := w.goesOn("run1", "a1", c.earlyURL, 2*hour)
				w.pass(time.Minute)
				w.s.rule("http", refuse(c.class, c.status))
				w.s.rule("https://", refuse(c.class, c.status))
				w.s.look = func(transfer.Request) (transfer.Facts, error) {
					return transfer.Facts{}, failure(c.class, c.status, errBroken)
				}
				w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, c.finalURL, 2*hour)})
				w.pass(c.within)
				if c.lost {
					w.lost(k, run.LossFinal)
					return
				}
				w.expect(k, run.AssetStored)
				if got := w.warnings(k); !slices.Equal(got, []string{"provisional"}) || w.bytesOf(k) != "early bytes" {
					t.Errorf("%q with warnings %q", w.bytesOf(k), got)
				}
			})
		})
	}
}

// A server that refuses the question, not the object, has the object fetched.
func TestCase_A3_ARefusedQuestionHasTheObjectFetched(t *testing.T) {
	for _, status := range []int{400, 403, 404, 416, 500, 501} {
		live(t, func(w *world) {
			class := map[int]transfer.Class{403: transfer.Refused, 404: transfer.Gone}[status]
			if class == "" {
				class = transfer.Server
			}
			w.s.rule("https://", tagged("early", `"1"`))
			w.s.look = func(transfer.Request) (transfer.Facts, error) {
				return transfer.Facts{}, failure(class, status, errBroken)
			}
			w.start()
			k := w.goesOn("run1", "a1", pv, 6*hour)
			w.pass(time.Minute)
			w.s.rule("https://", tagged("final", `"2"`))
			w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 6*hour)})
			w.pass(2 * time.Minute)
			if got := w.bytesOf(k); got != "final" || len(w.s.looked) != 1 {
				t.Errorf("%d: %q is stored after %d questions", status, got, len(w.s.looked))
			}
		})
	}
}

// Bytes that are gone from the volume are fetched again.
func TestCase_A3_BytesThatAreGoneAreFetchedAgain(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://", tagged("early", `"1"`))
		w.s.look = func(transfer.Request) (transfer.Facts, error) { return transfer.Facts{Total: 5, Validator: `"1"`}, nil }
		w.start()
		k := w.goesOn("run1", "a1", pv, 6*hour)
		w.pass(time.Minute)
		w.v.mu.Lock()
		clear(w.v.early)
		w.v.mu.Unlock()
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 6*hour)})
		w.pass(2 * time.Minute)
		w.expect(k, run.AssetStored)
		if got := w.bytesOf(k); got != "early" {
			t.Errorf("%q", got)
		}
	})
}

// An early body without proof of its end is kept, and fetched again at the end.
func TestCase_A4_AnEarlyBodyWithoutProofIsFetchedAgain(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://", send("early", time.Second, false))
		w.start()
		k := w.goesOn("run1", "a1", pv, 6*hour)
		w.pass(hour)
		w.expect(k, run.AssetProvisional)
		if n := len(w.s.of("")); n != 1 {
			t.Errorf("%d requests before the end", n)
		}
		w.s.rule("https://", serve("final", time.Second))
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 6*hour)})
		w.pass(2 * time.Minute)
		if got := w.bytesOf(k); got != "final" {
			t.Errorf("%q is stored", got)
		}
	})
}

// So it is with one that looks cut off: it grows until its run ends.
func TestCase_A4_AnEarlyObjectThatLooksCutOffIsFetchedAgain(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://", cutOff("ear"))
		w.start()
		k := w.goesOn("run1", "a1", pv, 6*hour)
		w.pass(hour)
		w.expect(k, run.AssetProvisional)
		if n := len(w.s.of("")); n != 1 {
			t.Errorf("%d requests before the end", n)
		}
		w.s.rule("https://", serve("early no more", time.Second))
		w.ends("run1", map[run.Key]run.Listed{k: w.listed(k, pv, 6*hour)})
		w.pass(2 * time.Minute)
		if got, warnings := w.bytesOf(k), w.warnings(k); got != "early no more" || len(warnings) > 0 {
			t.Errorf("%q is stored, warnings %q", got, warnings)
		}
	})
}

// Any number of assets that are provisional put nothing at risk and wait for nothing.
func TestCase_A3_ProvisionalAssetsAreNotAtRisk(t *testing.T) {
	live(t, func(w *world) {
		w.start()
		all := map[run.Key]run.Listed{}
		for i := range 30 {
			k := w.goesOn("run1", fmt.Sprint("a", i), fmt.Sprintf("https://cdn/%d.png?token=x", i), 20*time.Minute)
			all[k] = w.q.urls[k]
		}
		w.pass(time.Minute)
		for k := range maps.Keys(all) {
			w.expect(k, run.AssetProvisional)
		}
		w.pass(30 * time.Minute)
		if told := w.told(run.AtRisk); len(told) > 0 {
			t.Errorf("at risk: %+v", told)
		}
	})
}
