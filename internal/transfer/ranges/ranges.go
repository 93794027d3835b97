// Package ranges decides how a large object is fetched over several connections: which
// ranges of bytes each of them gets (Set), how many connections bring more (Autoscaler), and
// how many all transfers together may have (Budget).
//
// It makes no requests and moves no bytes; the transfer does both and reports what came.
package ranges

import (
	"slices"

	"github.com/assetd/assetd/internal/run"
)

// The sizes of ranges, in bytes: no request is made for less than the first where more is
// missing, and none asks for more than the second.
const (
	MinSize = 1 << 20
	MaxSize = 64 << 20
	grain   = 64 << 10 // ranges begin at multiples of it, for the file system's sake
)

// Range is what one connection fetches next, up to End, which moves back when another one
// takes over the rest. Bytes are claimed first, then written.
type Range struct {
	Written int64 // offset up to which it is written
	Claimed int64 // offset up to which it is claimed
	End     int64
}

func newRange(at int64) *Range { return &Range{at, at, at} }

// Rest is how many of its bytes are not claimed.
func (r *Range) Rest() int64 { return r.End - r.Claimed }

// Set is what is missing of an object: gaps that no connection fetches yet, which are taken
// from the front so that the contiguous prefix grows and can be hashed as it does, and the
// ranges that were taken. It is not safe for concurrent use.
type Set struct {
	total int64
	gaps  []run.Span // in order, apart
	taken []*Range
}

// Missing is the set of all bytes from an offset to total but those that are there already.
func Missing(from, total int64, there []run.Span) *Set {
	s := &Set{total: total}
	for _, span := range append(slices.Clone(there), run.Span{From: total, To: total}) {
		if span.From > from {
			s.gaps = append(s.gaps, run.Span{From: from, To: span.From})
		}
		from = span.To
	}
	return s
}

// Left is how many bytes are not claimed.
func (s *Set) Left() int64 {
	n := s.Free()
	for _, p := range s.taken {
		n += p.Rest()
	}
	return n
}

// Free is how many of them are in no range.
func (s *Set) Free() (n int64) {
	for _, g := range s.gaps {
		n += g.Len()
	}
	return n
}

// Front is the length of the contiguous prefix that is written.
func (s *Set) Front() int64 {
	front := s.total
	if len(s.gaps) > 0 {
		front = s.gaps[0].From
	}
	for _, p := range s.taken {
		if p.Written < p.End {
			front = min(front, p.Written)
		}
	}
	return front
}

// Take takes about n bytes from the front of the first gap; nil: there is none.
func (s *Set) Take(n int64) *Range { return s.TakeFrom(0, n) }

// TakeFrom is Take from the first gap that begins at or after an offset.
func (s *Set) TakeFrom(off, n int64) *Range {
	for i := range s.gaps {
		if s.gaps[i].From >= off {
			p := newRange(s.gaps[i].From)
			s.taken = append(s.taken, p)
			s.widen(p, i, n)
			return p
		}
	}
	return nil
}

// Extend adds about n bytes to the end of the range, where these are in no other.
func (s *Set) Extend(p *Range, n int64) bool {
	i := slices.IndexFunc(s.gaps, func(g run.Span) bool { return g.From == p.End })
	if i < 0 || n <= 0 {
		return false
	}
	s.widen(p, i, n)
	return true
}

// widen moves n bytes from a gap's front to the range; all of it where less than MinSize
// would remain.
func (s *Set) widen(p *Range, gap int, n int64) {
	g := &s.gaps[gap]
	n = (g.From+max(n, MinSize))&^(grain-1) - g.From
	if g.Len()-n < MinSize {
		n = g.Len()
	}
	p.End += n
	if g.From += n; g.From == g.To {
		s.gaps = slices.Delete(s.gaps, gap, gap+1)
	}
}

// BusyAfter reports whether another range that ends after this one is not written yet.
func (s *Set) BusyAfter(r *Range) bool {
	for _, q := range s.taken {
		if q != r && q.Written < q.End && q.End > r.End {
			return true
		}
	}
	return false
}

// NextGap is the offset of the first gap that begins at or after an offset; false: there
// is none.
func (s *Set) NextGap(from int64) (int64, bool) {
	for _, g := range s.gaps {
		if g.From >= from {
			return g.From, true
		}
	}
	return 0, false
}

// Split takes over the second half of the largest rest, or all of the rest of a range that
// is still. nil: what is left is not worth a request.
func (s *Set) Split(least int64, still func(*Range) bool) *Range {
	var largest *Range
	for _, p := range s.taken {
		if p.Rest() > 0 && still(p) {
			return s.cut(p, p.Claimed)
		}
		if largest == nil || p.Rest() > largest.Rest() {
			largest = p
		}
	}
	if largest == nil || largest.Rest() < 2*max(least, MinSize) {
		return nil
	}
	return s.cut(largest, (largest.Claimed+largest.Rest()/2)&^(grain-1))
}

func (s *Set) cut(p *Range, at int64) *Range {
	q := newRange(at)
	q.End, p.End = p.End, at
	s.taken = append(s.taken, q)
	return q
}

// Drop removes a range: its rest becomes a gap again.
func (s *Set) Drop(p *Range) {
	s.Return(p)
	s.taken = slices.DeleteFunc(s.taken, func(q *Range) bool { return q == p })
}

// Return makes a gap of the range's rest: it ends with what is claimed.
func (s *Set) Return(p *Range) {
	if p.Rest() == 0 {
		return
	}
	g := run.Span{From: p.Claimed, To: p.End}
	p.End = p.Claimed
	i, _ := slices.BinarySearchFunc(s.gaps, g.From, func(g run.Span, from int64) int { return int(g.From - from) })
	if i < len(s.gaps) && s.gaps[i].From == g.To {
		g.To = s.gaps[i].To
		s.gaps = slices.Delete(s.gaps, i, i+1)
	}
	if i > 0 && s.gaps[i-1].To == g.From {
		s.gaps[i-1].To = g.To
		return
	}
	s.gaps = slices.Insert(s.gaps, i, g)
}
