package triage_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/download/triage"
)

// windows are sane and absurd ones.
func windows() *rapid.Generator[triage.Window] {
	number := rapid.OneOf(rapid.Int64Range(0, 100*mb), rapid.SampledFrom([]int64{0, -1, 1, math.MaxInt64, math.MinInt64}))
	moment := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.OneOf(rapid.Int64Range(0, 100e9), rapid.SampledFrom([]int64{0, -1, math.MaxInt64, math.MinInt64})).Draw(t, "time"))
	})
	server := rapid.Custom(func(t *rapid.T) triage.Server {
		return triage.Server{
			Rate: number.Draw(t, "rate"), Conn: number.Draw(t, "conn"), Latency: moment.Draw(t, "latency"),
			Trickle: number.Draw(t, "trickle"), Cuts: rapid.Bool().Draw(t, "cuts"),
		}
	})
	asset := rapid.Custom(func(t *rapid.T) triage.Asset {
		return triage.Asset{
			Server: rapid.IntRange(-1, 3).Draw(t, "server"), Bytes: number.Draw(t, "bytes"), Spread: number.Draw(t, "spread"),
			Expiry: moment.Draw(t, "death"), Deadline: moment.Draw(t, "deadline"),
			State: triage.State(rapid.IntRange(0, 2).Draw(t, "stands")), Opened: moment.Draw(t, "opened"),
			Unknown: rapid.Bool().Draw(t, "unknown"), Whole: rapid.Bool().Draw(t, "whole"), Renews: rapid.Bool().Draw(t, "renews"),
		}
	})
	return rapid.Custom(func(t *rapid.T) triage.Window {
		return triage.Window{
			Now: moment.Draw(t, "now"), Rate: number.Draw(t, "rate"), Workers: rapid.IntRange(-1, 20).Draw(t, "workers"),
			MaxOpen: rapid.IntRange(-1, 20).Draw(t, "open"), Opening: number.Draw(t, "opening"), Scarce: rapid.Bool().Draw(t, "scarce"),
			Servers: rapid.SliceOfN(server, 0, 3).Draw(t, "servers"), Assets: rapid.SliceOfN(asset, 0, 30).Draw(t, "assets"),
		}
	})
}

func TestDecisionsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windows().Draw(t, "window")
		d := triage.Decide(w)
		if d.Again <= 0 || d.Again > 30*time.Second {
			t.Fatalf("decided again in %v", d.Again)
		}
		if d.Plain {
			return
		}
		seen := map[int]int{}
		for _, list := range [][]int{d.Finish, d.Open, d.Hold, d.Stop, d.Next, d.Last} {
			for _, i := range list {
				seen[i]++
			}
		}
		for i := range w.Assets {
			if seen[i] != 1 {
				t.Fatalf("asset %d in %d lists: %+v", i, seen[i], d)
			}
		}
		if len(seen) != len(w.Assets) || d.AtOnce < 1 || d.AtOnce > max(w.Workers, 1) || d.Trickle < 0 {
			t.Fatalf("%d of %d assets, %d at once, trickle %d", len(seen), len(w.Assets), d.AtOnce, d.Trickle)
		}
		allowed(t, w, d)
	})
}

// allowed holds a decision against what must never be done.
func allowed(t *rapid.T, w triage.Window, d triage.Decision) {
	cut := func(i int) bool {
		s := w.Assets[i].Server
		return s >= 0 && s < len(w.Servers) && w.Servers[s].Cuts
	}
	for _, i := range d.Open {
		if a := w.Assets[i]; a.State != triage.Waiting || cut(i) || a.Bytes <= 512<<10 || a.Expiry <= w.Now {
			t.Fatalf("opened to be held: %+v", a)
		}
	}
	for _, i := range d.Hold {
		if a := w.Assets[i]; a.State == triage.Waiting || a.State == triage.Running && (cut(i) || a.Bytes <= 512<<10) {
			t.Fatalf("held: %+v", a)
		}
	}
	for _, i := range d.Stop {
		if a := w.Assets[i]; a.State != triage.Running || a.Expiry <= w.Now && !a.Renews && !a.Unknown {
			t.Fatalf("stopped: %+v", a)
		}
	}
	for _, i := range slices.Concat(d.Next, d.Last, d.Ask) {
		if a := w.Assets[i]; a.State != triage.Waiting {
			t.Fatalf("waits although it is open: %+v", a)
		}
	}
	if len(d.Open) > max(w.MaxOpen, 0) {
		t.Fatalf("%d opened, %d may be", len(d.Open), w.MaxOpen)
	}
}

// A faster link and later deaths lose no more.
func TestMoreIsNeverWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var assets []triage.Asset
		for range rapid.IntRange(1, 20).Draw(t, "assets") {
			assets = append(assets, near(float64(rapid.IntRange(1, 100).Draw(t, "size"))/10, float64(rapid.IntRange(1, 30).Draw(t, "dies")), triage.Waiting))
		}
		w := on1(cuts, assets...)
		lost := late(w)
		w.Rate += rapid.Int64Range(0, mb).Draw(t, "more")
		if more := late(w); more > lost {
			t.Fatalf("%d late, %d on a faster link", lost, more)
		}
		w = on1(cuts, slices.Clone(assets)...)
		for i := range w.Assets {
			w.Assets[i].Expiry += sec(float64(rapid.IntRange(0, 5).Draw(t, "longer")))
		}
		if more := late(w); more > lost {
			t.Fatalf("%d late, %d of those that live longer", lost, more)
		}
	})
}

func late(w triage.Window) (n int) {
	for _, r := range triage.Decide(w).Risks {
		n += len(r.Assets)
	}
	return n
}
