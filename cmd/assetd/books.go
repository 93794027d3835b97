package main

import (
	"context"
	"errors"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// books are the runs as the daemon has them, or the queue itself where none runs.
// The queue is open for a moment at a time: a daemon may start meanwhile, and is
// asked from then on.
type books struct {
	cfg    *config.Config
	client *server.Client
}

// What is read at a time: runs, and of these no more than have so many assets.
const (
	pageRuns   = 1000
	pageAssets = 20_000
)

// opened calls do with the queue, nil where there is none yet.
func (b books) opened(do func(*queue.Queue) error) error {
	q, err := openQueue(b.cfg)
	if err != nil {
		return err
	}
	if q == nil {
		return do(nil)
	}
	return errors.Join(do(q), q.Close())
}

// volume is where runs are stored; its queue is empty where nothing ever was.
func (b books) volume(ctx context.Context) (server.Volume, error) {
	v, err := b.client.Volume(ctx)
	if !errors.Is(err, server.ErrNoDaemon) {
		return v, err
	}
	v = server.Volume{Dir: b.cfg.Storage.Dir, Mounted: b.cfg.Storage.Mounted}
	return v, b.opened(func(q *queue.Queue) error {
		if q != nil {
			v.Queue = q.ID()
		}
		return nil
	})
}

// page is settled runs with their assets, and the last run that was looked at: the
// next page comes after that. It is empty at the end.
func (b books) page(ctx context.Context, after run.ID) (runs []server.Run, last run.ID, err error) {
	runs, last, err = b.pageOfDaemon(ctx, after)
	if !errors.Is(err, server.ErrNoDaemon) {
		return runs, last, err
	}
	last = ""
	runs = nil
	err = b.opened(func(q *queue.Queue) error {
		if q == nil {
			return nil
		}
		listed, err := q.List(ctx, "", after, pageRuns)
		assets := 0
		for _, r := range listed {
			if assets >= pageAssets {
				break
			}
			if last = r.ID; !r.State.Settled() {
				continue
			}
			all, err := q.Assets(ctx, r.ID)
			if err != nil {
				return err
			}
			assets += len(all)
			runs = append(runs, server.ViewRun(r, all))
		}
		return err
	})
	return runs, last, err
}

func (b books) pageOfDaemon(ctx context.Context, after run.ID) (runs []server.Run, last run.ID, err error) {
	var listed []server.Run
	err = b.client.Runs(ctx, server.Filter{}, after, func(r server.Run) error {
		listed = append(listed, r)
		if len(listed) == pageRuns {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", err
	}
	assets := 0
	for _, r := range listed {
		if assets >= pageAssets {
			break
		}
		if last = r.RunID; !r.State.Settled() {
			continue
		}
		full, err := b.client.Run(ctx, r.RunID)
		if errors.Is(err, run.ErrUnknown) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, "", err
		}
		if assets += len(full.AssetList); full.State.Settled() {
			runs = append(runs, full)
		}
	}
	return runs, last, nil
}

// Run is one run with its assets.
func (b books) Run(ctx context.Context, id run.ID) (server.Run, error) { return oneRun(ctx, b.cfg, id) }

// Mark records what was found.
func (b books) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	err := b.client.Mark(ctx, id, revision, found)
	if !errors.Is(err, server.ErrNoDaemon) {
		return err
	}
	care, err := daemon.OpenCare(b.cfg)
	if err != nil {
		return err
	}
	return errors.Join(care.Mark(ctx, id, revision, found), care.Close())
}
