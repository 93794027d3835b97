package download

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/transfer"
)

// attempt is one worker's work on one asset, from taking it to giving it back.
type attempt struct {
	p      *Pool
	t      *backlog.Ticket
	key    run.Key
	asset  run.Asset // as it was when the attempt began
	state  *runState
	part   *openPart
	rescue *rescue // whose part it is; nil: an ordinary one
	own    *flight // this attempt
	flight *flight // the same once a request was made; nil before
	given  bool    // the asset is back in the backlog, with the committer, or gone
	doubt  bool    // the URL at hand is not the one that the queue knows of
	early  bool    // the run had not ended when the attempt began
}

// work makes one attempt. Whatever happens in it stays with this asset.
func (p *Pool) work(t *backlog.Ticket, f *flight) {
	w := &attempt{p: p, t: t, key: t.Key(), own: f}
	defer w.leave()
	p.guard(w.key, func() { w.run(f.ctx) })
}

// guard ends a panic in do and reports its stack.
func (p *Pool) guard(key run.Key, do func()) {
	defer func() {
		if cause := recover(); cause != nil {
			p.Tell(run.Event{
				Kind: run.StageRecovered, Asset: key,
				Err:  errors.New(signedurl.Redact(fmt.Sprintf("panic: %v", cause))),
				Note: signedurl.Redact(string(debug.Stack())),
			})
		}
	}()
	do()
}

// leave gives back whatever the attempt still holds, and its worker.
func (w *attempt) leave() {
	if !w.given {
		w.retry(0)
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.backlog.Hold(w.t)
	delete(w.p.flights, w.t)
	w.p.ended(w.own)
	signal(w.p.wake)
}

func (w *attempt) run(ctx context.Context) {
	// Read again: while it waited for its turn another worker may have taken the run
	// over from an older manifest.
	if !w.read(ctx) || !w.prepare(ctx) || !w.read(ctx) {
		return
	}
	url, ok := w.url()
	if !ok {
		return
	}
	if url == "" {
		w.failed(ctx, &transfer.Failure{Class: transfer.Nothing, Err: errors.New("the API lists the asset without a URL")}, "")
		return
	}
	if !w.confirm(ctx, url) || !w.open(ctx) {
		return
	}
	req := transfer.Request{
		Key: w.key, URL: url, Width: w.asset.Width, Height: w.asset.Height, Early: w.early,
		Throttle: &w.own.throttle, Before: w.asset.Evidence.UnprovenSum, Cut: w.cut(), Plain: w.plain(), Turn: w.turn, Sent: w.sent,
	}
	w.p.Tell(run.Event{Kind: run.AssetStarted, Asset: w.key, Host: w.flight.host})
	res, err := w.p.Fetcher.Fetch(ctx, req, w.part, w.progress())
	w.outlived(ctx)
	if w.part.reset {
		w.rescue = nil // its bytes are gone
	}
	var f *transfer.Failure
	switch {
	case err == nil && w.early:
		w.keepEarly(ctx, url, res)
	case err == nil && res.Proven && res.Cut:
		w.truncated(res)
	case err == nil && res.Proven:
		w.keep(res.Whole)
	case err == nil:
		w.unproven(ctx, res)
	case errors.As(err, &f):
		w.failed(ctx, f, f.SHA256)
	default:
		w.failed(ctx, &transfer.Failure{Class: transfer.Network, Err: err}, "")
	}
}

// read takes the asset as the queue has it now.
func (w *attempt) read(ctx context.Context) bool {
	a, err := w.p.Queue.Asset(ctx, w.key)
	if err != nil {
		return w.queueFailed(ctx, "reading", err)
	}
	if a.State != run.AssetWaiting {
		w.drop() // stored, lost or on its way to it by another door
		return false
	}
	w.asset = a
	return true
}

// prepare makes the run ready, once, and while others of its assets wait for it.
func (w *attempt) prepare(ctx context.Context) bool {
	p, s := w.p, w.p.state(w.key.Run)
	w.state = s
	s.preparing.Lock()
	defer s.preparing.Unlock()
	p.mu.Lock()
	known, prepared := s.known && s.run.Ended, s.prepared
	p.mu.Unlock()
	if !known { // a run that goes on is read each time
		r, err := p.Queue.Get(ctx, w.key.Run)
		if err != nil {
			return w.queueFailed(ctx, "reading the run of", err)
		}
		p.mu.Lock()
		if !s.known || r.Ended() && !s.run.Ended { // else a change came meanwhile, which is newer
			s.known, s.run = true, planRun(r)
		}
		w.early = !s.run.Ended
		p.mu.Unlock()
	}
	if prepared || w.early {
		return true
	}
	p.mu.Lock()
	s.prepared = true // unless it fails, or the run ends meanwhile
	p.mu.Unlock()
	adopted, err := p.Prepare(ctx, w.key.Run)
	if err == nil && !adopted {
		return true
	}
	p.mu.Lock()
	s.prepared = false
	p.mu.Unlock()
	switch {
	case adopted:
		p.dropRun(w.key.Run)
		w.drop()
	case errors.Is(err, run.ErrUnknown) || p.broken(err):
		w.queueFailed(ctx, "preparing the run of", err)
	default:
		w.local(ctx, err)
	}
	return false
}

// url is the asset's URL; empty where the API lists none. False: there is none at
// hand, or a fresh one is on its way and this one has expired.
func (w *attempt) url() (string, bool) {
	p := w.p
	l, ok, err := p.Queue.Listed(w.key)
	if err != nil {
		p.Tell(run.Event{Kind: run.QueueTrouble, Asset: w.key, Err: fmt.Errorf("reading the answer about %s: %w", w.key, err)})
		w.retry(0)
		return "", false
	}
	host := hostOf(w.asset)
	_, known := p.Clock.Skew(host)
	p.mu.Lock()
	asked := w.state.spacing == renewSpacing && !w.state.answered && p.now()-w.state.asked < patience
	vain := asked && known && !w.asset.Expiry.IsZero() && !w.asset.Evidence.NoLaterURL && p.Clock.Server(host).After(w.asset.Expiry)
	if vain {
		p.notes(w.asset).asking = true
	}
	p.mu.Unlock()
	switch {
	case !ok:
		p.renew(w.asset, renewSpacing)
		w.back(p.now() + patience)
		p.Tell(run.Event{Kind: run.AssetRetry, Asset: w.key, Host: host, Note: "the answer with its URL is not at hand: asked for once more"})
		return "", false
	case vain:
		w.back(p.now() + patience) // another asset of the run has found out that this is in vain
		return "", false
	}
	// An answer is saved before the queue has it. What comes of its URL says nothing
	// about the one the queue knows of.
	w.doubt = l.URLHash() != w.asset.URLHash
	return l.URL, true
}

// begin notes that requests are made from now on.
func (w *attempt) begin() {
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	w.flight = w.own
	w.flight.host, w.flight.since = hostOf(w.asset), time.Now()
	p.notes(w.asset) // a poll that comes now can tell whether it brings another URL
}

// open opens the part, or takes the one that is held for a rescue.
func (w *attempt) open(ctx context.Context) bool {
	p := w.p
	w.begin()
	p.mu.Lock()
	if w.rescue = p.takeRescue(w.key); w.rescue != nil {
		w.part = w.rescue.part
	}
	p.mu.Unlock()
	if w.part != nil {
		return true
	}
	part, err := p.Volume.Part(w.key)
	if err != nil {
		w.local(ctx, err)
		return false
	}
	w.part = &openPart{Part: part}
	return true
}

// progress notes how far the transfer is, and that the host answers: of that a
// part which is gone on with says nothing as long as it is as it was.
func (w *attempt) progress() func(done, total int64) {
	had, _ := w.part.Have()
	f, asked := w.flight, time.Now()
	f.done.Store(had)
	dies := w.p.on(f.Candidate, w.asset.Expiry, 0)
	return func(done, total int64) {
		f.done.Store(done)
		f.total.Store(total)
		if done > 0 && done != had { // before its first byte a part is marked again
			_, mark := w.part.Have()
			f.resumes.Store(mark.ETag != "")
		}
		if f.atExpiry == 0 && dies > 0 && time.Since(asked) > dies {
			f.atExpiry = max(done, 1)
		}
		if !f.answered.Load() && (done != had || had == 0) {
			f.answered.Store(true)
			took := time.Since(asked)
			if had > 0 {
				took = 0 // of a part that is gone on with the first bytes count, not the answer
			}
			w.answered(total, took)
		}
	}
}

// turn waits until the host may get one more request for the asset.
func (w *attempt) turn(ctx context.Context) error {
	p := w.p
	for {
		p.mu.Lock()
		now := p.now()
		at, ok := p.backlog.Further(w.flight.host, now)
		p.mu.Unlock()
		if ok {
			return nil
		}
		rest(ctx, nil, at-now)
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// sent notes that a response is waited for.
func (w *attempt) sent() { w.own.sent.CompareAndSwap(0, max(int64(w.p.now()), 1)) }

// answered notes that the host answered, after so long unless that is 0, and the
// asset's size if that is known from it.
func (w *attempt) answered(total int64, took time.Duration) {
	p := w.p
	p.mu.Lock()
	if took > 0 {
		p.scarce.host(w.flight.host).answeredIn(took)
	}
	if n := p.notes(w.asset); total > 0 && n.total != total {
		n.total = total
		p.scarce.scales.see(w.flight.App, w.key.Kind, total)
	}
	back := p.backlog.Answered(w.t, p.now())
	if p.scarce.on {
		signal(p.redirect) // size and host are known now
	}
	p.mu.Unlock()
	signal(p.wake) // it may have been waited for
	if back {
		p.Tell(run.Event{Kind: run.HostBack, Host: w.flight.host})
	}
}
