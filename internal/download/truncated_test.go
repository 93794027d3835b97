package download_test

import (
	"context"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// cutOff sends what looks cut off, until it is sent twice.
func cutOff(body string) fetchFunc {
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		res, err := send(body, 0, true)(ctx, r, p, progress)
		if res.Cut = r.Cut != res.SHA256; !res.Cut {
			res.Warnings = []string{transfer.WarningTruncated}
		}
		return res, err
	}
}

func TestCase_B2_ATruncatedObjectIsStoredAfterASecondLook(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		other := w.add("run2", "b", "https://cdn/b", hour)
		w.cfg.Workers = 1
		w.s.rule("https://cdn/a", cutOff("half"))
		w.start()
		w.pass(2 * time.Second)
		w.expect(k, run.AssetWaiting)
		w.expect(other, run.AssetStored) // the look keeps no worker waiting
		w.pass(5 * time.Second)
		w.expect(k, run.AssetStored)
		if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "truncated" || string(w.v.bytes[k]) != "half" {
			t.Errorf("stored %q with warnings %q", w.v.bytes[k], got)
		}
		if at := w.s.times("https://cdn/a"); len(at) != 2 || at[1]-at[0] < 3*time.Second {
			t.Errorf("requests at %v, want two, seconds apart", at)
		}
		if n := len(w.q.trials[k]); n != 0 {
			t.Errorf("%d failures are on record", n)
		}
	})
}

func TestCase_B2_AGrowingObjectIsStoredWholeWithoutAWarning(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		begin := time.Now()
		w.s.rule("https://cdn/", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			const all = "an object that takes its time to be written"
			n := min(int(time.Since(begin)/time.Second)+4, len(all))
			if n < len(all) {
				return cutOff(all[:n])(ctx, r, p, progress)
			}
			return send(all, 0, true)(ctx, r, p, progress)
		})
		w.start()
		w.pass(5 * time.Minute)
		w.expect(k, run.AssetStored)
		if got := w.v.stored[k].Warnings; len(got) != 0 || len(w.v.bytes[k]) != 43 {
			t.Errorf("stored %q with warnings %q", w.v.bytes[k], got)
		}
		if n := len(w.s.of("")); n > 6 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestCase_B2_WhatWasSeenIsStoredWhereTheSecondLookBringsNothing(t *testing.T) {
	for name, then := range map[string]fetchFunc{
		"gone": refuse(transfer.Gone, 404), "refused": refuse(transfer.Refused, 403), "errors": refuse(transfer.Server, 500),
		"not media": refuse(transfer.Gone, 410), "silence": hang(10 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.poll()
				k := w.add("run1", "a", "https://cdn/a", hour)
				w.s.rule("https://cdn/", cutOff("half"))
				w.start()
				w.pass(time.Second)
				w.s.rule("https://cdn/", then)
				w.pass(169 * hour)
				w.expect(k, run.AssetStored)
				if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "truncated" || string(w.v.bytes[k]) != "half" {
					t.Errorf("stored %q with warnings %q", w.v.bytes[k], got)
				}
			})
		})
	}
}

func TestCase_B2_NoSecondLookWhereTheURLExpiresBefore(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 8*time.Second)
		w.s.rule("https://cdn/", cutOff("half"))
		w.start()
		w.pass(2 * time.Second)
		w.expect(k, run.AssetStored)
		if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "truncated" {
			t.Errorf("warnings %q", got)
		}
	})
}

func TestCase_B2_ARestartCostsNoMoreThanAnotherLook(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		w.s.rule("https://cdn/", cutOff("half"))
		w.start()
		w.pass(2 * time.Second)
		w.stop()
		w.start()
		w.pass(2 * time.Second)
		w.expect(k, run.AssetWaiting)
		w.pass(6 * time.Second)
		w.expect(k, run.AssetStored)
		if n := len(w.s.of("")); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestCase_B2_ManyTruncatedObjectsAreLookedAtOnceMoreEach(t *testing.T) {
	live(t, func(w *world) {
		keys := w.addMany("run1", "a", "https://cdn/a", 200, hour)
		w.s.rule("https://cdn/", cutOff("half"))
		w.start()
		w.pass(time.Minute)
		for _, k := range keys {
			w.expect(k, run.AssetStored)
			if got := w.v.stored[k].Warnings; len(got) != 1 || got[0] != "truncated" {
				t.Fatalf("%s: warnings %q", k, got)
			}
		}
		if n := len(w.s.of("")); n != 400 {
			t.Errorf("%d requests, want two for each of 200", n)
		}
	})
}
