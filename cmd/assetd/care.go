package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// carer changes runs: the daemon, or the queue itself where none runs.
type carer interface {
	Retry(ctx context.Context, id run.ID) (server.Retried, error)
	Remove(ctx context.Context, id run.ID, force bool) (server.Run, error)
	each(ctx context.Context, f func(server.Run) error) error
}

// withCarer calls do with who can change runs now.
func withCarer(ctx context.Context, c *config.Config, do func(carer) error) error {
	cl := client(c)
	if _, err := cl.Health(ctx, false); !errors.Is(err, server.ErrNoDaemon) {
		if err != nil {
			return err
		}
		return do(asked{cl})
	}
	care, err := daemon.OpenCare(c)
	if daemon.NoQueue(err) {
		return do(nothing{})
	}
	if err != nil {
		return err
	}
	return errors.Join(do(alone{care}), care.Close())
}

// asked is a running daemon.
type asked struct{ *server.Client }

func (a asked) each(ctx context.Context, f func(server.Run) error) error {
	return a.Runs(ctx, server.Filter{}, "", f)
}

// alone is the queue itself.
type alone struct{ care *daemon.Care }

func (a alone) Retry(ctx context.Context, id run.ID) (server.Retried, error) {
	r, err := a.care.Retry(ctx, id)
	return server.ViewRetried(r), err
}

// Remove forgets a run. What it left on the volume and cannot be cleared now is by
// the next daemon.
func (a alone) Remove(ctx context.Context, id run.ID, force bool) (server.Run, error) {
	r, err := a.care.Remove(ctx, id, force)
	if err == nil {
		_ = a.care.Clear(ctx)
	}
	return server.ViewRun(r, nil), err
}

func (a alone) each(ctx context.Context, f func(server.Run) error) error {
	return a.care.Each(ctx, func(r run.Run) error { return f(server.ViewRun(r, nil)) })
}

// nothing is a queue that does not exist: nothing was ever handed in.
type nothing struct{}

func (nothing) Retry(context.Context, run.ID) (server.Retried, error) {
	return server.Retried{}, run.ErrUnknown
}

func (nothing) Remove(context.Context, run.ID, bool) (server.Run, error) {
	return server.Run{}, run.ErrUnknown
}

func (nothing) each(context.Context, func(server.Run) error) error { return nil }

// runIDs is the IDs of the arguments, each once.
func runIDs(args []string) ([]run.ID, error) {
	var ids []run.ID
	seen := map[string]bool{}
	for _, w := range args {
		if !run.ValidID(w) {
			return nil, notAnID(w)
		}
		if !seen[w] {
			seen[w] = true
			ids = append(ids, run.ID(w))
		}
	}
	return ids, nil
}

// notThere is the mistake of a run that the queue does not have.
func notThere(id run.ID) error {
	return fmt.Errorf("run %s is not in the queue: hand it in with assetd add %s", id, id)
}

// atOnce is how many runs are changed at a time, so that they share commits.
const atOnce = 16

// chores does something to many runs. One that fails is told and holds up no other.
type chores struct {
	a     *app
	group *errgroup.Group
	do    func(ctx context.Context, id run.ID) error

	mu    sync.Mutex
	all   int
	first error
	bad   int
}

func (a *app) newChores(do func(ctx context.Context, id run.ID) error) *chores {
	c := &chores{a: a, do: do, group: new(errgroup.Group)}
	c.group.SetLimit(atOnce)
	return c
}

func (c *chores) add(ctx context.Context, id run.ID) {
	c.group.Go(func() error {
		if ctx.Err() != nil {
			return nil
		}
		err := c.do(ctx, id)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all++
		if err == nil {
			return nil
		}
		if c.bad++; c.bad == 1 {
			c.first = err
			return nil
		}
		if c.bad == 2 {
			fmt.Fprintf(c.a.stderr, "assetd: %v\n", c.first)
		}
		fmt.Fprintf(c.a.stderr, "assetd: %v\n", err)
		return nil
	})
}

// wait waits for all, and is the error of the one that failed, or how many did.
func (c *chores) wait(ctx context.Context) error {
	_ = c.group.Wait() // they return nil
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d runs: what was done stands", c.all-c.bad)
	case c.bad > 1:
		return fmt.Errorf("%d of %d runs stay as they are", c.bad, c.all)
	}
	return c.first
}
