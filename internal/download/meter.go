package download

import (
	"math"
	"time"
)

const (
	// shortestSample is the least time over which a rate says anything.
	shortestSample = 500 * time.Millisecond
	// A rate that was seen is remembered so long, unless it is seen again, and in that
	// time no longer than until so much was measured since.
	memory   = 10 * time.Minute
	measures = 30 * time.Second
	// smoothing is the time constant of the rates.
	smoothing = 3 * time.Second
	// full is the part of the most that fewer connections have to bring for the
	// link, not the connection, to be what limits them.
	full = 0.8
)

// meter measures what so many connections bring together: how much more of them
// bring more is what tells the link's limit from a connection's. It is not safe
// for concurrent use.
type meter struct {
	begun  time.Duration // of the sample under way
	moved  int64         // by then, in bytes
	conns  int           // at full speed then
	latest float64       // bytes/s of the last sample
	busy   time.Duration // that all samples took
	by     [maxConns + 1]rate
}

// maxConns is how many connections are distinguished.
const maxConns = 64

// rate is what was seen.
type rate struct {
	bytes float64       // a second
	at    time.Duration // when it was seen last; 0: never
	busy  time.Duration // the meter's then
}

// sample takes in that moved bytes in all have come until now, when conns are at
// full speed. A sample counts where about as many were at its beginning.
func (m *meter) sample(now time.Duration, moved int64, conns int) {
	span := now - m.begun
	if span < shortestSample && m.begun > 0 {
		return
	}
	n := min((m.conns+conns)/2, maxConns)
	if m.begun > 0 && m.conns > 0 && conns > 0 && max(m.conns, conns) <= 2*min(m.conns, conns) {
		m.latest = float64(moved-m.moved) / span.Seconds()
		m.busy += span
		r := &m.by[n]
		weight := 1.0
		if m.holds(*r, now) {
			weight = 1 - math.Exp(-float64(span)/float64(smoothing))
		}
		r.bytes += weight * (m.latest - r.bytes)
		r.at, r.busy = now, m.busy
	}
	m.begun, m.moved, m.conns = now, moved, conns
}

// holds reports whether a rate was seen, and not too long ago.
func (m *meter) holds(r rate, now time.Duration) bool {
	return r.at > 0 && now-r.at < memory && m.busy-r.busy < measures
}

// most is the highest rate seen, in bytes/s; 0: none.
func (m *meter) most(now time.Duration) float64 {
	most, _ := m.highest(now)
	return most
}

// highest is the highest rate seen, and how many connections brought it.
func (m *meter) highest(now time.Duration) (most float64, conns int) {
	for n, r := range m.by {
		if m.holds(r, now) && r.bytes > most {
			most, conns = r.bytes, n
		}
	}
	return most, conns
}

// each is what one connection brings where so many were seen to bring less than
// the link can; 0: not known. Where clearly more of them did fill the link, what was
// seen last counts: should the link have become slower, more connections show that.
func (m *meter) each(now time.Duration, link float64) (each float64) {
	last := time.Duration(0)
	most, best := m.highest(now)
	for n, r := range m.by {
		switch {
		case n == 0 || !m.holds(r, now) || r.bytes >= full*link:
		case most < full*link:
			each = max(each, r.bytes/float64(n))
		case 2*n <= best && r.at > last:
			each, last = r.bytes/float64(n), r.at
		}
	}
	return each
}

// limit is what all connections bring together where more of them were seen to
// bring no more, although the link could; 0: no such limit was seen.
func (m *meter) limit(now time.Duration, link float64) float64 {
	most := m.most(now)
	if most == 0 || most > full*link {
		return 0
	}
	few, many := 0, 0
	for n, r := range m.by {
		if n > 0 && m.holds(r, now) && r.bytes > full*most {
			if few == 0 {
				few = n
			}
			many = n
		}
	}
	if many < 2*few {
		return 0
	}
	return most
}
