package triage_test

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// fewFiles is a world of at most seven, with more to move than can be.
func fewFiles(r *rand.Rand, sites ...site) *world {
	w := &world{link: constant(1e6), sites: sites, workers: 1 + r.IntN(8), maxOpen: 16, opening: 95_000}
	for range 1 + r.IntN(7) {
		w.files = append(w.files, &file{
			size: 1e5 + 8e6*r.Float64(), death: 1 + 19*r.Float64(), host: r.IntN(len(sites)),
		})
	}
	return w
}

// finishable is the most of these that can be finished before they die, found by
// trying every subset: one can be finished if and only if it can in the order of
// death. So many bytes have to be moved before them.
func finishable(files []*file, rate, first float64) (most int) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b *file) int { return cmp.Compare(a.death, b.death) })
	for set := range uint(1) << len(files) {
		ok, moved := true, first
		for i, f := range files {
			if set>>i&1 == 1 {
				moved += f.size
				ok = ok && moved <= rate*f.death
			}
		}
		if ok {
			most = max(most, bits.OnesCount(set))
		}
	}
	return most
}

func of(host int, files []*file) (its []*file) {
	for _, f := range files {
		if f.host == host {
			its = append(its, f)
		}
	}
	return its
}

// Where the server cuts, as many are saved as any choice and any order saves.
func TestAsManyAsAnyOrderWhereTransfersAreCut(t *testing.T) {
	for seed := range cases(3000) {
		w := fewFiles(rand.New(rand.NewPCG(seed, 3)), site{cuts: true})
		best := finishable(w.files, 1e6, 0)
		if got := w.run(planned); got != best {
			t.Errorf("seed %d: %d of %d saved, %d can be", seed, got, len(w.files), best)
		}
	}
}

// Where the server judges the start alone, all are.
func TestAllWhereTheStartIsJudged(t *testing.T) {
	for seed := range cases(3000) {
		w := fewFiles(rand.New(rand.NewPCG(seed, 4)), site{})
		if got := w.run(planned); got != len(w.files) {
			t.Errorf("seed %d: %d of %d saved", seed, got, len(w.files))
		}
	}
}

// Where connections are few and all die at once, as many as can be finished by
// then and as many as may be open.
func TestAsManyAsAnyOrderWhereConnectionsAreFew(t *testing.T) {
	for seed := range cases(3000) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := fewFiles(r, site{})
		w.maxOpen = 1 + r.IntN(3)
		death := 3 + 10*r.Float64()
		for _, f := range w.files {
			f.death = death
		}
		best := min(finishable(w.files, 1e6, 0)+w.maxOpen, len(w.files))
		if got := w.run(planned); got < best {
			t.Errorf("seed %d: %d of %d saved, %d can be, %d held", seed, got, len(w.files), best, w.maxOpen)
		}
		if w.most > w.maxOpen+w.workers || w.mostHeld > w.maxOpen {
			t.Errorf("seed %d: %d held, %d allowed", seed, w.mostHeld, w.maxOpen)
		}
	}
}

// Where there are both, those that are cut do not suffer for those that are held,
// but for what it takes to open them.
func TestHoldingLeavesTheLinkToThoseThatAreCut(t *testing.T) {
	for seed := range cases(3000) {
		w := fewFiles(rand.New(rand.NewPCG(seed, 6)), site{cuts: true}, site{})
		held := of(1, w.files)
		link, opened := 1e6, 0.0
		for _, f := range held {
			if f.size <= 512<<10 { // too small to be held: read to its end
				opened += f.size
				continue
			}
			opened += 95_000
			link -= 65_536
		}
		best := finishable(of(0, w.files), link, opened) + len(held)
		if got := w.run(planned); got < best {
			t.Errorf("seed %d: %d of %d saved, %d can be", seed, got, len(w.files), best)
		}
	}
}
