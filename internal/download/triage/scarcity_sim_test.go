package triage_test

import (
	"cmp"
	"math"
	"slices"
)

// file is one asset of the simulated world; times in seconds, sizes in bytes.
type file struct {
	size  float64
	death float64
	host  int
	guess float64 // the plan's estimate until the size is known; 0: known
	state fileState
	got   float64

	opened, answers float64 // when; of the connection that is open
	had             float64 // got, when it was opened
	seen, seenGot   float64 // when the server last looked, and what had gone then
	asked           float64 // when the answer to its size comes
	known           bool
	stops           int
	rate            float64 // at the moment
}

type fileState int

const (
	idle fileState = iota
	full
	trickled
	saved
	gone
)

func (f *file) open() bool { return f.state == full || f.state == trickled }

// site is a server of that world. Rates of 0 are no limit.
type site struct {
	rate, conn, latency float64
	cuts                bool
}

// world is a link, its servers and what they have, shared evenly among all that
// is read: as much to each as to any other, unless it or its server can do with
// or give no more.
type world struct {
	link    func(now float64) float64
	noise   func() float64 // on the rate that the plan is told; nil: exact
	sites   []site
	files   []*file
	workers int
	maxOpen int
	opening float64 // bytes a connection takes in before it can be held
	asks    bool    // sizes are asked for when the plan says so

	now      float64
	scarce   bool
	trickle  float64
	again    float64
	plans    int
	most     int // connections at a time
	mostHeld int
}

// The servers end a response of which they got rid of less than that in 25 s.
const (
	patience = 25.0
	leastOut = 400_000.0
)

// policy says what to do now; it is asked whenever something has happened.
type policy func(w *world)

// run lets the policy do its work and counts what was saved.
func (w *world) run(act policy) int {
	for range 1_000_000 {
		act(w)
		dt, busy := w.step()
		if !busy {
			break
		}
		w.advance(dt)
	}
	n := 0
	for _, f := range w.files {
		if f.state == saved {
			n++
		}
	}
	return n
}

// step is how long nothing will happen.
func (w *world) step() (dt float64, busy bool) {
	w.allot()
	dt = max(w.again-w.now, 1e-6)
	soon := func(t float64) {
		if t -= w.now; t > 1e-12 {
			dt = min(dt, t)
		}
	}
	soon(math.Floor(w.now) + 1) // a change of the link
	conns, held := 0, 0
	for _, f := range w.files {
		if f.state == idle && f.death > w.now {
			busy = true
			soon(f.death)
		}
		if f.asked > 0 && !f.known {
			soon(f.asked)
		}
		if !f.open() {
			continue
		}
		conns++
		if f.state == trickled {
			held++
		}
		busy = true
		soon(f.death)
		soon(f.answers)
		soon(f.seen + patience)
		if f.rate > 0 {
			soon(w.now + (f.size-f.got)/f.rate)
			if f.state == trickled && f.got-f.had < w.opening {
				soon(w.now + (w.opening-f.got+f.had)/f.rate)
			}
		}
	}
	w.most, w.mostHeld = max(w.most, conns), max(w.mostHeld, held)
	return max(dt, 1e-9), busy
}

func (w *world) advance(dt float64) {
	w.now += dt
	for _, f := range w.files {
		if f.asked > 0 && w.now >= f.asked-1e-9 {
			f.known = true
		}
		if !f.open() {
			if f.state == idle && f.death <= w.now+1e-9 {
				f.state = gone
			}
			continue
		}
		f.got += f.rate * dt
		f.known = f.known || w.now >= f.answers-1e-9
		w.judge(f)
	}
}

// judge is what the server does.
func (w *world) judge(f *file) {
	s := w.sites[f.host]
	switch {
	case f.got >= f.size-1e-3 && w.now >= f.answers-1e-9:
		f.state = saved
	case s.cuts && w.now >= f.death-1e-9:
		f.state = gone
	case w.now >= f.seen+patience-1e-9:
		if f.got-f.seenGot < leastOut {
			f.state = idle
			if w.now >= f.death {
				f.state = gone
			}
		}
		f.seen, f.seenGot = w.now, f.got
	}
}

func (w *world) start(f *file, as fileState) {
	s := w.sites[f.host]
	if w.now+s.latency/2 >= f.death {
		f.state = gone
		return
	}
	f.state, f.opened, f.answers, f.had = as, w.now, w.now+s.latency, f.got
	f.seen, f.seenGot = w.now, f.got
}

// allot shares the link: all get the same until something is enough for one.
func (w *world) allot() {
	var open []*file
	for _, f := range w.files {
		if f.rate = 0; f.open() && w.now >= f.answers-1e-9 {
			open = append(open, f)
		}
	}
	left := w.link(w.now)
	sites := make([]float64, len(w.sites))
	for i, s := range w.sites {
		sites[i] = cmp.Or(s.rate, math.Inf(1))
	}
	for len(open) > 0 {
		n := make([]float64, len(sites))
		for _, f := range open {
			n[f.host]++
		}
		level := left / float64(len(open))
		for i := range sites {
			if n[i] > 0 {
				level = min(level, sites[i]/n[i])
			}
		}
		for _, f := range open {
			level = min(level, w.limit(f)-f.rate)
		}
		level = max(level, 0)
		for _, f := range open {
			f.rate += level
			left -= level
			sites[f.host] -= level
		}
		open = slices.DeleteFunc(open, func(f *file) bool {
			return left < 1e-6 || sites[f.host] < 1e-6 || f.rate >= w.limit(f)-1e-6
		})
	}
}

func (w *world) limit(f *file) float64 {
	most := cmp.Or(w.sites[f.host].conn, math.Inf(1))
	if f.state == trickled && f.got-f.had >= w.opening-1e-3 {
		most = min(most, w.trickle)
	}
	return most
}
