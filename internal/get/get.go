// Package get fetches runs in the foreground, for assetd get: it runs the pipeline over a
// queue of its own next to the output, until the given runs are settled.
//
// What a call did not finish is kept for the next one; once nothing is open, nothing but
// the files is left. A volume that belongs to a daemon is refused.
package get

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/schedule"
)

// Options say what to fetch, and who shows it. All of it is required.
type Options struct {
	Config   *config.Config // storage.dir is the output directory
	Key      string
	IDs      []run.HandIn
	Log      *zap.Logger               // takes what people need not see
	Tell     run.Tell                  // takes what people see
	Progress func([]download.Transfer) // called twice per second with the running transfers
	Pulse    func([]run.Run)           // called every minute with the given runs
	Waits    func([]Wait)              // called every ten seconds with what they wait for, if anything
}

// ErrKeyRefused means that the API did not accept the key.
var ErrKeyRefused = errors.New("the API does not accept the key")

const (
	// notFoundAfter is how long the API is asked for a run that it does not know: a person
	// waits, and a mistyped ID never appears.
	notFoundAfter = 30 * time.Second
	// closeTimeout bounds what is read from the queue after ctx has ended.
	closeTimeout = 2 * time.Second
)

// Run fetches runs until all of them are settled, and returns them. It resumes what an
// earlier call left of them; other runs that an earlier call left are reported and not
// fetched. Queue and marker are removed once nothing is open in them. If ctx ends first,
// what is not done is kept for the next call, and the error is ctx's cause.
func Run(ctx context.Context, o Options) ([]run.Run, error) {
	g, err := open(o)
	if err != nil {
		return nil, err
	}
	runs, settled, err := g.run(ctx)
	err = errors.Join(err, g.queue.Close())
	if err == nil && settled {
		if err = removeQueue(o.Config.Storage.Dir, g.state); err != nil {
			err = fmt.Errorf("all is settled, but the queue of this call could not be removed (the next call tries again): %w", err)
		}
	}
	return runs, err
}

// getter is one call of Run.
type getter struct {
	Options
	mine     map[run.ID]bool // the given runs; read only
	cfg      config.Config   // as this call works with it
	state    string
	queue    *queue.Queue
	pipeline *pipeline.Pipeline
	health   *health.Monitor
	cancel   context.CancelCauseFunc

	reasons reasons

	mu      sync.Mutex
	settled chan struct{}     // closed and replaced at each settled run
	status  map[run.ID]string // the API's, as reported last
	key     keyCheck
}

func open(o Options) (*getter, error) {
	output := o.Config.Storage.Dir
	if _, err := durable.MkdirAll(output, 0o755); err != nil {
		return nil, fmt.Errorf("output directory %s: %w", output, err)
	}
	g := &getter{Options: o, mine: map[run.ID]bool{}, settled: make(chan struct{}), status: map[run.ID]string{}}
	g.key.runs = make(map[run.ID]bool, len(o.IDs))
	for _, h := range o.IDs {
		g.key.runs[h.ID], g.mine[h.ID] = false, true
	}
	var err error
	if g.state, g.queue, err = openQueue(o.Config, output); err != nil {
		return nil, err
	}
	g.health = health.New(g.queue)
	g.reasons = reasons{assets: map[run.Key]string{}, hosts: map[string]string{}}
	g.cfg = *o.Config
	g.cfg.Poll.NotFoundAfter = min(g.cfg.Poll.NotFoundAfter, notFoundAfter)
	if g.pipeline, err = pipeline.New(&g.cfg, o.Key, g.queue, view{g.queue, g.mine, g.reportStatus, newMissing(g.cfg.Poll.NotFoundAfter)}, pipeline.Observers{}, g.note); err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	return g, nil
}

// run fetches the given runs, and reports whether nothing is open any more.
func (g *getter) run(ctx context.Context) (runs []run.Run, settled bool, err error) {
	ctx, g.cancel = context.WithCancelCause(ctx)
	defer g.cancel(nil)
	if err := g.pipeline.Volume.Check(); err != nil { // it takes the volume into use
		return nil, false, err
	}
	if _, err := g.queue.Add(ctx, g.IDs); err != nil {
		return nil, false, err
	}
	if err := g.makeDue(ctx); err != nil {
		return nil, false, err
	}
	left, err := g.park(ctx)
	if err != nil {
		return nil, false, err
	}
	if runs, err = g.runs(ctx); err != nil {
		return nil, false, err
	}
	for _, r := range runs {
		g.reportStatus(r)
	}
	if len(left) > 0 {
		g.Tell(run.Event{Kind: Leftover, Count: len(left), Note: firstIDs(left)})
	}
	if _, err := g.pipeline.Sweep(ctx); err != nil {
		g.Log.Warn("parts that nobody needs could not be removed", zap.Error(err))
	}
	ticks, err := schedule.Start(g.pipeline.Jobs(g.Log), g.Log)
	if err != nil {
		return nil, false, err
	}
	err = g.work(ctx)
	err = errors.Join(err, ticks.Close())
	g.pipeline.Close()
	// The context may have ended, but the queue still has the answer.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	counts, countErr := g.queue.Counts(late)
	runs, listErr := g.runs(late)
	open := counts.Runs[run.Waiting] + counts.Runs[run.Downloading]
	return runs, open == 0, errors.Join(err, countErr, listErr)
}

// work runs the stages until the given runs are settled, or ctx ends.
func (g *getter) work(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	group.Go(func() error { return g.pipeline.Run(working, working) })
	group.Go(func() error {
		defer stop()
		return g.wait(working)
	})
	group.Go(func() error { g.watch(working); return nil })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx) // nil if it has not ended
}

// wait returns when all given runs are settled, or ctx ends.
func (g *getter) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		changed := g.settled
		g.mu.Unlock()
		runs, err := g.runs(ctx)
		if err != nil {
			return err
		}
		settled := 0
		for _, r := range runs {
			if r.State.Settled() {
				settled++
			}
		}
		if settled == len(runs) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// runs returns the given runs as they are in the queue.
func (g *getter) runs(ctx context.Context) ([]run.Run, error) {
	runs := make([]run.Run, 0, len(g.IDs))
	for _, h := range g.IDs {
		r, err := g.queue.Get(ctx, h.ID)
		if errors.Is(err, run.ErrUnknown) {
			continue // stopped before it was added
		}
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}
