package triage

import (
	"cmp"
	"slices"
)

// begun decides what happens to those that are open and do not get the link.
func (p *problem) begun() {
	for _, j := range p.jobs {
		if j.open && j.do == undecided {
			j.do = p.yield(j)
		}
	}
}

// yield is how one that is open gives way. None is closed that may have expired when
// its turn comes, unless that is what is going to happen to it anyway.
func (p *problem) yield(j *job) action {
	dies := j.left < forever
	switch {
	case !j.running:
		return hold
	case j.lingers || j.holds && j.bytes <= small:
		return besides
	case j.holds && (!dies || j.late || j.near.Whole || j.slack < band*j.left):
		return hold
	case j.late || dies && !j.near.Whole || j.renews:
		return stop
	case !dies && j.near.Unknown && !j.near.Whole:
		return stop
	}
	return besides
}

// waiting decides what happens to those that are not open and do not get the
// link.
func (p *problem) waiting() {
	p.open()
	for _, j := range p.jobs {
		if j.do == undecided {
			j.do = next
			if j.late && !j.lingers {
				j.do = last
			}
		}
	}
	for _, j := range p.expired {
		j.do = last
	}
}

// open opens what will be held, as far as connections go: who expires first, the
// smallest first, each early enough for all that come after it. Small ones are
// read to their end instead.
func (p *problem) open() {
	held := p.toHold()
	slices.SortStableFunc(held, func(a, b *job) int {
		if a.renews != b.renews {
			return cmp.Compare(bit(a.renews), bit(b.renews))
		}
		return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.bytes, b.bytes))
	})
	held = held[:min(len(held), p.freeConnections())]
	p.openTimes(held)
	for _, j := range held {
		switch {
		case j.openBy > 0:
			j.do = next
			p.again(j.openBy)
		case j.bytes <= small:
			j.do = besides
		default:
			j.do = start
		}
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// toHold is what waits and can only be saved by being held, or is about to expire:
// then the plan, which had it finished in time, was too good.
func (p *problem) toHold() (held []*job) {
	for _, j := range p.timed {
		if j.do == undecided && j.holds && (j.late || j.left < p.lead(j)) {
			held = append(held, j)
		}
	}
	return held
}

// lead is how many seconds before its expiry a job should be opened at the latest.
func (p *problem) lead(j *job) float64 {
	return openLead + j.server.latency + p.takes(j)
}

// takes is how long it takes to open it with half the link.
func (p *problem) takes(j *job) float64 {
	return max(2*min(j.bytes, p.opening)/p.rate, j.server.latency/float64(p.workers))
}

// freeConnections is how many more connections may be opened next to those at full speed.
func (p *problem) freeConnections() int {
	return max(p.most()-p.count(func(j *job) bool { return j.do == hold || j.do == besides }), 0)
}

func (p *problem) count(which func(*job) bool) (n int) {
	for _, j := range p.jobs {
		if which(j) {
			n++
		}
	}
	return n
}

// openTimes says by when each has to be opened, so that all are before they expire,
// with half the link to do it.
func (p *problem) openTimes(held []*job) {
	by := slices.Clone(held)
	slices.SortStableFunc(by, func(a, b *job) int { return cmp.Compare(a.left, b.left) })
	at := forever
	for _, j := range slices.Backward(by) {
		takes := p.takes(j)
		at = min(at, j.left-p.lead(j)+takes) - takes
		j.openBy = at
	}
}
