package daemon

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

// named is the queue as the stages of Get see it: work for the runs that were asked for
// alone. A 404 counts from the first call on, as somebody waits for the answer; and the
// API's word about a run is reported.
type named struct {
	*queue.Queue
	ids    map[run.ID]bool // read only
	stands func(run.Run)
	gone   *missing
}

// Proven reports true: see named.
func (named) Proven(string) (bool, error) { return true, nil }

// Answered records an answer and reports it.
func (n named) Answered(ctx context.Context, id run.ID, v run.Verdict) (run.Change, error) {
	n.gone.judge(id, &v, time.Now())
	change, err := n.Queue.Answered(ctx, id, v)
	if err == nil && v.Answer != nil {
		n.stands(change.Run)
	}
	return change, err
}

// Waiting is a page of waiting assets. It may be empty before the end.
func (n named) Waiting(ctx context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	page, next, err := n.Queue.Waiting(ctx, cursor, limit)
	return n.among(page), next, err
}

// VerifiedAssets is a page of assets that are verified and not stored. It may be empty
// before the end.
func (n named) VerifiedAssets(ctx context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	page, next, err := n.Queue.VerifiedAssets(ctx, cursor, limit)
	return n.among(page), next, err
}

func (n named) among(page []run.Asset) []run.Asset {
	return slices.DeleteFunc(page, func(a run.Asset) bool { return !n.ids[a.Key.Run] })
}

// Ready is up to limit runs that wait for nothing but their manifest.
func (n named) Ready(ctx context.Context, limit int) ([]run.ID, error) {
	for most := limit; ; most *= 2 {
		ids, err := n.Queue.Ready(ctx, most)
		all := len(ids) < most
		ids = slices.DeleteFunc(ids, func(id run.ID) bool { return !n.ids[id] })
		if err != nil || all || len(ids) >= limit {
			return ids[:min(len(ids), limit)], err
		}
	}
}

// begin has the runs asked for polled at once, also those that an earlier call left:
// somebody waits. A settled one is tried again where something of it is missing.
func (g *getter) begin(ctx context.Context) error {
	ops := admin.New(admin.Deps{Queue: g.queue, Volume: g.pipeline.Volume, Emit: g.tell})
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

// park has the open runs that were not asked for not polled, and returns them.
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

// openRuns are the runs that are not settled, in the order of their IDs.
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

// firstIDs names runs, the first ten of many.
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

// ForgetLeft drops runs that an earlier call of Get left below storage.dir, with their
// parts; what is stored stays. It returns the open runs that are left after that. Either
// all of ids are dropped or, where one is not there, none is.
func ForgetLeft(ctx context.Context, c *config.Config, ids []run.ID) (left []run.ID, err error) {
	output := c.Storage.Dir
	if !anyQueue(getStates(c, output)) {
		return nil, fmt.Errorf("nothing is left of an earlier call in %s", output)
	}
	state, q, err := openGetQueue(c, output)
	if err != nil {
		return nil, err
	}
	left, err = forget(ctx, c, q, ids)
	if err = errors.Join(err, q.Close()); err == nil && len(left) == 0 {
		err = removeGet(output, state)
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
