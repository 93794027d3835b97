package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// A line that can move half of the bytes before the last URL dies, and is slow
// enough that nothing else counts.
const (
	scarceRate  = 3_000_000 // bytes a second
	scarceLife  = 18 * time.Second
	scarceFirst = 6 * time.Second // the shortest life
)

// scarceRuns are assets of sizes that are even by their logarithms. Half of them
// die in one second, the others before, and none is renewed. No answer tells a size
// before it is asked for.
func scarceRuns(t *testing.T, s *simulator.Sim) (ids []run.ID) {
	t.Helper()
	const least, most = 100_000, 6_000_000
	dice := rand.New(rand.NewPCG(7, 0))
	for left := 2 * scarceRate * int64(scarceLife/time.Second); left > 0; {
		id := run.ID(fmt.Sprintf("scarce%04d", len(ids)))
		var assets []simulator.RunOption
		for n := range 4 {
			size := int64(least * math.Pow(most/least, dice.Float64()))
			life := scarceLife
			if dice.IntN(2) == 0 {
				life = scarceFirst + time.Duration(dice.Int64N(int64(scarceLife-scarceFirst)))
			}
			assets = append(assets, simulator.Video(fmt.Sprintf("v%d", n), size, simulator.Signing{Life: life}))
			left -= size
		}
		if err := s.AddRun(id, assets...); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// reaches reports whether the simulator's line brings what it is set to.
func reaches(t *testing.T, s *simulator.Sim) bool {
	t.Helper()
	const size = scarceRate
	if err := s.AddRun("probe00001", simulator.Video("probe", size, simulator.Signing{Life: time.Hour})); err != nil {
		t.Fatal(err)
	}
	url, _ := s.URL(run.Key{Run: "probe00001", Kind: run.Videos, ID: "probe"})
	begun := time.Now()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		t.Fatalf("%d bytes of the probe: %v", n, err)
	}
	took := time.Since(begun)
	t.Logf("a second's worth of the line took %v", took.Round(time.Millisecond))
	return took < 1300*time.Millisecond
}

// save lets the daemon save what it can, and returns how many assets are stored,
// how many there are, and how many could be had in time from the moment on at which
// the daemon was handed them.
func save(t *testing.T, settings []string, opts ...simulator.Option) (saved, all, possible int) {
	t.Helper()
	opts = append(opts, simulator.WithLinkRate(scarceRate))
	r := newRig(t, append([]string{"log.level=info"}, settings...), opts...)
	if !reaches(t, r.sim) {
		t.Skip("this machine is too busy: a line of 3 MB/s is more than it can serve")
	}
	ids := scarceRuns(t, r.sim)
	p := r.start().ready()
	r.handIn(ids)
	begun := time.Now()
	r.waitSettled(len(ids), 3*time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	right := map[string]bool{}
	var jobs []job
	for _, e := range r.sim.Expected() {
		if e.ID == "probe00001" {
			continue
		}
		for _, a := range e.Assets {
			right[a.SHA256] = true
			url, _ := r.sim.URL(a.Key)
			dies, ok := signedurl.Expiry(url)
			if !ok {
				t.Fatalf("no expiry in %s", signedurl.Redact(url))
			}
			jobs = append(jobs, job{a.Size, dies})
		}
	}
	saved = r.whole(right)
	if t.Failed() {
		t.Log(tail(r.log.String(), 5000))
	}
	return saved, len(jobs), mostInTime(jobs, begun, scarceRate)
}

// whole is how many files of these sums are under final names.
func (r *rig) whole(right map[string]bool) (n int) {
	r.t.Helper()
	seen := map[string]bool{}
	r.walk(func(_ string, data []byte) {
		if sum := hash(data); right[sum] && !seen[sum] {
			seen[sum] = true
			n++
		}
	})
	return n
}

// job is an asset that is in vain after a moment.
type job struct {
	size int64
	dies time.Time
}

// mostInTime is how many jobs can be done in time at most, one after the other, by
// Moore and Hodgson's algorithm: whenever one would be late, the largest is left out.
func mostInTime(jobs []job, begun time.Time, rate int64) int {
	jobs = slices.SortedFunc(slices.Values(jobs), func(a, b job) int { return a.dies.Compare(b.dies) })
	var kept largest
	var bytes int64
	for _, j := range jobs {
		heap.Push(&kept, j.size)
		bytes += j.size
		if float64(bytes)/float64(rate) > j.dies.Sub(begun).Seconds() {
			bytes -= heap.Pop(&kept).(int64)
		}
	}
	return len(kept)
}

// largest is a heap of sizes with the largest on top.
type largest []int64

func (h largest) Len() int           { return len(h) }
func (h largest) Less(i, j int) bool { return cmp.Less(h[j], h[i]) }
func (h largest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largest) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *largest) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

func TestEverythingIsSavedWhereOnlyTheStartIsJudged(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	saved, all, inTime := save(t, nil)
	t.Logf("%d of %d saved; %d can be had in time", saved, all, inTime)
	if saved < all {
		t.Errorf("%d of %d saved", saved, all)
	}
}

func TestNearlyAllThatCanBeSavedIsWhereTransfersAreCut(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	saved, all, inTime := save(t, nil, simulator.WithCutAtExpiry())
	t.Logf("%d of %d saved; %d can be had in time", saved, all, inTime)
	if float64(saved) < 0.9*float64(inTime) {
		t.Errorf("%d saved, want at least 0.9 of %d", saved, inTime)
	}
}
