package download

import (
	"context"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

const (
	sweepSize    = 256         // assets at a time
	sweepSpacing = time.Second // between two sweeps that could change nothing
)

// sweep gives up what is overdue, whatever it waits for (4.4 d), and says when to
// look again.
func (p *Pool) sweep(ctx context.Context) (sleep time.Duration) {
	p.mu.Lock()
	first, ok := p.backlog.Ended()
	after := p.config.LostAfter
	if !ok || p.volume.offline || len(p.Service.Paused()) > 0 {
		p.mu.Unlock()
		return longestSleep
	}
	service := p.Service.Now()
	if due := first + after - service; due > 0 {
		p.mu.Unlock()
		return due
	}
	late := p.backlog.Overdue(service-after, sweepSize)
	p.mu.Unlock()
	for _, t := range late {
		p.giveUp(ctx, t)
	}
	return sweepSpacing
}

// giveUp loses an overdue asset.
func (p *Pool) giveUp(ctx context.Context, t *backlog.Ticket) {
	w := &attempt{p: p, t: t, key: t.Key()}
	if ctx.Err() != nil || p.paused() {
		w.back(0)
		return
	}
	p.guard(w.key, func() { w.giveUp(ctx) })
	if !w.given {
		w.retry(lookAgain)
	}
}

// giveUp loses the asset, but for one last fetch where that may bring a body that
// was fetched before and lacks nothing but proof.
func (w *attempt) giveUp(ctx context.Context) {
	p := w.p
	if !w.read(ctx) {
		return
	}
	r, err := p.Queue.Get(ctx, w.key.Run)
	if err != nil {
		w.queueFailed(ctx, "reading the run of", err)
		return
	}
	m := moment{ended: r.Ended(), endedAt: r.EndedService, service: p.Service.Now()}
	p.mu.Lock()
	late, c := overdue(p.config, m), p.notes(w.asset)
	again := late && w.asset.Evidence.UnprovenSum != "" && c.rescue == nil && !c.lastTry
	switch {
	case again:
		c.lastTry, w.given = true, true
		p.backlog.First(w.t)
	case !late: // the run was set to waiting again in the meantime
		p.backlog.Put(planRun(r), p.planAsset(w.asset))
	}
	p.mu.Unlock()
	switch {
	case again:
		signal(p.wake)
	case late:
		w.lose(ctx, w.asset, run.LossTime, lostByTime(m), nil)
	default:
		w.back(0)
	}
}
