// Package triage decides what to do with the assets of a window when the link may not move
// all of them before their URLs expire.
//
// Where earliest deadline first with all workers is in time, the decision is plain and the
// backlog's order holds. Else as few as possible are lost: who is late is found by
// Moore and Hodgson's algorithm, what cannot be finished in time is opened before its
// expiry and held at a low rate where its server allows that, and the rest comes last.
//
// Decide is a pure function and costs O(n log n).
package triage

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// forever is a time that nothing waits for, in seconds.
const forever = 1e9

// Until when a decision holds at the latest.
const (
	soonest  = 50 * time.Millisecond
	scarceBy = time.Second
	plainBy  = 30 * time.Second
)

// job is an asset of the window as the decision sees it; times are seconds from
// now, sizes bytes.
type job struct {
	near    *Asset
	at      int // in the window
	server  *server
	bytes   float64
	spread  float64
	left    float64 // until its URL expires
	gain    float64 // what the link is spared before its expiry where it is late
	open    bool
	running bool
	holds   bool // its server lets it be held
	renews  bool
	soft    bool // it is not lost by being late

	late    bool // it cannot be finished in time
	byHost  bool // because of its host
	lingers bool
	slack   float64
	before  float64 // the least slack of those that expire earlier
	doubt   float64 // how wrong slack may be, as sizes are estimates
	openBy  float64
	due     float64 // when it has to be whole; for others of its host that may be before it expires
	startBy float64 // at the latest, for that
	got     float64 // bytes/s, at full speed next to those before it
	do      action

	begin, end float64 // in share
	turn       int     // in moore
	pos        int32   // in a heap
}

// server is a Server in the same units; nothing of it is 0.
type server struct {
	rate, conn, latency, trickle float64
	speed                        float64 // the most that one connection is known to be kept to
	cuts                         bool    // nothing of it is held
	slow                         bool
	timed                        []*job
	used, bytes                  float64 // of rate, by what is at full speed
}

// action is what is done with a job.
type action uint8

const (
	undecided action = iota
	finish
	besides // it is read to its end although others have the link
	start
	hold
	stop
	next
	last
)

// problem is a window being decided on.
type problem struct {
	w       *Window
	rate    float64
	opening float64
	trickle float64
	workers int
	servers []*server
	jobs    []*job
	timed   []*job  // that expire, first first
	free    []*job  // that do not, or did and are open, or may any time
	expired []*job  // their URLs have expired
	spare   float64 // seconds in which other things may be moved
	order   []*job  // in which to finish them
	d       Decision
}

// Decide decides on a window: what can be finished in time is finished, earliest expiry
// first; what cannot is opened in time and held, where its server allows it; the rest is
// last, chosen so that the fewest are lost.
func Decide(w Window) Decision {
	p := newProblem(&w)
	if w.Rate <= 0 {
		return Decision{Plain: true, Again: scarceBy}
	}
	spare, ok := p.ample()
	if !ok {
		p.sort()
		spare, ok = p.plain()
	}
	if ok {
		return Decision{Plain: true, Again: min(max(seconds(spare/4), soonest), plainBy)}
	}
	p.d.Again = scarceBy
	p.trickle = mostTrickle
	p.settle(1)
	if t := p.affordable(); t < p.trickle {
		p.trickle = t
		p.settle(1)
	}
	p.lingering()
	p.slack()
	p.finish()
	p.begun()
	p.waiting()
	p.report()
	p.risks()
	return p.d
}

func newProblem(w *Window) *problem {
	p := &problem{w: w, rate: float64(max(w.Rate, 1)), workers: max(w.Workers, 1), opening: opening}
	if w.Opening > 0 {
		p.opening = float64(w.Opening)
	}
	for _, s := range w.Servers {
		p.servers = append(p.servers, p.server(s))
	}
	return p
}

// sort makes jobs of the window's assets and sorts them.
func (p *problem) sort() {
	w := p.w
	jobs := make([]job, len(w.Assets))
	for i := range w.Assets {
		j := &jobs[i]
		p.job(j, i)
		p.jobs = append(p.jobs, j)
		switch {
		case !j.open && j.left <= 0:
			p.expired = append(p.expired, j)
		case j.near.Unknown || j.left <= 0:
			j.left = forever
			p.free = append(p.free, j)
		default:
			p.timed = append(p.timed, j)
		}
	}
	slices.SortStableFunc(p.timed, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.bytes, b.bytes))
	})
	for _, j := range p.timed {
		j.server.timed = append(j.server.timed, j)
	}
}

func (p *problem) server(s Server) *server {
	out := &server{
		rate: p.rate, latency: max(s.Latency.Seconds(), 0), conn: float64(s.Conn),
		trickle: float64(s.Trickle), cuts: s.Cuts || p.w.MaxOpen <= 0,
	}
	if s.Rate > 0 && float64(s.Rate) < p.rate {
		out.rate, out.slow = float64(s.Rate), true
	}
	out.speed = out.rate
	if s.Conn > 0 {
		out.speed = min(out.rate, out.conn)
	}
	if s.Latency <= 0 {
		out.latency = someLatency
	}
	if s.Conn <= 0 {
		out.conn = out.rate / 2
	}
	if s.Trickle <= 0 {
		out.trickle = leastTrickle
	}
	return out
}

func (p *problem) job(j *job, i int) {
	a := &p.w.Assets[i]
	j.near, j.at = a, i
	if a.Server < 0 || a.Server >= len(p.servers) {
		j.server = p.server(Server{})
	} else {
		j.server = p.servers[a.Server]
	}
	j.bytes, j.spread = size(a.Bytes), size(a.Spread)
	j.running, j.open = a.State == Running, a.State == Running || a.State == Held
	j.left = p.left(a)
	j.holds, j.renews = !j.server.cuts, a.Renews
	j.gain = j.bytes
	if j.holds && !j.open {
		j.gain = max(j.bytes-p.opening, 0)
	}
	j.soft = j.renews || j.holds && j.gain > 0
}

// left is how many seconds an asset's URL is valid.
func (p *problem) left(a *Asset) float64 {
	return min(a.Expiry.Seconds()-p.w.Now.Seconds(), forever)
}

// most is how many connections may be open next to those at full speed. As many as
// there are workers may be in any case: the plain order would open them, too.
func (p *problem) most() int {
	return max(min(p.w.MaxOpen, max(int(p.rate/(2*p.need())), p.workers)), 0)
}

// need is the trickle, in bytes/s, that keeps all alive.
func (p *problem) need() float64 {
	need := 0.0
	for _, s := range p.servers {
		need = max(need, s.trickle)
	}
	if need == 0 {
		return leastTrickle
	}
	return need
}

// affordable is the trickle that half the link has for all that are and will be
// held: generous where it can be.
func (p *problem) affordable() float64 {
	n := 0
	for _, j := range p.timed {
		if j.late && j.holds {
			n++
		}
	}
	for _, j := range p.free {
		if j.open {
			n++
		}
	}
	if n = min(n, p.most()); n == 0 {
		return mostTrickle
	}
	each := p.rate / float64(n)
	return min(max(each/2, min(p.need(), each)), max(mostTrickle, p.need()))
}

// size is a number of bytes of which many can be added up.
func size(n int64) float64 { return float64(min(max(n, 0), 1<<50)) }

func root(x float64) float64 { return math.Sqrt(x) }

// seconds is a time of so many; never negative.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), forever) * float64(time.Second))
}
