package transfer

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

// grown runs a growth against a world that says how much so many connections bring a
// second, and gives how many there were at each tick.
func grown(most int, runs time.Duration, rate func(connections int) float64) (counts []int) {
	const tick = 10 * time.Millisecond
	var g growth
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
		g.note(sample{now, int64(bytes), int64(bytes)})
		waiting := 0
		if waits > 0 {
			waiting = step
		}
		switch g.judge(now, waiting, step > 0 && waits == 0, 1<<40) {
		case stepUp:
			if step = min(n, most-n); step > 0 {
				g.opened(now, step, n)
				n, waits = n+step, 8 // two round trips of 40 ms
			}
		case stepBack:
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
	g := growth{before: rates{own: 10e6, all: 100e6}}
	for all, want := range map[float64]bool{100e6: false, 104e6: false, 106e6: true, 110e6: true} {
		if got := g.gained(rates{own: 20e6, all: all}, clearGain); got != want {
			t.Errorf("the client's sum went from 100 to %.0f MB/s: gained is %v", all/1e6, got)
		}
	}
}

func TestWhatIsOverSoonGetsNoFurtherConnection(t *testing.T) {
	var g growth
	now := time.Unix(1_800_000_000, 0)
	for i := range 100 {
		now = now.Add(10 * time.Millisecond)
		g.note(sample{now, int64(i) * 1e6, int64(i) * 1e6})
		if v := g.judge(now, 0, false, int64(99e6*leastTime.Seconds())); v != goOn {
			t.Fatalf("verdict %d", v)
		}
	}
	if v := g.judge(now, 0, false, int64(101e6*leastTime.Seconds())); v != stepUp {
		t.Errorf("verdict %d where it is not over soon", v)
	}
}

// Whatever is taken, extended, split, given back and taken over: each byte is in one
// gap, in one piece, or done; and the front is where the first missing byte stands.
func TestPiecesCoverWhatIsMissingOnceEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const unit = grain
		total := int64(rapid.IntRange(1, 800).Draw(t, "units")) * unit
		var there []run.Span
		done := make([]bool, total/unit)
		for at := int64(rapid.IntRange(0, 100).Draw(t, "front")); at < total/unit; {
			to := min(at+int64(rapid.IntRange(1, 20).Draw(t, "there")), total/unit)
			there = append(there, run.Span{From: at * unit, To: to * unit})
			for ; at < to; at++ {
				done[at] = true
			}
			at += int64(rapid.IntRange(1, 160).Draw(t, "gap"))
		}
		d := divide(0, total, there)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			var p *piece
			if len(d.taken) > 0 {
				p = rapid.SampledFrom(d.taken).Draw(t, "piece")
			}
			n := int64(rapid.IntRange(0, 100).Draw(t, "n")) * unit
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op == 0:
				d.take(n)
			case op == 1:
				d.split(n, func(q *piece) bool { return q == p && rapid.Bool().Draw(t, "still") })
			case p == nil:
			case op == 2:
				d.extend(p, n)
			case op == 3:
				d.drop(p)
			default:
				n = min(n, p.rest()) / unit * unit
				for i := p.at / unit; i < (p.at+n)/unit; i++ {
					if done[i] {
						t.Fatalf("unit %d is written twice", i)
					}
					done[i] = true
				}
				p.at, p.done = p.at+n, p.at+n
			}
			seen := slices.Clone(done)
			mark := func(from, to int64) {
				for at := from; at < to; at++ {
					if u := at / unit; seen[u] && at%unit == 0 {
						t.Fatalf("unit %d is covered twice", u)
					}
					seen[at/unit] = true
					at = at/unit*unit + unit - 1
				}
			}
			for _, g := range d.gaps {
				mark(g.From, g.To)
			}
			for _, p := range d.taken {
				mark(p.at, p.end)
			}
			if i := slices.Index(seen, false); i >= 0 {
				t.Fatalf("unit %d is nobody's", i)
			}
			front := int64(slices.Index(done, false)) * unit
			if front < 0 {
				front = total
			}
			if d.front() != front {
				t.Fatalf("the front is %d, want %d", d.front(), front)
			}
		}
	})
}
