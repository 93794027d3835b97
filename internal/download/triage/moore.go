package triage

import (
	"cmp"
	"slices"

	"github.com/assetd/assetd/internal/download/heap"
)

// rule is a variant of Moore and Hodgson's: as soon as those that expire first
// cannot all be finished in time, the largest of them is late.
type rule struct {
	soft   bool // those are late first that are not lost by it
	sticky bool // those that run already count as smaller than they are
}

// stickiness is what is left of the size of one that runs, where it counts as
// smaller: sizes and rates are estimates, and a change of mind costs a connection.
const stickiness = 0.75

// rules are all variants, the first preferred where they lose equally many.
var rules = []rule{{true, true}, {false, true}, {true, false}, {false, false}}

// choose finds who is late at that rate, such that the fewest are lost: of jobs,
// in the order of their expiry. Those that are late already stay so.
// (J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the
// number of late jobs", Management Science 15, 1968.)
func (p *problem) choose(jobs []*job, rate float64) {
	var best []bool
	var least, fewest int
	for i, r := range rules {
		late, lost, n := p.moore(jobs, rate, r)
		if best == nil || lost < least || lost == least && n < fewest && r.sticky == rules[0].sticky {
			best, least, fewest = late, lost, n
		}
		if n == 0 || lost == 0 && i > 0 {
			break
		}
	}
	for i, j := range jobs {
		j.late = best[i]
	}
}

// moore is one variant: who is late, how many of them are lost, and how many are
// late. Those that are late but held take their opening from the link and then
// their trickle, until they are whole.
func (p *problem) moore(jobs []*job, rate float64, r rule) (late []bool, lost, n int) {
	late = make([]bool, len(jobs))
	keep := heap.Heap[*job]{Less: r.less(), Index: func(j *job) *int32 { return &j.pos }}
	load := p.load()
	slots := p.most() - p.count(func(j *job) bool { return j.near.State == Held })
	putOff := func(i int) {
		j := jobs[i]
		late[i] = true
		n++
		load.add(j)
		switch {
		case j.renews || j.near.State == Held:
		case !j.holds:
			lost++
		default:
			if slots--; slots < 0 && !j.open {
				lost++
			}
		}
	}
	for i, j := range jobs {
		load.until(j.due)
		j.turn = i
		if j.late {
			putOff(i)
			continue
		}
		load.bytes += j.bytes
		keep.Push(j)
		for load.bytes > rate*j.due*(1+1e-9) && !keep.Empty() {
			k := keep.Pop()
			load.bytes -= k.bytes
			putOff(k.turn)
		}
	}
	return late, lost, n
}

// less is the order in which jobs are put off.
func (r rule) less() func(a, b *job) bool {
	size := func(j *job) float64 {
		if r.sticky && j.running {
			return stickiness * j.gain
		}
		return j.gain
	}
	return func(a, b *job) bool {
		if r.soft && a.soft != b.soft {
			return a.soft
		}
		return size(a) > size(b)
	}
}

// load is what the link has to move until some time.
type load struct {
	bytes   float64
	at      float64 // seconds from now
	trickle float64 // bytes/s of one that is held
	held    float64 // how many are
	rest    float64 // bytes of theirs to come
}

// load is what is held already.
func (p *problem) load() load {
	l := load{trickle: p.trickle}
	for _, j := range p.free {
		if j.open {
			l.held++
			l.rest += j.bytes
		}
	}
	return l
}

// until goes on to a later time: what is held goes on at its trickle.
func (l *load) until(at float64) {
	moved := min(l.held*l.trickle*max(at-l.at, 0), l.rest)
	l.bytes += moved
	l.rest -= moved
	l.at = at
}

// add brings in one that is late: what it has taken since its expiry, too.
func (l *load) add(j *job) {
	if !j.holds {
		return
	}
	moved := min(j.bytes-j.gain+l.trickle*max(l.at-j.left, 0), j.bytes)
	l.bytes += moved
	l.rest += j.bytes - moved
	l.held++
}

// slack is how many seconds there are to spare in which other things may be
// moved: for each job that is not late, the least of all that expire no later than
// it; and for all of them.
func (p *problem) slack() {
	link, hosts := p.load(), map[*server]float64{}
	var variance float64
	least := forever
	for _, j := range p.timed {
		link.until(j.due)
		if j.late {
			link.add(j)
			if j.lingers {
				least = min(least, 0)
			}
			continue
		}
		link.bytes += j.bytes
		hosts[j.server] += j.bytes
		variance += j.spread * j.spread
		j.slack = min(j.due-link.bytes/p.rate, j.left-hosts[j.server]/j.server.rate)
		j.doubt = root(variance) / p.rate
		j.before = least
		least = min(least, j.slack)
	}
	p.spare = least
}

// settle finds who is late where all rates are so many times what they are.
func (p *problem) settle(times float64) {
	for _, j := range p.timed {
		j.due = j.left
		j.late = j.bytes > j.server.speed*times*j.left
	}
	for _, s := range p.servers {
		if s.slow {
			p.choose(s.timed, s.rate*times)
		}
	}
	for _, j := range p.timed {
		j.byHost = j.late
	}
	p.setDue(times)
	p.choose(p.timed, p.rate*times)
}

// setDue says by when each job has to be whole: by its expiry, and on a host that
// is slower than the link as much earlier as those after it need; and by when it
// has to begin for that.
func (p *problem) setDue(times float64) {
	for _, s := range p.servers {
		at := forever
		for _, j := range slices.Backward(s.timed) {
			if j.late {
				continue
			}
			if s.slow {
				j.due = min(at, j.left)
				at = j.due - j.bytes/(s.rate*times)
			}
			j.startBy = j.due - j.bytes/(s.speed*times)
		}
	}
	slices.SortStableFunc(p.timed, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.bytes, b.bytes))
	})
}

// lingering marks those that run and are late by so little that an estimate may
// be all that is wrong: they go on.
func (p *problem) lingering() {
	doubtful := func(j *job) bool { return j.late && j.running && !j.holds }
	if !slices.ContainsFunc(p.timed, doubtful) {
		return
	}
	were := make(map[*job]bool, len(p.timed))
	for _, j := range p.timed {
		were[j] = j.late
	}
	p.settle(1 + band)
	inTime := map[*job]bool{}
	for _, j := range p.timed {
		inTime[j] = !j.late
	}
	p.settle(1)
	for j, late := range were {
		j.lingers = late && inTime[j] && doubtful(j)
	}
}

// band is how wrong a rate may be before it stops a transfer that runs.
const band = 0.25
