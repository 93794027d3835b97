package daemon

import (
	"context"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// newServer joins the server with what it answers from.
func (d *daemon) newServer(metrics *server.Metrics, events *server.Events) *server.Server {
	c := d.cfg
	return server.New(server.Deps{
		Path: c.State.Socket(), Address: c.Server.Listen, Version: d.Version,
		Runs: d.queue, Checks: d.status, Now: now{d.status, d.engine.pool}, Risks: d.engine.pool,
		Care: d.care, Stock: d.care, Copies: d.backups, Metrics: metrics, Gauges: d.gauges, Events: events,
		Tokens: server.Tokens{All: d.Secrets.Token, Add: d.Secrets.AddToken},
		Intake: d.inbox, DropDir: c.Drop.Dir, WebhookKeys: d.Secrets.Webhook, Poker: poker{d.queue, d.engine.poller.Wake},
		Clock: func() time.Time { return d.engine.clock.Server(d.engine.api.Host()) }, Tell: d.tell,
	})
}

// poker has a run polled at once.
type poker struct {
	queue *queue.Queue
	wake  func()
}

// Poke does so unless the run has ended.
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
