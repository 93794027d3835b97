package ranges

import (
	"slices"
	"testing"
	"time"
)

// grown runs a growth against a world that says how much so many connections bring a
// second, and gives how many there were at each tick.
func grown(most int, runs time.Duration, rate func(connections int) float64) (counts []int) {
	const tick = 10 * time.Millisecond
	var g Autoscaler
	now := time.Unix(1_800_000_000, 0)
	n, step, waits := 1, 0, 0
	var bytes float64
	for range int(runs / tick) {
		now = now.Add(tick)
		if waits > 0 {
			waits--
		}
		delivering := n
		if waits > 0 {
			delivering -= step
		}
		bytes += rate(delivering) * tick.Seconds()
		g.Note(Sample{now, int64(bytes), int64(bytes)})
		waiting := 0
		if waits > 0 {
			waiting = step
		}
		switch g.Judge(now, waiting, step > 0 && waits == 0, 1<<40) {
		case Grow:
			if step = min(n, most-n); step > 0 {
				g.Opened(now, step, n)
				n, waits = n+step, 8 // two round trips of 40 ms
			}
		case Shrink:
			n, step = n-step, 0
		}
		counts = append(counts, n)
	}
	return counts
}

func TestConnectionsDoubleWhileTheSumOfTheirRatesGrows(t *testing.T) {
	counts := grown(16, 2*time.Second, func(n int) float64 { return 6e6 * float64(n) })
	if got := slices.Compact(slices.Clone(counts)); !slices.Equal(got, []int{1, 2, 4, 8, 16}) {
		t.Errorf("connections went %v", got)
	}
	if at := slices.Index(counts, 16); at > 70 { // 4 steps of two round trips and a window each
		t.Errorf("all were open after %d ms", 10*at)
	}
}

func TestAStepThatBringsNothingIsTakenBackAndTriedSeldom(t *testing.T) {
	counts := grown(16, 5*time.Minute, func(n int) float64 { return 6e6 * float64(min(n, 4)) })
	steps, wide := 0, 0
	for i := 1; i < len(counts); i++ {
		if counts[i] > 4 {
			wide++
			if counts[i-1] == 4 {
				steps++
			}
		}
	}
	if counts[len(counts)-1] != 4 || slices.Max(counts) != 8 {
		t.Errorf("at the end %d connections, %d at most", counts[len(counts)-1], slices.Max(counts))
	}
	if steps < 4 || steps > 10 || wide > 12*110 {
		t.Errorf("%d steps in 5 min, more than 4 connections for %d ms", steps, 10*wide)
	}
}

func TestGrowthAtTheCostOfOtherTransfersIsNone(t *testing.T) {
	g := Autoscaler{before: Rates{Own: 10e6, All: 100e6}}
	for all, want := range map[float64]bool{100e6: false, 104e6: false, 106e6: true, 110e6: true} {
		if got := g.gained(Rates{Own: 20e6, All: all}, clearGain); got != want {
			t.Errorf("the client's sum went from 100 to %.0f MB/s: gained is %v", all/1e6, got)
		}
	}
}

func TestWhatIsOverSoonGetsNoFurtherConnection(t *testing.T) {
	var g Autoscaler
	now := time.Unix(1_800_000_000, 0)
	for i := range 100 {
		now = now.Add(10 * time.Millisecond)
		g.Note(Sample{now, int64(i) * 1e6, int64(i) * 1e6})
		if v := g.Judge(now, 0, false, int64(99e6*leastTime.Seconds())); v != Keep {
			t.Fatalf("verdict %d", v)
		}
	}
	if v := g.Judge(now, 0, false, int64(101e6*leastTime.Seconds())); v != Grow {
		t.Errorf("verdict %d where it is not over soon", v)
	}
}
