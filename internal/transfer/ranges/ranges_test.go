package ranges

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

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
		d := Missing(0, total, there)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			var p *Range
			if len(d.taken) > 0 {
				p = rapid.SampledFrom(d.taken).Draw(t, "piece")
			}
			n := int64(rapid.IntRange(0, 100).Draw(t, "n")) * unit
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op == 0:
				d.Take(n)
			case op == 1:
				d.Split(n, func(q *Range) bool { return q == p && rapid.Bool().Draw(t, "still") })
			case p == nil:
			case op == 2:
				d.Extend(p, n)
			case op == 3:
				d.Drop(p)
			default:
				n = min(n, p.Rest()) / unit * unit
				for i := p.Claimed / unit; i < (p.Claimed+n)/unit; i++ {
					if done[i] {
						t.Fatalf("unit %d is written twice", i)
					}
					done[i] = true
				}
				p.Claimed, p.Written = p.Claimed+n, p.Claimed+n
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
				mark(p.Claimed, p.End)
			}
			if i := slices.Index(seen, false); i >= 0 {
				t.Fatalf("unit %d is nobody's", i)
			}
			front := int64(slices.Index(done, false)) * unit
			if front < 0 {
				front = total
			}
			if d.Front() != front {
				t.Fatalf("the front is %d, want %d", d.Front(), front)
			}
		}
	})
}
