package triage_test

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/download/triage"
)

// inOrder is all workers on what is first by that order.
func inOrder(less func(a, b *file) int) policy {
	return func(w *world) {
		w.again = math.Inf(1)
		waits := slices.Clone(w.files)
		slices.SortStableFunc(waits, less)
		busy := 0
		for _, f := range w.files {
			if f.open() {
				busy++
			}
		}
		for _, f := range waits {
			if busy >= w.workers {
				break
			}
			if f.state == idle && f.death > w.now {
				if w.start(f, full); f.open() {
					busy++
				}
			}
		}
	}
}

var (
	edf  = inOrder(func(a, b *file) int { return cmp.Compare(a.death, b.death) })
	fcfs = inOrder(func(_, _ *file) int { return 0 })
)

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// window is the world as the plan is told of it.
func (w *world) window() (triage.Window, []*file) {
	noise := 1.0
	if w.noise != nil {
		noise = w.noise()
	}
	out := triage.Window{
		Now: sec(w.now), Rate: int64(w.link(w.now) * noise), Workers: w.workers, MaxOpen: w.maxOpen,
		Opening: int64(w.opening), Scarce: w.scarce,
	}
	for _, s := range w.sites {
		latency := max(sec(s.latency), 1)
		conn := cmp.Or(s.conn, w.link(w.now)*noise*2)
		out.Servers = append(out.Servers, triage.Server{
			Rate: int64(s.rate), Conn: int64(conn), Latency: latency, Cuts: s.cuts,
		})
	}
	var files []*file
	for _, f := range w.files {
		if f.state == saved || f.state == gone {
			continue
		}
		files = append(files, f)
		out.Assets = append(out.Assets, w.near(f))
	}
	return out, files
}

func (w *world) near(f *file) triage.Asset {
	a := triage.Asset{
		Server: f.host, Bytes: int64(f.size - f.got), Opened: sec(f.opened),
		Expiry: sec(f.death), Deadline: sec(f.death),
	}
	if f.guess > 0 && !f.known {
		a.Bytes, a.Spread = int64(max(f.guess-f.got, 1)), int64(f.guess)
	}
	switch f.state {
	case full:
		a.State = triage.Running
	case trickled:
		a.State = triage.Held
	}
	return a
}

// planned does as the plan says.
func planned(w *world) {
	win, files := w.window()
	if len(files) == 0 {
		return
	}
	w.plans++
	d := triage.Decide(win)
	w.again = w.now + d.Again.Seconds()
	w.scarce = !d.Plain
	if d.Plain {
		edf(w)
		w.again = w.now + d.Again.Seconds()
		return
	}
	w.trickle = float64(d.Trickle)
	for _, i := range d.Stop {
		files[i].state = idle
		files[i].stops++
	}
	for _, i := range d.Hold {
		files[i].state = trickled
	}
	for _, i := range d.Finish {
		w.begin(files[i], full)
	}
	for _, i := range d.Open {
		w.begin(files[i], trickled)
	}
	if w.asks {
		w.ask(d.Ask, files)
	}
}

func (w *world) begin(f *file, as fileState) {
	if f.open() {
		f.state = as
		return
	}
	w.start(f, as)
}

// ask asks for sizes, as many at a time as there are workers.
func (w *world) ask(which []int, files []*file) {
	busy := 0
	for _, f := range files {
		if f.asked > 0 && !f.known {
			busy++
		}
	}
	for _, i := range which {
		if f := files[i]; f.asked == 0 && busy < w.workers {
			f.asked = w.now + max(w.sites[f.host].latency, 1e-3)
			busy++
		}
	}
}

// most is the largest number of files that can be finished before they die on a
// link that has moved so many bytes by then, by Moore and Hodgson's rule, done
// the plain way.
func most(files []*file, moved func(t float64) float64) int {
	byDeath := slices.Clone(files)
	slices.SortFunc(byDeath, func(a, b *file) int { return cmp.Compare(a.death, b.death) })
	var kept []float64
	total := 0.0
	for _, f := range byDeath {
		at, _ := slices.BinarySearch(kept, f.size)
		kept = slices.Insert(kept, at, f.size)
		if total += f.size; total > moved(f.death)*(1+1e-9) {
			total -= kept[len(kept)-1]
			kept = kept[:len(kept)-1]
		}
	}
	return len(kept)
}
