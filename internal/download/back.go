package download

import (
	"errors"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

// back gives the asset back: it may start again at that time; 0: at once.
func (w *attempt) back(at time.Duration) {
	w.closePart()
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.given = true
	w.p.backlog.Back(w.t, at)
	signal(w.p.wake)
}

// drop takes the asset out of the backlog: there is nothing more to do for it.
func (w *attempt) drop() {
	w.closePart()
	w.given = true
	w.p.drop(w.t)
}

// drop takes an asset out, with all that is remembered of it.
func (p *Pool) drop(t *backlog.Ticket) {
	key := t.Key()
	p.mu.Lock()
	p.backlog.Drop(t)
	if f := p.flights[t]; f != nil {
		f.over = true
	}
	held := p.forget(key)
	if !p.backlog.Waits(key.Run) {
		delete(p.runs, key.Run)
	}
	p.mu.Unlock()
	held.close()
}

// dropRun takes all of a run out but what is with a worker.
func (p *Pool) dropRun(id run.ID) {
	var held []*rescue
	p.mu.Lock()
	for _, key := range p.backlog.DropRun(id) {
		held = append(held, p.forget(key))
	}
	p.mu.Unlock()
	for _, r := range held {
		r.close()
	}
}

// errForgotten stops a transfer whose run was removed.
var errForgotten = errors.New("stopped: its run was removed")

// Forget takes a run out that the queue does not know any more: what waits is
// dropped, and transfers that run are stopped; their parts are left to be cleared.
func (p *Pool) Forget(id run.ID) {
	p.dropRun(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flights {
		if f.Key.Run == id {
			f.stop(errForgotten)
		}
	}
	if !p.backlog.Waits(id) {
		delete(p.runs, id)
	}
	signal(p.redirect)
}

// forget forgets what is remembered of an asset, and returns what was held for it.
// The pool is locked.
func (p *Pool) forget(key run.Key) (held *rescue) {
	held = p.takeRescue(key)
	delete(p.cases, key)
	delete(p.scarce.asked, key)
	delete(p.scarce.warned, key)
	p.usable(key)
	return held
}

// keep passes the whole part to the store's committer, and the worker is free.
func (w *attempt) keep(whole run.Whole) {
	p, t, a, part := w.p, w.t, w.asset, w.part
	var took time.Duration
	if w.flight != nil {
		took = time.Since(w.flight.since)
	}
	w.part, w.rescue, w.given = nil, nil, true
	part.Keep(whole, func(err error) { p.kept(t, a, whole.Size, took, err) })
}

// kept is called when the store is done with a whole asset.
func (p *Pool) kept(t *backlog.Ticket, a run.Asset, size int64, took time.Duration, err error) {
	if err != nil {
		p.notKept(t, a, size, err)
		return
	}
	p.stored(t)
	p.Tell(run.Event{Kind: run.AssetKept, Asset: a.Key, Host: hostOf(a), Bytes: size, Took: took})
}

// stored notes that the asset is stored, and so that the volume can be used.
func (p *Pool) stored(t *backlog.Ticket) {
	p.drop(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Service.Resume(pauseStorage)
}

// notKept is called where a whole asset could not be stored: it is fetched again.
func (p *Pool) notKept(t *backlog.Ticket, a run.Asset, size int64, err error) {
	switch {
	case errors.Is(err, run.ErrUnknown), errors.Is(err, run.ErrStale):
		p.drop(t)
	case errors.Is(err, run.ErrVolumeOffline):
		p.goneOffline(err)
		p.mu.Lock()
		p.backlog.Back(t, 0)
		p.mu.Unlock()
	case errors.Is(err, run.ErrNoRoom):
		p.awaitSpace(t, a, size, err)
	default:
		wait := p.trouble(a)
		p.mu.Lock()
		p.backlog.Back(t, p.now()+wait)
		p.mu.Unlock()
		p.Tell(run.Event{Kind: run.AssetRetry, Asset: a.Key, Err: err, Note: "again in " + wait.Round(time.Millisecond).String()})
	}
	signal(p.wake)
}

// trouble notes that something on the volume could not be used for the asset, and
// returns how long it waits. Until that is over, or another asset is stored, the
// service clock is stopped: none of it is the asset's fault.
func (p *Pool) trouble(a run.Asset) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.volume.bad == nil {
		p.volume.bad = map[run.Key]struct{}{}
	}
	p.volume.bad[a.Key] = struct{}{}
	p.Service.Pause(pauseStorage)
	c := p.notes(a)
	c.tries++
	return backlog.RetryDelay(c.tries, p.life(a), p.Random())
}

// usable notes that the volume can be used for the asset. The pool is locked.
func (p *Pool) usable(key run.Key) {
	if _, ok := p.volume.bad[key]; !ok {
		return
	}
	delete(p.volume.bad, key)
	if len(p.volume.bad) == 0 {
		p.Service.Resume(pauseStorage)
	}
}

// notes is what is remembered of an asset that was begun; of another URL than the one
// at hand the waits are forgotten. The pool is locked.
func (p *Pool) notes(a run.Asset) *caseNotes {
	c := p.cases[a.Key]
	if c == nil {
		c = &caseNotes{}
		p.cases[a.Key] = c
	}
	if c.url != a.URLHash {
		c.url, c.tries, c.wasRefused, c.asking, c.unseen = a.URLHash, 0, false, false, false
	}
	return c
}

// state is what is remembered of a run.
func (p *Pool) state(id run.ID) *runState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.runs[id]
	if s == nil {
		s = &runState{}
		p.runs[id] = s
	}
	return s
}
