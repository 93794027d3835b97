package main

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/run"
)

// runIDs returns the run IDs of the arguments, each once.
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

// notThere is the error for a run that is not in the queue.
func notThere(id run.ID) error {
	return fmt.Errorf("run %s is not in the queue: add it with assetd add %s", id, id)
}

// bulkLimit is how many runs are changed at a time. They share commits.
const bulkLimit = 16

// bulk does something to many runs. A failure is printed and does not hold up the others.
type bulk struct {
	a     *app
	group *errgroup.Group
	do    func(ctx context.Context, id run.ID) error

	mu    sync.Mutex
	all   int   // runs done or failed
	first error // the first failure
	bad   int   // failures
}

func (a *app) newBulk(do func(ctx context.Context, id run.ID) error) *bulk {
	b := &bulk{a: a, do: do, group: new(errgroup.Group)}
	b.group.SetLimit(bulkLimit)
	return b
}

func (b *bulk) add(ctx context.Context, id run.ID) {
	b.group.Go(func() error {
		if ctx.Err() != nil {
			return nil
		}
		err := b.do(ctx, id)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.all++
		if err == nil {
			return nil
		}
		if b.bad++; b.bad == 1 {
			b.first = err
			return nil
		}
		if b.bad == 2 {
			fmt.Fprintf(b.a.stderr, "assetd: %v\n", b.first)
		}
		fmt.Fprintf(b.a.stderr, "assetd: %v\n", err)
		return nil
	})
}

// wait waits for all runs. The error is that of the only one that failed, or how many did.
func (b *bulk) wait(ctx context.Context) error {
	_ = b.group.Wait() // they return nil
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d runs: what was done stays done", b.all-b.bad)
	case b.bad > 1:
		return fmt.Errorf("%d of %d runs stay as they are", b.bad, b.all)
	}
	return b.first
}
