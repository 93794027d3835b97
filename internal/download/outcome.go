package download

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// patience is how long an asset waits for fresh URLs before it is tried all the
// same: should their answer get lost, nothing else is.
const patience = 10 * time.Minute

// failed records a failure and does what follows from it.
func (w *attempt) failed(ctx context.Context, f *transfer.Failure, sum string) {
	p := w.p
	aside := ""
	switch f.Class {
	case transfer.Canceled:
		if !errors.Is(f.Err, errParked) {
			w.canceled(f.Err)
			return
		}
		f.Class = transfer.Stall
	case transfer.NoRoom:
		w.local(ctx, f.Err) // the class is named where it is reported
		return
	case transfer.Disk:
		w.local(ctx, f)
		return
	case transfer.NotMedia:
		aside = w.quarantine()
	}
	m := w.moment(f)
	w.learnForm(f, m)
	w.cutAtExpiry(ctx, f, m)
	hostWait := w.heed(f, m)
	tried := trial(f, means(f, w.asset, m), sum, m)
	tried.Quarantine = aside
	after, err := p.Queue.Tried(ctx, w.key, tried)
	if err != nil {
		w.queueFailed(ctx, "recording an attempt at", err)
		return
	}
	p.mu.Lock()
	cfg := p.config
	p.mu.Unlock()
	v := judge(cfg, w.asset, after, f, m)
	switch {
	case v.lose != "":
		w.lose(ctx, after, v.lose, v.reason, f)
		return
	case v.again:
		w.back(0)
		return
	case v.renew > 0:
		p.renew(after, v.renew)
	}
	w.tellRetry(f, v, w.waitUntil(after, f, m, v, hostWait))
}

// canceled gives the asset back. That of a removed run does not go back into the backlog,
// where it would count as at risk until a worker is free, unless its run has been
// submitted again meanwhile.
func (w *attempt) canceled(cause error) {
	w.p.mu.Lock()
	gone := errors.Is(cause, errForgotten) && !w.p.backlog.Changed(w.t)
	w.p.mu.Unlock()
	if gone {
		w.drop()
		return
	}
	w.back(0)
}

// moment reads the clocks.
func (w *attempt) moment(f *transfer.Failure) moment {
	p := w.p
	m := moment{server: p.Clock.Server(f.Host), service: p.Service.Now(), paused: p.paused() || w.doubt, early: w.early}
	_, m.known = p.Clock.Skew(f.Host)
	if !m.known && !f.Date.IsZero() {
		m.server, m.known = f.Date, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.ended, m.endedAt = w.state.run.Ended, w.state.run.EndedAt
	if c := p.cases[w.key]; c != nil && c.wasRefused && w.flight != nil {
		at, ok := p.backlog.LastAnswer(w.t)
		m.answering = ok && at > c.refused || w.t.Own()
	}
	return m
}

// heed lets the host have its will, and returns how long it is to be left alone.
func (w *attempt) heed(f *transfer.Failure, m moment) (wait time.Duration) {
	if w.flight == nil {
		return 0 // no request was made
	}
	wait, slowed := w.notice(f, m)
	if slowed {
		w.p.mu.Lock()
		pace := w.p.backlog.RateLimit(w.t, w.p.now())
		w.p.mu.Unlock()
		note := "next request in " + wait.Round(time.Millisecond).String()
		if pace > 0 {
			note += fmt.Sprintf(", and no more than %.1f a second", pace)
		}
		w.p.Tell(run.Event{Kind: run.HostSlowed, Host: w.flight.host, Err: f, Note: note})
	}
	return wait
}

func (w *attempt) notice(f *transfer.Failure, m moment) (wait time.Duration, slowed bool) {
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	pause := backlog.Pause{Least: p.obey(w.asset, f, m), Left: w.asset.Death().Sub(m.server), Random: p.Random()}
	switch means(f, w.asset, m).host {
	case answers:
		p.backlog.Answered(w.t, now)
	case errs:
		wait = p.backlog.Spoke(w.t, now, pause)
	case undecided:
		return p.backlog.Undecided(w.t, now, pause), false
	case slows:
		wait = p.backlog.Slow(w.t, now, pause)
	case unreachable:
		pause.Sure = true
		wait, _ = p.backlog.Silent(w.t, now, pause)
	case silent:
		wait, _ = p.backlog.Silent(w.t, now, pause)
	case nothing:
	}
	return wait, wait > 0
}

// obey is how long the server's Retry-After is obeyed for the asset's sake. The
// pool is locked.
func (p *Pool) obey(a run.Asset, f *transfer.Failure, m moment) time.Duration {
	return backlog.Obey(f.RetryAfter, timeLeft(a, p.config.Margin, m.server))
}

// waitUntil gives the asset back and returns how long it waits.
func (w *attempt) waitUntil(a run.Asset, f *transfer.Failure, m moment, v verdict, hostWait time.Duration) time.Duration {
	p := w.p
	p.mu.Lock()
	p.usable(w.key)
	c := p.notes(a)
	c.tries++
	if meant := means(f, a, m).asset; meant == denied || meant == expired {
		c.refused, c.wasRefused = p.now(), true
	}
	wait := max(backlog.RetryDelay(c.tries, a.Death().Sub(m.server), p.Random()), p.obey(a, f, m))
	p.mu.Unlock()
	wait = max(wait, hostWait)
	if v.park {
		wait = patience
	}
	w.back(p.now() + wait)
	return wait
}

func (w *attempt) tellRetry(f *transfer.Failure, v verdict, wait time.Duration) {
	note := "again in " + wait.Round(time.Millisecond).String()
	if v.park {
		note = "waits for a fresh URL"
	}
	w.p.Tell(run.Event{Kind: run.AssetRetry, Asset: w.key, Host: f.Host, Err: f, Note: note})
}

// retry gives the asset back after a failure that is nobody's: it waits like after
// any, but at least that long.
func (w *attempt) retry(least time.Duration) {
	p := w.p
	p.mu.Lock()
	c := p.notes(w.asset)
	c.tries++
	wait := max(backlog.RetryDelay(c.tries, p.life(w.asset), p.Random()), least)
	p.mu.Unlock()
	w.back(p.now() + wait)
}

// local gives the asset back after an error of the volume: none of it is the
// asset's fault or its server's.
func (w *attempt) local(ctx context.Context, err error) {
	p := w.p
	switch {
	case ctx.Err() != nil:
		w.back(0)
	case errors.Is(err, run.ErrVolumeOffline):
		p.goneOffline(err)
		w.back(0)
	case errors.Is(err, run.ErrNoRoom):
		need := w.need()
		w.closePart()
		w.given = true
		p.awaitSpace(w.t, w.asset, need, err)
	default:
		wait := p.trouble(w.asset)
		w.back(p.now() + wait)
		w.p.Tell(run.Event{Kind: run.AssetRetry, Asset: w.key, Err: err, Note: "again in " + wait.Round(time.Millisecond).String()})
	}
}

// need is how many bytes the asset found no free space for.
func (w *attempt) need() int64 {
	if w.flight == nil {
		return 1
	}
	switch total := w.flight.total.Load(); {
	case total < 0:
		return unknownNeed
	case total == 0: // not even its part could be made
		return 1
	default:
		return total - w.flight.done.Load()
	}
}

// queueFailed gives the asset back, or drops it, after an error of the queue. It
// returns false.
func (w *attempt) queueFailed(ctx context.Context, doing string, err error) bool {
	p := w.p
	switch {
	case errors.Is(err, run.ErrUnknown), errors.Is(err, run.ErrStale):
		w.drop() // removed, or stored in another way
	case ctx.Err() != nil, p.broken(err):
		w.back(0)
	default:
		p.Tell(run.Event{Kind: run.QueueTrouble, Asset: w.key, Err: fmt.Errorf("%s %s: %w", doing, w.key, err)})
		w.retry(lookAgain)
	}
	return false
}

// renew asks for fresh URLs of the asset's run, unless that was done already and
// the answer is not there yet, or cannot come before the spacing is over anyway.
func (p *Pool) renew(a run.Asset, spacing time.Duration) {
	s := p.state(a.Key.Run)
	p.mu.Lock()
	p.notes(a).asking = true // before the answer can come
	now := p.now()
	asked := s.spacing > 0 && now-s.asked < spacing && (s.spacing <= spacing && !s.answered || spacing == refusedSpacing)
	if !asked {
		s.spacing, s.asked, s.answered = spacing, now, false
	}
	p.mu.Unlock()
	if !asked {
		p.Renew(a.Key.Run, a.Death(), spacing)
	}
}

// lose gives the asset up, unless bytes are at hand that would be lost with it
// although two fetches agreed on them.
func (w *attempt) lose(ctx context.Context, a run.Asset, rule run.LossRule, reason string, cause error) {
	p := w.p
	if w.flight == nil { // the volume was not asked for a part: it may be offline
		if err := p.Volume.Check(); err != nil {
			w.local(ctx, err)
			return
		}
	}
	if rule != run.LossRefused && w.rescued() || w.settleForEarly() {
		return
	}
	w.rescue = nil
	w.closePart()
	switch {
	case rule == run.LossRefused && cause != nil:
		reason = cause.Error() // it begins with these words
	case cause != nil:
		reason += ": " + cause.Error()
	}
	at := p.Clock.Server(hostOf(a))
	ready, err := p.Queue.Lose(ctx, w.key, run.Loss{Rule: rule, Reason: reason, At: at.UTC()})
	if err != nil {
		w.queueFailed(ctx, "recording the loss of", err)
		return
	}
	w.drop()
	p.Tell(run.Event{
		Kind: run.AssetGone, Asset: w.key, Host: hostOf(a), Rule: rule, Note: string(rule) + ": " + reason,
		Hint: "assetd show " + string(w.key.Run) + " tells what was tried",
	})
	if ready {
		p.Ready([]run.ID{w.key.Run})
	}
}

// quarantine puts what is not media aside, one copy of an asset, and returns where
// it lies, empty where nothing was put there now.
func (w *attempt) quarantine() (file string) {
	p := w.p
	p.mu.Lock()
	first := !p.notes(w.asset).quarantined
	p.mu.Unlock()
	part := w.part
	w.part, w.rescue = nil, nil
	if !first {
		part.Discard() //nolint:errcheck // it is begun again anyway
		return ""
	}
	file, err := part.Quarantine()
	if err != nil {
		p.Tell(run.Event{Kind: run.AssetRetry, Asset: w.key, Err: fmt.Errorf("putting what is not media aside: %w", err)})
		return file
	}
	p.mu.Lock()
	p.notes(w.asset).quarantined = true
	p.mu.Unlock()
	p.Tell(run.Event{Kind: run.Quarantined, Asset: w.key, Host: w.flight.host, File: file})
	return file
}
