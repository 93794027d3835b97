package queue

import (
	"context"
	"errors"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// What one step of retention takes at most: it shares a commit with what others
// wait for.
const (
	expireRuns   = 100
	expireAssets = 2000
	expireLook   = 5000 // entries of the history looked at
)

// Expired are settled runs that may leave the history: settled before the given
// time, by the local clock of then and by the API's. At most some hundred are
// given; there may be more.
func (q *Queue) Expired(ctx context.Context, before time.Time) (ids []run.ID, err error) {
	err = q.view(ctx, func(t *txn) error {
		assets, seen := 0, 0
		c := t.tx.Cursor(bHistory)
		for k, _ := c.First(); k != nil && len(ids) < expireRuns && assets < expireAssets && seen < expireLook; k, _ = c.Next() {
			ms, id, ok := untimed(k)
			if !ok {
				return broken("history entry", k, errCodec)
			}
			if !at(ms).Before(before) {
				return nil
			}
			seen++
			r, err := t.run(run.ID(id))
			if err != nil {
				return err
			}
			if past(&r, before) {
				ids, assets = append(ids, r.ID), assets+r.Assets
			}
		}
		return nil
	})
	return ids, err
}

// past reports whether a run is history, and old. The local clock may have been
// wrong when it settled: the API's time of its end has to be as old.
func past(r *record, before time.Time) bool {
	return r.State.Settled() && r.SettledAt.Before(before) && r.EndedAt.Before(before)
}

// Expire forgets runs that Expired gave, and says how many; one that was retried
// meanwhile stays. Files in the volume stay.
func (q *Queue) Expire(ctx context.Context, ids []run.ID, before time.Time) (n int, err error) {
	var gone []run.ID
	err = q.update(ctx, expireRuns+expireAssets, func(t *txn) error {
		gone = gone[:0]
		for _, id := range ids {
			e, err := t.edit(id)
			if errors.Is(err, run.ErrUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			if !past(e.was, before) {
				continue
			}
			if err := e.remove(); err != nil {
				return err
			}
			gone = append(gone, id)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	q.answers.Remove(gone...)
	return len(gone), nil
}

// remove takes the run out of the queue, with its assets. What may lie on the
// volume of them beside their files is noted (Leftovers).
func (e *edit) remove() error {
	id := e.was.ID
	all, err := e.t.assets(id)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := errors.Join(e.t.leave(a), e.forget(&a)); err != nil {
			return err
		}
	}
	if err := e.t.reindexRun(e.was, nil); err != nil {
		return err
	}
	return e.t.del(bRuns, []byte(id))
}
