package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/admin"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// backend changes runs: the daemon, or the queue file while no daemon runs.
type backend interface {
	Retry(ctx context.Context, id run.ID) (server.Retried, error)
	Remove(ctx context.Context, id run.ID, force bool) (server.Run, error)
	each(ctx context.Context, f func(server.Run) error) error
}

// withBackend calls do with the backend of this moment.
func withBackend(ctx context.Context, c *config.Config, do func(backend) error) error {
	cl := client(c)
	if _, err := cl.Health(ctx, false); !errors.Is(err, server.ErrNoDaemon) {
		if err != nil {
			return err
		}
		return do(remoteBackend{cl})
	}
	ops, err := admin.Open(c)
	if errors.Is(err, fs.ErrNotExist) {
		return do(emptyBackend{})
	}
	if err != nil {
		return err
	}
	return errors.Join(do(localBackend{ops}), ops.Close())
}

// remoteBackend is a running daemon.
type remoteBackend struct{ *server.Client }

func (b remoteBackend) each(ctx context.Context, f func(server.Run) error) error {
	return b.Runs(ctx, server.Filter{}, "", f)
}

// localBackend is the queue file.
type localBackend struct{ ops *admin.Admin }

func (b localBackend) Retry(ctx context.Context, id run.ID) (server.Retried, error) {
	r, err := b.ops.Retry(ctx, id)
	return server.ViewRetried(r), err
}

// Remove removes a run. The next daemon clears what it left on the volume and cannot be
// cleared now.
func (b localBackend) Remove(ctx context.Context, id run.ID, force bool) (server.Run, error) {
	r, err := b.ops.Remove(ctx, id, force)
	if err == nil {
		_ = b.ops.Clear(ctx)
	}
	return server.ViewRun(r, nil), err
}

func (b localBackend) each(ctx context.Context, f func(server.Run) error) error {
	return b.ops.Each(ctx, func(r run.Run) error { return f(server.ViewRun(r, nil)) })
}

// emptyBackend is a queue that does not exist yet: nothing was ever added.
type emptyBackend struct{}

func (emptyBackend) Retry(context.Context, run.ID) (server.Retried, error) {
	return server.Retried{}, run.ErrUnknown
}

func (emptyBackend) Remove(context.Context, run.ID, bool) (server.Run, error) {
	return server.Run{}, run.ErrUnknown
}

func (emptyBackend) each(context.Context, func(server.Run) error) error { return nil }

// oneRun returns a run with its assets, from the daemon, or from the queue file while no
// daemon runs.
func oneRun(ctx context.Context, c *config.Config, id run.ID) (server.Run, error) {
	r, err := client(c).Run(ctx, id)
	if !errors.Is(err, server.ErrNoDaemon) {
		return r, err
	}
	q, err := openQueue(c)
	if err != nil {
		return server.Run{}, err
	}
	if q == nil {
		return server.Run{}, run.ErrUnknown
	}
	defer q.Close()
	record, err := q.Get(ctx, id)
	if err != nil {
		return server.Run{}, err
	}
	assets, err := q.Assets(ctx, id)
	return withoutDaemon(server.ViewRun(record, assets)), err
}

// eachRun calls f with each run that passes the filter and whose ID is greater than after.
// The runs come from the daemon, or from the queue file while no daemon runs.
func eachRun(ctx context.Context, c *config.Config, filter server.Filter, after run.ID, f func(server.Run) error) error {
	err := client(c).Runs(ctx, filter, after, f)
	if !errors.Is(err, server.ErrNoDaemon) {
		return err
	}
	if filter.AtRisk {
		return fmt.Errorf("%w on %s, and it alone knows what is at risk: start it with assetd run", server.ErrNoDaemon, c.State.Dir)
	}
	q, err := openQueue(c)
	if q == nil {
		return err
	}
	defer q.Close()
	for {
		runs, err := q.List(ctx, filter.State(), after, 1000)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			after = r.ID
			if !filter.Match(r) {
				continue
			}
			v, err := server.Summary(ctx, q, r)
			if err != nil {
				return err
			}
			if err := f(withoutDaemon(v)); err != nil {
				return err
			}
		}
	}
}

// withoutDaemon returns the run as it is while no daemon runs.
func withoutDaemon(v server.Run) server.Run {
	if !v.State.Settled() {
		v.HeldUp = []string{server.ErrNoDaemon.Error() + ": start it with assetd run"}
	}
	return v
}

// openQueue opens the queue file for reading while no daemon runs. Both results are nil
// where there is no queue yet: then nothing was ever added.
func openQueue(c *config.Config) (*queue.Queue, error) {
	q, err := queue.Open(c.State.Dir, queue.Options{ReadOnly: true})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: ask as root or as a member of the daemon's group", err)
	default:
		return q, err
	}
}

// noteNoQueue says where no queue was found: otherwise an empty answer looks the same as
// that of a configuration which is not the daemon's.
func (a *app) noteNoQueue(c *config.Config) {
	if _, err := os.Stat(boltkv.Path(c.State.Dir)); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(a.stderr, "assetd: there is no queue in %s yet: nothing was added there, or the daemon has another state.dir (assetd config prints where this one comes from)\n", c.State.Dir)
	}
}
