package download

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/download/triage"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

const (
	// nearest is how many assets that wait are decided on at a time. Those after
	// them are reached as these are stored.
	nearest = 1024
	// shortestReview is the least time between two decisions while there is too
	// little time for all; longestReview the most without one while something runs.
	shortestReview = 50 * time.Millisecond
	calmReview     = 500 * time.Millisecond
	// firstReview is the time between two while no rate was measured yet.
	firstReview   = 100 * time.Millisecond
	longestReview = time.Second
	// holdEvery is how often a held transfer is read.
	holdEvery = 4 * time.Second
)

// errYield stops a transfer whose link a more urgent one needs.
var errYield = errors.New("stopped: assets that die earlier need the link")

// scarcity is what is done while time may not do for all. The pool's lock guards
// it.
type scarcity struct {
	on      bool
	orders  []order   // to be started now
	next    []run.Key // to be started when less than atOnce are at full speed
	atOnce  int
	trickle transfer.KeepAlive

	link   meter
	moved  int64 // bytes that came, from all hosts
	hosts  map[string]*hostFacts
	nobody hostFacts            // of whom nothing was seen; only read
	cuts   map[string]time.Time // hosts that end answers when their URLs expire, and when that was seen
	scales scales
	asked  map[run.Key]struct{}     // for their size
	warned map[run.Key]int64        // whose loss at that expiry, Unix ms, was reported
	told   map[string]told          // by cause
	since  map[string]time.Duration // when a host was first seen to hold assets up
	looked time.Duration            // when what is held up was looked at; 0: never
	events []run.Event              // to be emitted as soon as the lock is free
}

// order is an asset to be started.
type order struct {
	key  run.Key
	held bool
}

// direct decides, again and again, whether time does for all that is near its
// expiry, and what to do where it does not.
func (p *Pool) direct(ctx context.Context) {
	var sizes errgroup.Group
	sizes.SetLimit(asksAtOnce)
	defer sizes.Wait() //nolint:errcheck // they return nil
	for ctx.Err() == nil {
		sleep, least := p.review(ctx, &sizes)
		rest(ctx, nil, least)
		rest(ctx, p.redirect, sleep-least)
	}
}

// review decides once, and says when to do so again: at the latest, and at the
// earliest. Should that fail, assets start in their plain order.
func (p *Pool) review(ctx context.Context, sizes *errgroup.Group) (sleep, least time.Duration) {
	p.guard(run.Key{}, func() { sleep, least = p.decide(ctx, sizes) })
	if sleep == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.plain()
		return longestReview, longestReview
	}
	return sleep, least
}

func (p *Pool) decide(ctx context.Context, sizes *errgroup.Group) (sleep, least time.Duration) {
	p.mu.Lock()
	defer p.tellAll()
	now := p.now()
	p.measure(now)
	p.backlog.Promote(now)
	w, who := p.window(now)
	d := triage.Decide(w)
	p.apply(d, w, who)
	p.warn(d, w, who, now)
	p.ask(ctx, sizes, d, who)
	sleep, least = min(d.Again, longestSleep), calmReview
	switch {
	case len(w.Assets) == 0:
		return longestSleep, shortestReview
	case p.scarce.on:
		least = shortestReview
	case len(p.flights) > 0 && w.Rate == 0:
		return firstReview, firstReview
	}
	if len(p.flights) > 0 {
		sleep = min(sleep, longestReview)
	}
	return max(sleep, least), least
}

// tellAll unlocks the pool and tells what a review found.
func (p *Pool) tellAll() {
	events := p.scarce.events
	p.scarce.events = nil
	p.mu.Unlock()
	for _, e := range events {
		p.Tell(e)
	}
}

// measure takes a sample of every rate. The pool is locked.
func (p *Pool) measure(now time.Duration) {
	conns, by := 0, map[string]int{}
	for _, f := range p.flights {
		if !f.held && f.answered.Load() {
			conns++
			by[f.host]++
		}
		p.came(f)
	}
	p.scarce.link.sample(now, p.scarce.moved, conns)
	for name, h := range p.scarce.hosts {
		if by[name] == 0 {
			h.conns = 0
		}
	}
	for name, n := range by {
		// Beside others, and with the link full, a host's share says nothing of it.
		if h := p.scarce.host(name); n == conns || p.spare(now) {
			h.sample(now, h.bytes, n)
		} else {
			h.conns = 0
		}
	}
}

// came counts what has come of the transfer since the last look. The pool is
// locked.
func (p *Pool) came(f *flight) {
	moved := f.throttle.Moved()
	p.scarce.moved += moved - f.seen
	p.scarce.host(f.host).bytes += moved - f.seen
	f.seen = moved
}

// spare reports whether the link has just brought clearly less than it can.
func (p *Pool) spare(now time.Duration) bool {
	most := p.scarce.link.most(now)
	latest := p.scarce.link.latest
	return most > 0 && latest < full*most
}

// window is what is to be decided on: what is nearest to its expiry and what runs.
// The pool is locked.
func (p *Pool) window(now time.Duration) (w triage.Window, who []backlog.Candidate) {
	link := p.scarce.link.most(now)
	w = triage.Window{
		Now: now, Rate: int64(link), Workers: p.workers, MaxOpen: p.maxOpen, Scarce: p.scarce.on,
	}
	near := p.nearest(now)
	w.Assets = make([]triage.Asset, 0, len(p.flights)+len(near))
	who = make([]backlog.Candidate, 0, len(p.flights)+len(near))
	servers := map[string]int{}
	var clocks []time.Time // of each server, now
	add := func(c backlog.Candidate, n triage.Asset) {
		at, ok := servers[c.Host]
		if !ok {
			at = len(w.Servers)
			servers[c.Host] = at
			w.Servers = append(w.Servers, p.server(c.Host, now, link))
			clocks = append(clocks, p.Clock.Server(c.Host))
		}
		n.Server = at
		n.Expiry, n.Unknown = on(clocks[at], c.Expiry, now), c.Expiry.IsZero()
		n.Deadline = on(clocks[at], c.Deadline, now)
		if n.Unknown {
			n.Expiry = n.Deadline
		}
		n.Renews = p.scarce.seen(c.Host).renews
		w.Assets = append(w.Assets, n)
		who = append(who, c)
	}
	for _, f := range p.flights {
		if !f.over && !f.silent(now) {
			add(f.Candidate, p.flying(f))
		}
	}
	for _, c := range near {
		add(c, p.waiting(c))
	}
	return w, who
}

// nearest is what waits and expires first; nothing where nothing can be started. The
// pool is locked.
func (p *Pool) nearest(now time.Duration) []backlog.Candidate {
	if p.volume.offline || p.volume.full || p.stopping {
		return nil
	}
	return p.backlog.Nearest(nearest)
}

// on is a time of the candidate's server on the timeline of now.
func (p *Pool) on(c backlog.Candidate, at time.Time, now time.Duration) time.Duration {
	return on(p.Clock.Server(c.Host), at, now)
}

// on is a time of a clock that shows this now, on the timeline of now.
func on(clock, at time.Time, now time.Duration) time.Duration {
	if at.IsZero() {
		return now
	}
	return now + at.Sub(clock)
}

func (p *Pool) server(name string, now time.Duration, link float64) triage.Server {
	h := p.scarce.seen(name)
	return triage.Server{
		Rate: int64(h.limit(now, link)), Conn: int64(h.each(now, link)),
		Latency: h.latency, Cuts: p.cutting(name),
	}
}

// waiting is an asset that waits. The pool is locked.
func (p *Pool) waiting(c backlog.Candidate) triage.Asset {
	n := triage.Asset{State: triage.Waiting}
	if notes := p.cases[c.Key]; notes != nil && notes.total > 0 {
		n.Bytes = notes.total - notes.had
		return n
	}
	n.Bytes, n.Spread = p.scarce.scales.guess(c.App, c.Key.Kind)
	return n
}

// flying is an asset whose transfer was begun. The pool is locked.
func (p *Pool) flying(f *flight) triage.Asset {
	total, done := f.total.Load(), f.done.Load()
	n := triage.Asset{Bytes: total - done, Whole: !f.resumes.Load()}
	if total <= 0 {
		n = p.waiting(f.Candidate)
	}
	if total < 0 {
		n.Bytes = max(n.Bytes-done, 1)
	}
	n.State, n.Opened = triage.Running, f.opened
	if f.held {
		n.State = triage.Held
	}
	return n
}

// apply does what was decided. The pool is locked.
func (p *Pool) apply(d triage.Decision, w triage.Window, who []backlog.Candidate) {
	s := &p.scarce
	if d.Plain {
		p.plain()
		return
	}
	flights := make(map[run.Key]*flight, len(p.flights))
	for _, f := range p.flights {
		flights[f.Key] = f
	}
	s.on, s.atOnce = true, d.AtOnce
	s.trickle = transfer.KeepAlive{Bytes: int(d.Trickle * int64(holdEvery/time.Second)), Every: holdEvery}
	s.orders, s.next = s.orders[:0], s.next[:0]
	for _, i := range d.Open {
		s.orders = append(s.orders, order{who[i].Key, true})
	}
	for _, i := range d.Finish {
		if f := flights[who[i].Key]; f != nil {
			p.letGo(f)
		} else {
			s.orders = append(s.orders, order{who[i].Key, false})
		}
	}
	for _, i := range d.Hold {
		if f := flights[who[i].Key]; f != nil {
			p.hold(f)
		}
	}
	for _, i := range d.Stop {
		if f := flights[who[i].Key]; f != nil {
			f.stop(errYield)
		}
	}
	p.probe(d, w, who)
	for _, i := range slices.Concat(d.Next, d.Last) {
		if w.Assets[i].State == triage.Waiting {
			s.next = append(s.next, who[i].Key)
		}
	}
	signal(p.wake)
}

// probe orders what shows something and costs next to nothing: what has expired, as
// only a refusal leads to a fresh URL, and one asset of a host that has brought
// nothing lately, as the link may be able to do more. The pool is locked.
func (p *Pool) probe(d triage.Decision, w triage.Window, who []backlog.Candidate) {
	s := &p.scarce
	dead := 0
	for _, i := range d.Last {
		if a := w.Assets[i]; a.State == triage.Waiting && !a.Unknown && a.Expiry <= w.Now && dead < p.workers {
			s.orders = append(s.orders, order{who[i].Key, p.maxOpen > 0})
			dead++
		}
	}
	busy := map[string]bool{}
	for _, f := range p.flights {
		busy[f.host] = true
	}
	for _, i := range d.Next {
		if name := who[i].Host; !busy[name] && s.seen(name).most(w.Now) == 0 {
			s.orders = append(s.orders, order{who[i].Key, false})
			return
		}
	}
}

// plain lets assets start in their plain order again. The pool is locked.
func (p *Pool) plain() {
	s := &p.scarce
	if !s.on {
		return
	}
	s.on, s.orders, s.next = false, nil, nil
	for _, f := range p.flights {
		p.letGo(f)
	}
	signal(p.wake)
}

// hold lets a transfer go on at a trickle. The pool is locked.
func (p *Pool) hold(f *flight) {
	f.held, f.wasHeld = true, true
	f.throttle.Hold(p.scarce.trickle)
}

// letGo lets a held transfer run at full speed. The pool is locked.
func (p *Pool) letGo(f *flight) {
	if f.held {
		f.held = false
		f.throttle.Release()
	}
}

// ordered takes the asset to be started next while time does not do for all. The
// pool is locked.
func (p *Pool) ordered(now time.Duration) (t *backlog.Ticket, held bool) {
	s := &p.scarce
	if t, ok := p.backlog.NextFirst(now); ok {
		return t, false
	}
	for len(s.orders) > 0 {
		o := s.orders[0]
		s.orders = s.orders[1:]
		if t, ok := p.backlog.Take(o.key, now); ok {
			return t, o.held
		}
	}
	for p.atFullSpeed() < s.atOnce && len(s.next) > 0 {
		k := s.next[0]
		s.next = s.next[1:]
		if t, ok := p.backlog.Take(k, now); ok {
			return t, false
		}
	}
	return nil, false
}

// silent reports whether the transfer has had no answer for so long that it takes
// nothing of the link: its host may be down.
func (f *flight) silent(now time.Duration) bool {
	const soon = 2 * time.Second
	return !f.answered.Load() && now-f.opened > soon
}

// atFullSpeed is how many transfers are not held. The pool is locked.
func (p *Pool) atFullSpeed() (n int) {
	now := p.now()
	for _, f := range p.flights {
		if !f.held && !f.silent(now) {
			n++
		}
	}
	return n
}

// ended takes in what a transfer that is over shows. The pool is locked.
func (p *Pool) ended(f *flight) {
	p.came(f)
	f.stop(nil)
	if c := p.cases[f.Key]; c != nil && f.answered.Load() {
		c.had = 0
		if f.resumes.Load() {
			c.had = f.done.Load()
		}
	}
	if p.atFullSpeed() == 0 {
		p.scarce.link.conns = 0 // from now on nothing says what the link can
	}
	if p.scarce.on {
		signal(p.redirect)
	}
}
