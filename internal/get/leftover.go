package get

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/admin"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// makeDue makes the given runs due at once, also those that an earlier call left: somebody
// waits. A settled one is retried if something of it is missing.
func (g *getter) makeDue(ctx context.Context) error {
	ops := admin.New(admin.Deps{Queue: g.queue, Volume: g.pipeline.Volume, Emit: g.note})
	for _, h := range g.IDs {
		done, err := ops.Retry(ctx, h.ID) // does nothing to one that is open
		if err == nil && !done.Run.State.Settled() {
			err = g.queue.Reschedule(ctx, h.ID, time.Now())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// park stops the polls of the other open runs, and returns these.
func (g *getter) park(ctx context.Context) (left []run.ID, err error) {
	left, err = openRuns(ctx, g.queue)
	if err != nil {
		return nil, err
	}
	left = slices.DeleteFunc(left, func(id run.ID) bool { return g.mine[id] })
	for _, id := range left {
		if err := g.queue.Reschedule(ctx, id, time.Time{}); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// openRuns returns the runs that are not settled, in the order of their IDs.
func openRuns(ctx context.Context, q *queue.Queue) (ids []run.ID, err error) {
	for after := run.ID(""); ; {
		runs, err := q.List(ctx, "", after, 1000)
		if err != nil || len(runs) == 0 {
			return ids, err
		}
		for _, r := range runs {
			if after = r.ID; !r.State.Settled() {
				ids = append(ids, r.ID)
			}
		}
	}
}

// firstIDs names the first ten runs.
func firstIDs(ids []run.ID) string {
	const most = 10
	var names []string
	for _, id := range ids[:min(len(ids), most)] {
		names = append(names, string(id))
	}
	text := strings.Join(names, " ")
	if more := len(ids) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Forget drops runs that an earlier call left below storage.dir, with their parts; stored
// files stay. It returns the open runs that are left after that. If one of ids does not
// exist none is dropped.
func Forget(ctx context.Context, c *config.Config, ids []run.ID) (left []run.ID, err error) {
	output := c.Storage.Dir
	if !anyQueue(queueDirs(c, output)) {
		return nil, fmt.Errorf("nothing is left of an earlier call in %s", output)
	}
	state, q, err := openQueue(c, output)
	if err != nil {
		return nil, err
	}
	left, err = forget(ctx, c, q, ids)
	if err = errors.Join(err, q.Close()); err == nil && len(left) == 0 {
		err = removeQueue(output, state)
	}
	return left, err
}

func anyQueue(states []string) bool {
	return slices.ContainsFunc(states, func(dir string) bool {
		_, err := os.Lstat(filepath.Join(dir, "queue.db"))
		return err == nil || !errors.Is(err, fs.ErrNotExist)
	})
}

func forget(ctx context.Context, c *config.Config, q *queue.Queue, ids []run.ID) ([]run.ID, error) {
	left, err := openRuns(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := q.Get(ctx, id); errors.Is(err, run.ErrUnknown) {
			return left, fmt.Errorf("run %s is not among what earlier calls left in %s (%s): nothing was forgotten", id, c.Storage.Dir, orNothing(firstIDs(left)))
		} else if err != nil {
			return left, err
		}
	}
	v, err := admin.OpenVolume(c, q)
	if err != nil {
		return left, err
	}
	ops := admin.New(admin.Deps{Queue: q, Volume: v})
	for _, id := range ids {
		if _, err := ops.Remove(ctx, id, true); err != nil {
			return left, err
		}
		left = slices.DeleteFunc(left, func(other run.ID) bool { return other == id })
	}
	return left, ops.Clear(ctx)
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}
