package main

import (
	"context"
	"errors"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/admin"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// verifyBackend is the backend of verify: the daemon, or the queue file while no daemon
// runs. The choice is made at each call, and the queue file is open for a moment at a time:
// a daemon may start while files are read.
type verifyBackend struct {
	cfg    *config.Config
	client *server.Client
}

// A page has up to pageRuns runs, and ends once it has pageAssets assets.
const (
	pageRuns   = 1000
	pageAssets = 20_000
)

// withQueue calls do with the queue, or with nil if there is none yet.
func (b verifyBackend) withQueue(do func(*queue.Queue) error) error {
	q, err := openQueue(b.cfg)
	if err != nil {
		return err
	}
	if q == nil {
		return do(nil)
	}
	return errors.Join(do(q), q.Close())
}

// volume returns where runs are stored; its Queue is empty if nothing ever was.
func (b verifyBackend) volume(ctx context.Context) (server.Volume, error) {
	v, err := b.client.Volume(ctx)
	if !errors.Is(err, server.ErrNoDaemon) {
		return v, err
	}
	v = server.Volume{Dir: b.cfg.Storage.Dir, Mounted: b.cfg.Storage.Mounted}
	return v, b.withQueue(func(q *queue.Queue) error {
		if q != nil {
			v.Queue = q.ID()
		}
		return nil
	})
}

// page returns settled runs with their assets, and the last run that was read: the next
// page comes after it. last is empty at the end.
func (b verifyBackend) page(ctx context.Context, after run.ID) (runs []server.Run, last run.ID, err error) {
	runs, last, err = b.remotePage(ctx, after)
	if !errors.Is(err, server.ErrNoDaemon) {
		return runs, last, err
	}
	last = ""
	runs = nil
	err = b.withQueue(func(q *queue.Queue) error {
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

func (b verifyBackend) remotePage(ctx context.Context, after run.ID) (runs []server.Run, last run.ID, err error) {
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

// Run returns one run with its assets.
func (b verifyBackend) Run(ctx context.Context, id run.ID) (server.Run, error) {
	return oneRun(ctx, b.cfg, id)
}

// Mark records findings about a run.
func (b verifyBackend) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	err := b.client.Mark(ctx, id, revision, found)
	if !errors.Is(err, server.ErrNoDaemon) {
		return err
	}
	ops, err := admin.Open(b.cfg)
	if err != nil {
		return err
	}
	return errors.Join(ops.Mark(ctx, id, revision, found), ops.Close())
}
