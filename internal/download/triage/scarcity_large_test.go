package triage_test

import (
	"math"
	"math/rand/v2"
	"testing"
)

// large is a few hundred files with log-normal sizes, so many times what the link
// can move before the last of them dies.
func large(seed uint64, times float64, cuts bool) *world {
	r := rand.New(rand.NewPCG(seed, 2))
	rate := math.Pow(10, 6.5+r.Float64())
	w := &world{link: constant(rate), sites: []site{{cuts: cuts, latency: 0.02}}, workers: 16, maxOpen: 256, opening: 95_000}
	life := 60 + 240*r.Float64()
	total := 0.0
	n := 100 + r.IntN(150)
	for range n {
		f := &file{size: math.Exp(r.NormFloat64()), death: life * (0.1 + 0.9*r.Float64())}
		total += f.size
		w.files = append(w.files, f)
	}
	for _, f := range w.files {
		f.size = max(f.size*times*rate*life/total, 1000)
	}
	return w
}

// unknown takes the sizes from the plan: it has their mean.
func unknown(w *world) *world {
	mean := 0.0
	for _, f := range w.files {
		mean += f.size / float64(len(w.files))
	}
	for _, f := range w.files {
		f.guess = mean
	}
	return w
}

// part is what part of the best possible is saved, and what part earliest
// deadline first saves, over some worlds.
func part(times float64, know func(*world)) (saves, plain float64) {
	saved, by, best := 0, 0, 0
	for seed := range max(cases(10), 1) {
		w := large(seed, times, true)
		best += most(w.files, func(t float64) float64 { return w.link(0) * t })
		by += clone(w).run(edf)
		know(w)
		saved += w.run(planned)
	}
	return float64(saved) / float64(best), float64(by) / float64(best)
}

func TestNearTheBestWhereTransfersAreCut(t *testing.T) {
	for name, c := range map[string]struct {
		know  func(*world)
		least float64
	}{
		"sizes known":                    {func(*world) {}, 0.95},
		"sizes unknown until first read": {func(w *world) { unknown(w) }, 0.85},
		"sizes unknown until asked for":  {func(w *world) { unknown(w).asks = true }, 0.95},
	} {
		for _, times := range []float64{1, 2} {
			got, plain := part(times, c.know)
			t.Logf("%s, %g times as much as can be moved: %.3f of the best, by deadline %.3f", name, times, got, plain)
			if got < c.least {
				t.Errorf("%s, %g times as much as can be moved: %.3f of the best, want %.2f", name, times, got, c.least)
			}
		}
	}
}

func TestAllOfMoreFilesWhereTheStartIsJudged(t *testing.T) {
	for seed := range uint64(3) {
		for _, times := range []float64{1, 2} {
			w := unknown(large(seed, times, false))
			if got := w.run(planned); got != len(w.files) {
				t.Errorf("seed %d, %g times: %d of %d saved", seed, times, got, len(w.files))
			}
		}
	}
}

// cliff is so many files of a few MB that die in the same second, on a link of 20
// MB/s.
func cliff(n int, cuts bool) *world {
	r := rand.New(rand.NewPCG(uint64(n), 8))
	w := &world{link: constant(2e7), sites: []site{{cuts: cuts, latency: 0.05}}, workers: 16, maxOpen: 256, opening: 95_000}
	for range n {
		w.files = append(w.files, &file{size: 4e6 * math.Exp(r.NormFloat64()-0.5), death: 20})
	}
	return w
}

// All assets of a day die in the same second.
func TestCliff(t *testing.T) {
	for _, n := range []int{100, 300} {
		w := cliff(n, false)
		if got := unknown(w).run(planned); got != n || w.mostHeld > 256 {
			t.Errorf("%d of %d saved, %d held", got, n, w.mostHeld)
		}
	}
	w := cliff(600, false)
	early := most(w.files, func(at float64) float64 { return 2e7 * (at - 4) }) // 256 openings take 2.4 s of half the link
	if got := w.run(planned); got < early+256 {
		t.Errorf("%d of 600 saved, want those %d that can be finished and 256", got, early)
	}
	w = cliff(600, true)
	best := most(w.files, func(at float64) float64 { return 2e7 * at })
	if got := w.run(planned); float64(got) < 0.95*float64(best) {
		t.Errorf("cut: %d saved, %d can be", got, best)
	}
}

func TestLinkThatHalves(t *testing.T) {
	for seed := range uint64(3) {
		w := large(seed, 1, true)
		rate, at := w.link(0), 30.0
		w.link = func(now float64) float64 {
			if now < at {
				return rate
			}
			return rate / 2
		}
		best := most(w.files, func(t float64) float64 { return rate*min(t, at) + rate/2*max(t-at, 0) })
		judged := clone(w)
		judged.sites = []site{{latency: 0.02}}
		if got := w.run(planned); float64(got) < 0.95*float64(best) {
			t.Errorf("seed %d: %d saved, %d could be by who knew", seed, got, best)
		}
		if got := judged.run(planned); got != len(judged.files) {
			t.Errorf("seed %d, judged at the start: %d of %d saved", seed, got, len(judged.files))
		}
	}
}

// A host that is slower than the link has to be begun with early, and the link
// has room for others beside it.
func TestSlowHostBesideAFastLink(t *testing.T) {
	for _, limit := range []site{{rate: 1e6, cuts: true}, {rate: 1e6, conn: 5e5, cuts: true}} {
		w := &world{link: constant(1e7), sites: []site{{cuts: true}, limit}, workers: 16, opening: 95_000}
		for n := range 10 { // 9.5 s of the slow host's 10, 9 s of the link's
			w.files = append(w.files,
				&file{size: 9.5e5, death: 10, host: 1},
				&file{size: 8e6, death: 2 + float64(n)})
		}
		if got := w.run(planned); got != 20 {
			t.Errorf("%+v: %d of 20 saved", limit, got)
		}
	}
}

// Rates are estimates: decisions must not stop and start the same transfers over
// and over.
func TestNoiseDoesNotFlap(t *testing.T) {
	for seed := range uint64(3) {
		w := large(seed, 2, true)
		r := rand.New(rand.NewPCG(seed, 9))
		w.noise = func() float64 { return 0.8 + 0.4*r.Float64() }
		best := most(w.files, func(t float64) float64 { return w.link(0) * t })
		got, stops, mostStops := w.run(planned), 0, 0
		for _, f := range w.files {
			stops += f.stops
			mostStops = max(mostStops, f.stops)
		}
		t.Logf("seed %d: %d of %d saved, %d stops in %d decisions, %d of one file", seed, got, best, stops, w.plans, mostStops)
		if float64(got) < 0.9*float64(best) || stops > len(w.files)/4 || mostStops > 3 {
			t.Errorf("seed %d: %d of %d saved, %d stops in %d decisions, %d of one file", seed, got, best, stops, w.plans, mostStops)
		}
	}
}
