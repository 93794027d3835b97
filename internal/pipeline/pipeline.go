// Package pipeline joins the stages from the queue to the manifest: poller, download pool,
// volume and settler. The daemon and assetd get run the same pipeline.
//
// It guarantees the order of a stop: a stage ends only after those that hand work to it
// have ended. It opens no queue and closes none.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/poller"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/schedule"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
)

// Pipeline is the stages, joined over an open queue.
type Pipeline struct {
	Queue  *queue.Queue
	Clock  *clock.Clock
	API    *magnific.Client
	Poller *poller.Poller
	Pool   *download.Pool
	Volume *storage.Volume

	service *clock.Service
	fetcher *transfer.Client
	settler *manifest.Settler
}

// View is the queue as the stages see it that look for work in it.
type View interface {
	poller.Queue
	download.Queue
	manifest.Queue
}

// Observers take what the stages measure; nil ones are not called.
type Observers struct {
	Polled func(err error, took time.Duration)   // each call to the API that a stop did not end
	Synced func(what string, took time.Duration) // each sync of the volume
}

// New joins the stages over queue q, in which they look for work through view. It starts
// nothing and makes no request; the error is a setting that cannot be used.
func New(c *config.Config, key string, q *queue.Queue, view View, o Observers, tell run.Tell) (*Pipeline, error) {
	p := &Pipeline{Queue: q, Clock: clock.New(), service: clock.NewService(q.Service())}
	var err error
	if p.API, err = magnific.New(APIConfig(c), key, p.Clock, tell); err != nil {
		return nil, err
	}
	p.API.Remember(q.ID(), func(fingerprint string) bool {
		proven, err := q.Proven(fingerprint)
		return err == nil && proven
	})
	if p.fetcher, err = transfer.New(TransferConfig(c), p.Clock); err != nil {
		return nil, err
	}
	p.Volume, err = storage.New(StorageConfig(c), storage.Deps{
		Ledger: q, Ready: func([]run.ID) { p.settler.Wake() }, Broken: p.Broken, Tell: tell, Timed: o.Synced,
	})
	if err != nil {
		return nil, err
	}
	p.settler = manifest.New(manifest.Config{
		Queue: view, Ledger: q, Places: q, Volume: p.Volume, Tell: tell, Broken: p.Broken, Now: p.Clock.Now,
		Again: func(change run.Change) { p.Pool.Changed(change) },
		// A part that cannot be removed now is removed by the next sweep.
		Done: func(_ context.Context, stored []run.Key) { _ = p.Volume.RemoveParts(stored) },
	})
	p.Poller = poller.New(pollConfig(c), poller.Deps{
		API: measuredAPI{p.API, o.Polled}, Queue: view, Clock: p.Clock, Service: p.service, Tell: tell, Broken: p.Broken, Salt: q.ID(),
		Changed: func(change run.Change) {
			p.Pool.Changed(change)
			if change.Run.Ended() && change.Run.Open() == 0 { // only its manifest is missing
				p.settler.Wake()
			}
		},
	})
	p.Pool = download.New(poolConfig(c), download.Deps{
		Queue: view, Volume: volume{p.Volume}, Fetcher: p.fetcher, Clock: p.Clock, Service: p.service,
		Prepare: p.settler.Prepare, Renew: p.Poller.Renew,
		Ready: func([]run.ID) { p.settler.Wake() }, Tell: tell, Broken: p.Broken,
	})
	return p, nil
}

// measuredAPI reports each call to polled.
type measuredAPI struct {
	*magnific.Client
	polled func(err error, took time.Duration)
}

func (m measuredAPI) Get(ctx context.Context, id run.ID) (run.Answer, error) {
	start := time.Now()
	answer, err := m.Client.Get(ctx, id)
	if m.polled != nil && ctx.Err() == nil {
		m.polled(err, time.Since(start))
	}
	return answer, err
}

// volume is the volume as the pool knows it, with parts as an interface.
type volume struct{ *storage.Volume }

func (v volume) Part(key run.Key) (download.Part, error) {
	p, err := v.Volume.Part(key)
	if err != nil {
		return nil, err // not an interface that holds a nil *storage.Part
	}
	return p, nil
}

// Broken reports whether an error means that the queue cannot go on.
func (p *Pipeline) Broken(err error) bool {
	return err != nil && (p.Queue.Err() != nil || errors.Is(err, kv.ErrClosed))
}

// Run runs the stages until ctx ends, then stops them in the order of the work: the poller
// at once; the pool when its transfers are done, or when hard ends; the volume when it has
// stored what they fetched; the settler when it has written what became ready. An error
// means that the queue cannot go on.
func (p *Pipeline) Run(ctx, hard context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	settling, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStoring()
	defer stopSettling()

	g.Go(func() error { return p.Queue.Watch(ctx) })
	g.Go(func() error { return p.Poller.Run(ctx) })
	g.Go(func() error {
		defer stopStoring()
		return p.Pool.Run(ctx, hard)
	})
	g.Go(func() error {
		defer stopSettling()
		return p.Volume.Run(storing)
	})
	g.Go(func() error { return p.settler.Run(settling) })
	return g.Wait()
}

// saveInterval is how much of the service clock a crash may lose. What is lost counts less
// against the runs, never more.
const saveInterval = time.Minute

// Jobs are the periodic jobs of the stages.
func (p *Pipeline) Jobs(log *zap.Logger) []schedule.Job {
	return []schedule.Job{
		{Name: "poll", Every: time.Second, Do: func(context.Context) { p.Poller.Tick() }},
		{Name: "room", Every: 5 * time.Second, Do: func(context.Context) { p.Pool.Wake(); p.Volume.Wake(); p.settler.Wake() }},
		{Name: "statistics", Every: saveInterval, Do: func(ctx context.Context) {
			if err := p.SaveService(ctx); err != nil && ctx.Err() == nil {
				log.Warn("service clock not saved", zap.Error(err))
			}
		}},
	}
}

// SaveService records the service clock, so that the next start continues from it.
func (p *Pipeline) SaveService(ctx context.Context) error {
	if err := p.Queue.SaveService(ctx, p.service.Now()); err != nil {
		return fmt.Errorf("saving the service clock: %w", err)
	}
	return nil
}

// ServerTime returns the time by the API's clock, and whether that clock is known.
func (p *Pipeline) ServerTime() (now time.Time, known bool) {
	_, known = p.Clock.Skew(p.API.Host())
	return p.Clock.Server(p.API.Host()), known
}

// Configure applies the settings that can change while the stages run.
func (p *Pipeline) Configure(c *config.Config) {
	p.API.Configure(APIConfig(c))
	p.Poller.Configure(pollConfig(c))
	p.fetcher.Configure(TransferConfig(c))
	p.Volume.Configure(StorageConfig(c))
	p.Pool.Configure(poolConfig(c))
}

// Close closes the idle connections of the stages.
func (p *Pipeline) Close() {
	p.fetcher.Close()
	p.API.Close()
}
