package daemon

import (
	"context"
	"time"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// newServer returns the server with everything that it answers from.
func (d *daemon) newServer(metrics *server.Metrics, events *server.Events) *server.Server {
	c := d.cfg
	return server.New(server.Deps{
		Path: c.State.Socket(), Address: c.Server.Listen, Version: d.Version,
		Runs: d.queue, Checks: d.health, Now: live{d.health, d.pipeline.Pool}, Risks: d.pipeline.Pool,
		Care: d.admin, Stock: d.admin, Copies: d.backups, Metrics: metrics, Gauges: d.gauges, Events: events,
		Tokens: server.Tokens{All: d.Secrets.Token, Add: d.Secrets.AddToken},
		Intake: d.inbox, DropDir: c.Drop.Dir, WebhookKeys: d.Secrets.Webhook, Poker: poker{d.queue, d.pipeline.Poller.Wake},
		Clock: func() time.Time { return d.pipeline.Clock.Server(d.pipeline.API.Host()) }, Tell: d.emit,
	})
}

// live is what the server reports besides the queue: transfers, and what holds up runs.
type live struct {
	*health.Monitor
	pool *download.Pool
}

// InFlight returns all running transfers.
func (l live) InFlight() []server.Transfer {
	var all []server.Transfer
	for _, t := range l.pool.InFlight() {
		all = append(all, server.Transfer{Key: t.Key, Received: t.Bytes, Total: t.Total})
	}
	return all
}

// poker polls a run at once.
type poker struct {
	queue *queue.Queue
	wake  func()
}

// Poke makes a run due, unless it has ended.
func (p poker) Poke(ctx context.Context, id run.ID) error {
	r, err := p.queue.Get(ctx, id)
	if err != nil || r.Ended() || r.State.Settled() {
		return err
	}
	if err := p.queue.Reschedule(ctx, id, time.Now()); err != nil {
		return err
	}
	p.wake()
	return nil
}
