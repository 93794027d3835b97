package transfer

import (
	"slices"

	"github.com/assetd/assetd/internal/run"
)

// The sizes, in bytes, that pieces of a large object have: no request is made for
// less than the first where there is more, and none asks for more than the second.
const (
	leastPiece = 1 << 20
	mostPiece  = 64 << 20
	grain      = 64 << 10 // they begin at multiples of it, for the file system's sake
)

// piece is what one connection fetches next: to before end, which moves back when
// another takes the rest over. Bytes are claimed, then written.
type piece struct {
	done int64 // written up to here
	at   int64 // claimed up to here
	end  int64
}

func newPiece(at int64) *piece { return &piece{at, at, at} }

func (p *piece) rest() int64 { return p.end - p.at }

// division is what is missing of an object of total bytes: gaps that nobody fetches yet, given out
// from the front on so that what is there grows as one and can be hashed as it
// grows, and the pieces that were given out. It is not safe for concurrent use.
type division struct {
	total int64
	gaps  []run.Span // in order, apart
	taken []*piece
}

// divide gives all from the offset to total but what is there already.
func divide(from, total int64, there []run.Span) *division {
	ps := &division{total: total}
	for _, s := range append(slices.Clone(there), run.Span{From: total, To: total}) {
		if s.From > from {
			ps.gaps = append(ps.gaps, run.Span{From: from, To: s.From})
		}
		from = s.To
	}
	return ps
}

// left is how many bytes nobody has claimed.
func (ps *division) left() int64 {
	n := ps.free()
	for _, p := range ps.taken {
		n += p.rest()
	}
	return n
}

// free is how many of them are in nobody's piece.
func (ps *division) free() (n int64) {
	for _, g := range ps.gaps {
		n += g.Len()
	}
	return n
}

// front is how many bytes stand from the first on.
func (ps *division) front() int64 {
	front := ps.total
	if len(ps.gaps) > 0 {
		front = ps.gaps[0].From
	}
	for _, p := range ps.taken {
		if p.done < p.end {
			front = min(front, p.done)
		}
	}
	return front
}

// take gives out about n bytes of the first gap; nil: there is none.
func (ps *division) take(n int64) *piece { return ps.takeFrom(0, n) }

// takeFrom is take from the first gap that begins at an offset or behind it.
func (ps *division) takeFrom(off, n int64) *piece {
	for i := range ps.gaps {
		if ps.gaps[i].From >= off {
			p := newPiece(ps.gaps[i].From)
			ps.taken = append(ps.taken, p)
			ps.widen(p, i, n)
			return p
		}
	}
	return nil
}

// extend adds about n bytes behind the piece, where these are nobody's.
func (ps *division) extend(p *piece, n int64) bool {
	i := slices.IndexFunc(ps.gaps, func(g run.Span) bool { return g.From == p.end })
	if i < 0 || n <= 0 {
		return false
	}
	ps.widen(p, i, n)
	return true
}

// widen moves n bytes from a gap's front to the piece; all of it where less than a
// piece would be left.
func (ps *division) widen(p *piece, gap int, n int64) {
	g := &ps.gaps[gap]
	n = (g.From+max(n, leastPiece))&^(grain-1) - g.From
	if g.Len()-n < leastPiece {
		n = g.Len()
	}
	p.end += n
	if g.From += n; g.From == g.To {
		ps.gaps = slices.Delete(ps.gaps, gap, gap+1)
	}
}

// split gives out the second half of the largest rest, or all of one that stands
// still. nil: what is left is not worth a request.
func (ps *division) split(least int64, still func(*piece) bool) *piece {
	var largest *piece
	for _, p := range ps.taken {
		if p.rest() > 0 && still(p) {
			return ps.cut(p, p.at)
		}
		if largest == nil || p.rest() > largest.rest() {
			largest = p
		}
	}
	if largest == nil || largest.rest() < 2*max(least, leastPiece) {
		return nil
	}
	return ps.cut(largest, (largest.at+largest.rest()/2)&^(grain-1))
}

func (ps *division) cut(p *piece, at int64) *piece {
	q := newPiece(at)
	q.end, p.end = p.end, at
	ps.taken = append(ps.taken, q)
	return q
}

// drop takes a piece back: what is left of it is anybody's.
func (ps *division) drop(p *piece) {
	ps.taken = slices.DeleteFunc(ps.taken, func(q *piece) bool { return q == p })
	if p.rest() == 0 {
		return
	}
	g := run.Span{From: p.at, To: p.end}
	i, _ := slices.BinarySearchFunc(ps.gaps, g.From, func(g run.Span, from int64) int { return int(g.From - from) })
	if i < len(ps.gaps) && ps.gaps[i].From == g.To {
		g.To = ps.gaps[i].To
		ps.gaps = slices.Delete(ps.gaps, i, i+1)
	}
	if i > 0 && ps.gaps[i-1].To == g.From {
		ps.gaps[i-1].To = g.To
		return
	}
	ps.gaps = slices.Insert(ps.gaps, i, g)
}
