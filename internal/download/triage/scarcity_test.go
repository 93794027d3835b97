package triage_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/assetd/assetd/internal/testenv"
)

func constant(rate float64) func(float64) float64 { return func(float64) float64 { return rate } }

func clone(w *world) *world {
	c := *w
	c.files = nil
	for _, f := range w.files {
		g := *f
		c.files = append(c.files, &g)
	}
	return &c
}

// cases is how many random ones of so many are tried.
func cases(n int) uint64 { return uint64(testenv.Cases(n/20, n)) }

// drawn is a random world, all of it known exactly: a link of 0.5 to 50 MB/s, 1
// to 16 workers, 1 to 30 files that live for up to a minute, some all equally
// long, of which the link can move from a tenth to all in time. There is no
// latency, and one connection fills the link.
func drawn(r *rand.Rand) *world {
	rate := 5e5 * math.Pow(10, 2*r.Float64())
	w := &world{link: constant(rate), workers: 1 + r.IntN(16), maxOpen: 256, opening: 95_000}
	w.sites = []site{{cuts: r.IntN(2) == 0}}
	cliff, life := r.IntN(3) == 0, 2+r.Float64()*60
	scale := rate * life / 20 * (0.3 + 2*r.Float64())
	for range 1 + r.IntN(30) {
		f := &file{size: scale * math.Exp(r.NormFloat64()-0.5), death: life}
		if !cliff {
			f.death = life * (0.05 + 0.95*r.Float64())
		}
		w.files = append(w.files, f)
	}
	return w
}

// With sizes and rates known there is no estimate that could be wrong: not one
// file less than the plain orders save, ever.
func TestNeverWorseThanAPlainOrder(t *testing.T) {
	for seed := range cases(10_000) {
		w := drawn(rand.New(rand.NewPCG(seed, 1)))
		e, f := clone(w).run(edf), clone(w).run(fcfs)
		if got := w.run(planned); got < max(e, f) {
			t.Errorf("seed %d: %d of %d saved, %d by deadline, %d as handed in", seed, got, len(w.files), e, f)
		}
	}
}

// With a second host, slower than the link, that shares the link evenly instead
// of as the plan would have it, the plan's picture of the link is not exact. It
// may be wrong by a few files in a few cases of a thousand, no more.
func TestSeldomWorseThanAPlainOrderBesideASlowHost(t *testing.T) {
	worse, short, all, plain := 0, 0, 0, 0
	n := cases(5_000)
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 7))
		w := drawn(r)
		w.workers = max(w.workers, 2) // one alone cannot work beside a slow host
		w.sites = append(w.sites, site{cuts: r.IntN(2) == 0, rate: w.link(0) * (0.1 + r.Float64())})
		for _, f := range w.files {
			f.host = r.IntN(2)
		}
		better := max(clone(w).run(edf), clone(w).run(fcfs))
		got := w.run(planned)
		all, plain = all+got, plain+better
		if got < better {
			worse++
			short = max(short, better-got)
		}
	}
	t.Logf("worse in %d of %d, by %d at most; %d saved, the better of the plain orders %d", worse, n, short, all, plain)
	if worse*100 > int(n) || short > 4 || all < plain {
		t.Error("worse than the plan's picture of the link explains")
	}
}

// sixty is 60 files of 0.2 to 4 MB that live for 4 to 30 s, on a link of 2 MB/s.
func sixty(seed uint64, cuts bool) *world {
	r := rand.New(rand.NewPCG(seed, 60))
	w := &world{link: constant(2e6), sites: []site{{cuts: cuts, latency: 0.01}}, workers: 16, maxOpen: 256, opening: 95_000}
	for range 60 {
		w.files = append(w.files, &file{size: 2e5 * math.Pow(20, math.Pow(r.Float64(), 0.75)), death: 4 + r.Float64()*26})
	}
	return w
}

func TestSixtyFilesOnANarrowLink(t *testing.T) {
	for seed := range uint64(20) {
		w := sixty(seed, true)
		best := most(w.files, func(at float64) float64 { return 2e6 * at })
		plain := clone(w).run(fcfs)
		if got := w.run(planned); float64(got) < 0.95*float64(best) {
			t.Errorf("seed %d, cut: %d saved, %d can be, %d as handed in", seed, got, best, plain)
		} else {
			t.Logf("seed %d, cut: %d saved, %d can be, %d as handed in", seed, got, best, plain)
		}
		if got := unknown(sixty(seed, false)).run(planned); got != 60 {
			t.Errorf("seed %d, judged at the start, sizes unknown: %d saved", seed, got)
		}
	}
}
