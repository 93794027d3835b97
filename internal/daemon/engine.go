package daemon

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
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
)

// engine is the stages from the queue to the manifest, joined. The daemon and the
// get command run the same one.
type engine struct {
	queue   *queue.Queue
	clock   *clock.Clock
	service *clock.Service
	api     *magnific.Client
	poller  *poller.Poller
	fetcher *transfer.Client
	pool    *download.Pool
	volume  *storage.Volume
	settler *manifest.Settler
}

// view is a queue as the stages see it that seek work in it.
type view interface {
	poller.Queue
	download.Queue
	manifest.Queue
}

// newEngine joins the stages over an open queue; seen is the same queue as they see it;
// o takes what is measured. It starts nothing and asks nobody; an error is a setting that
// cannot be used.
func newEngine(c *config.Config, key string, q *queue.Queue, seen view, o observers, tell run.Tell) (*engine, error) {
	e := &engine{queue: q, clock: clock.New(), service: clock.NewService(q.Service())}
	var err error
	if e.api, err = magnific.New(apiConfig(c), key, e.clock, tell); err != nil {
		return nil, err
	}
	e.api.Remember(q.ID(), func(fingerprint string) bool {
		proven, err := q.Proven(fingerprint)
		return err == nil && proven
	})
	if e.fetcher, err = transfer.New(transferConfig(c), e.clock); err != nil {
		return nil, err
	}
	e.volume, err = storage.New(storageConfig(c), storage.Deps{
		Ledger: q, Ready: func([]run.ID) { e.settler.Wake() }, Broken: e.broken, Tell: tell, Timed: o.synced,
	})
	if err != nil {
		return nil, err
	}
	e.settler = manifest.New(manifest.Config{
		Queue: seen, Ledger: q, Places: q, Volume: e.volume, Tell: tell, Broken: e.broken, Now: e.clock.Now,
		Again: func(change run.Change) { e.pool.Changed(change) },
		Done:  e.sweepStored,
	})
	e.poller = poller.New(pollConfig(c), poller.Deps{
		API: measured{e.api, o.polled}, Queue: seen, Clock: e.clock, Service: e.service, Tell: tell, Broken: e.broken, Salt: q.ID(),
		Changed: e.changed,
	})
	e.pool = e.newPool(c, seen, tell)
	return e, nil
}

// changed passes on what a poll changed: assets to fetch, or a run that waits for
// nothing but its manifest.
func (e *engine) changed(change run.Change) {
	e.pool.Changed(change)
	if change.Run.Ended() && change.Run.Open() == 0 {
		e.settler.Wake()
	}
}

// broken reports whether an error means that the queue cannot go on.
func (e *engine) broken(err error) bool {
	return err != nil && (e.queue.Err() != nil || errors.Is(err, queue.ErrClosed))
}

// run runs the stages until ctx ends, then stops them in the order in which work
// flows, so that none hands work to one that has gone: polling at once; transfers
// when they are done, or when hard ends; the keeper when it has put away what they
// brought; the settler when it has written what became ready. An error means that
// the queue cannot go on.
func (e *engine) run(ctx, hard context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	settling, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	defer stopSettling()

	g.Go(func() error { return e.queue.Watch(ctx) })
	g.Go(func() error { return e.poller.Run(ctx) })
	g.Go(func() error {
		defer stopKeeping()
		return e.pool.Run(ctx, hard)
	})
	g.Go(func() error {
		defer stopSettling()
		return e.volume.Run(keeping)
	})
	g.Go(func() error { return e.settler.Run(settling) })
	return g.Wait()
}

// close gives back what the stages held. The queue is its owner's to close.
func (e *engine) close() {
	e.fetcher.Close()
	e.api.Close()
}

// saveService records the service clock, so that the next start goes on from it.
func (e *engine) saveService(ctx context.Context) error {
	if err := e.queue.SaveService(ctx, e.service.Now()); err != nil {
		return fmt.Errorf("saving the service clock: %w", err)
	}
	return nil
}

// sweep removes what belongs to no open or lost asset, left by a crash at the wrong
// moment or by a run that was removed. Which assets those are is looked up only
// where something lies there. What the queue does not tell is kept.
func (e *engine) sweep(ctx context.Context) (int, error) {
	return e.volume.Sweep(ctx, func() (map[string]bool, error) { return e.wantedParts(ctx) })
}

// sweepStored removes what a crash at the wrong moment left of stored assets'
// parts. What cannot be removed now is looked at again at the next start.
func (e *engine) sweepStored(_ context.Context, stored []run.Key) { _ = e.volume.RemoveParts(stored) }

// sweepPage is how many records are read at a time.
const sweepPage = 1000

// wantedParts is the hash of each asset whose part may still be of use.
func (e *engine) wantedParts(ctx context.Context) (map[string]bool, error) {
	wanted := map[string]bool{}
	// First: once their run ends, provisional assets are among those below.
	for _, state := range []run.State{run.Waiting, run.Downloading, run.PartialRun, run.FailedRun} {
		if err := e.wantLost(ctx, state, wanted); err != nil {
			return nil, err
		}
	}
	for _, page := range []func(context.Context, string, int) ([]run.Asset, string, error){e.queue.Waiting, e.queue.VerifiedAssets} {
		for cursor := ""; ; {
			assets, next, err := page(ctx, cursor, sweepPage)
			if err != nil {
				return nil, err
			}
			for _, a := range assets {
				wanted[a.Key.Hash()] = true
			}
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	return wanted, nil
}

// wantLost adds the lost assets of runs in a state, as a retry goes on from their
// parts, and the open ones of runs that have not ended, which may be provisional.
func (e *engine) wantLost(ctx context.Context, state run.State, wanted map[string]bool) error {
	for after := run.ID(""); ; {
		runs, err := e.queue.List(ctx, state, after, sweepPage)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			after = r.ID
			if r.Lost == 0 && (r.Ended() || r.Open() == 0) {
				continue
			}
			assets, err := e.queue.Assets(ctx, r.ID)
			if err != nil {
				return err
			}
			for _, a := range assets {
				if a.State == run.AssetLost || a.State.Open() && !r.Ended() {
					wanted[a.Key.Hash()] = true
				}
			}
		}
	}
}

// configure gives the stages the settings that can change while they run.
func (e *engine) configure(c *config.Config) {
	e.api.Configure(apiConfig(c))
	e.poller.Configure(pollConfig(c))
	e.fetcher.Configure(transferConfig(c))
	e.volume.Configure(storageConfig(c))
	e.pool.Configure(poolConfig(c))
}

func apiConfig(c *config.Config) magnific.Config {
	return magnific.Config{
		BaseURL: c.API.BaseURL, RunsPath: c.API.RunsPath, Rate: c.API.Rate, Burst: c.API.Burst,
		Timeout: c.API.Timeout, Proxy: c.API.Proxy,
	}
}

func pollConfig(c *config.Config) poller.Config {
	return poller.Config{
		MinInterval: c.Poll.MinInterval, MaxInterval: c.Poll.MaxInterval,
		GiveUpAfter: c.Poll.GiveUpAfter, NotFoundAfter: c.Poll.NotFoundAfter,
	}
}

func transferConfig(c *config.Config) transfer.Config {
	d := c.Download
	return transfer.Config{
		AllowHTTP: d.AllowHTTP, AllowNetworks: d.AllowNetworks, MaxSize: d.MaxSize, StallTimeout: d.StallTimeout,
		MaxRate: d.MaxRate, UserAgent: d.UserAgent, Proxy: d.ProxyURL(), IdlePerHost: d.Workers + d.Connections, Connections: d.Connections,
	}
}

func storageConfig(c *config.Config) storage.Config {
	s := c.Storage
	return storage.Config{
		Dir: s.Dir, Default: s.Default, Mounted: s.Mounted, RunDir: s.RunDir, FileName: s.FileName,
		MinFree: s.MinFree, FileMode: s.FileMode, DirMode: s.DirMode,
	}
}

// jobs are the ticks of the stages. Each hands out work and returns.
func (e *engine) jobs(log *zap.Logger) []job {
	return []job{
		{"poll", time.Second, func(context.Context) { e.poller.Tick() }},
		{"room", 5 * time.Second, func(context.Context) { e.pool.Wake(); e.volume.Wake(); e.settler.Wake() }},
		{"statistics", saveEvery, func(ctx context.Context) {
			if err := e.saveService(ctx); err != nil && ctx.Err() == nil {
				log.Warn("service clock not saved", zap.Error(err))
			}
		}},
	}
}

// saveEvery is how much of the service clock a crash may cost: less is counted
// against runs then, never more.
const saveEvery = time.Minute
