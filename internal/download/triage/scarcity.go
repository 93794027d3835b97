package triage

import (
	"cmp"
	"slices"
)

// finish picks what is read at full speed: as many as fill the link. What runs
// already and what does not expire comes before what expires first as long as
// half of the time to spare is left.
func (p *problem) finish() {
	var pressed, front, timed, free []*job
	used := 0.0
	fits := func(j *job, spare float64) bool {
		if used+j.bytes/p.rate > spare/2 {
			return false
		}
		used += j.bytes / p.rate
		return true
	}
	for _, j := range p.freeOrder() {
		if fits(j, p.spare) {
			front = append(front, j)
		} else {
			free = append(free, j)
		}
	}
	for _, j := range p.timed {
		switch {
		case j.late && !j.lingers:
		case p.pressed(j):
			pressed = append(pressed, j)
		case j.running && !j.late && (j.near.Whole || fits(j, j.before)):
			front = append(front, j)
		default:
			timed = append(timed, j)
		}
	}
	p.order = slices.Concat(pressed, front, timed, free, p.lateOrder())
	p.fill()
}

// pressed reports whether a job that its server cannot bring as fast as the link
// could has to begin now, whatever else there is to do.
func (p *problem) pressed(j *job) bool {
	if j.late || j.server.speed > p.rate/2 {
		return false
	}
	by := j.startBy - early*j.left
	if j.running {
		by -= early * j.left
	}
	if by > 0 {
		p.again(by)
	}
	return by <= 0
}

// early is the part of the life left by which a slow one begins before it must.
const early = 0.1

// freeOrder is unknown deaths first, then what is held the longest, where that
// is long, then the smallest: it makes room for others.
func (p *problem) freeOrder() []*job {
	order := slices.Clone(p.free)
	slices.SortStableFunc(order, func(a, b *job) int {
		return cmp.Or(cmp.Compare(p.age(a), p.age(b)), cmp.Compare(a.bytes, b.bytes))
	})
	return order
}

// age puts what is not open first, then what has been for long.
func (p *problem) age(j *job) int64 {
	switch {
	case !j.open:
		return -1 << 62
	case p.w.Now-j.near.Opened >= longHeld:
		return int64(j.near.Opened) - 1<<61
	}
	return 0
}

// lateOrder is those that are late, likeliest first.
func (p *problem) lateOrder() (order []*job) {
	for _, j := range p.timed {
		if j.late && !j.lingers {
			order = append(order, j)
		}
	}
	slices.SortStableFunc(order, func(a, b *job) int { return cmp.Compare(a.bytes, b.bytes) })
	return order
}

// fill gives the link to jobs in their order until their connections fill it and
// what they have to come keeps it busy until the next ones answer. Where all
// connections stay open, only what has one can have the link.
func (p *problem) fill() {
	var used, bytes, busy float64
	connections := p.connections()
	var chosen []*job
	for _, j := range p.order {
		s := j.server
		busy = inFlight * s.latency
		if p.d.AtOnce >= p.workers || used >= p.rate && bytes >= p.rate*busy {
			break
		}
		if s.used >= s.rate && s.bytes >= s.rate*busy {
			continue
		}
		if !j.open && connections <= 0 {
			continue
		}
		if used < p.rate && !p.bear(chosen) {
			break
		}
		if !j.open {
			connections--
		}
		j.do = finish
		chosen = append(chosen, j)
		p.d.AtOnce++
		j.got = min(s.conn, max(s.rate-s.used, 0))
		used += j.got
		s.used += j.got
		s.bytes += j.bytes
		bytes += j.bytes
	}
	p.again(bytes/p.rate - busy)
}

// connections is how many more transfers there may be while those that are not stopped
// go on.
func (p *problem) connections() int {
	return p.workers + max(p.w.MaxOpen, 0) - p.count(func(j *job) bool { return j.open && p.yield(j) != stop })
}

// bear reports whether these bear one more next to them: the link is shared evenly,
// so that one which fills a gap may take more than the gap.
func (p *problem) bear(chosen []*job) bool {
	each := p.rate / float64(len(chosen)+1)
	return !slices.ContainsFunc(chosen, func(j *job) bool {
		return j.got > each && j.left < forever && !j.late && j.slack < j.bytes/each-j.bytes/j.got
	})
}

// inFlight is how many latencies' worth of bytes should be on their way.
const inFlight = 1.5

// again bounds the time of the next decision, seconds from now.
func (p *problem) again(at float64) {
	p.d.Again = max(min(p.d.Again, seconds(at)), soonest)
}
