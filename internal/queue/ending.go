package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Ready returns up to limit runs that wait for nothing but their manifest: ended,
// no asset open, not settled.
func (q *Queue) Ready(ctx context.Context, limit int) (ids []run.ID, err error) {
	err = q.view(ctx, func(t *txn) error {
		c := t.tx.Cursor(bReady)
		for k, _ := c.First(); k != nil && len(ids) < limit; k, _ = c.Next() {
			ids = append(ids, run.ID(k))
		}
		return nil
	})
	return ids, err
}

// Settle ends runs whose manifests stand, has others told in the same transaction,
// and removes their answers. A run that
// is no longer ready (an asset went back to waiting) is left as it is, and named
// in the error with run.ErrStale, once for each; the others are settled all the
// same. One that is settled already is left alone.
func (q *Queue) Settle(ctx context.Context, done []run.Settlement) error {
	var refused []error
	var settled []run.ID
	err := q.update(ctx, len(done), func(t *txn) error {
		for _, s := range done {
			e, err := t.edit(s.Run)
			switch {
			case errors.Is(err, run.ErrUnknown):
				refused = append(refused, err)
				continue
			case err != nil:
				return err
			case e.rec.State.Settled():
				settled = append(settled, s.Run)
				continue
			case !e.rec.ready() || !s.Outcome.State().Settled():
				refused = append(refused, fmt.Errorf("run %q: %w: not to be settled as %q, it is %s with %d assets open",
					s.Run, run.ErrStale, s.Outcome, e.rec.State, e.rec.Open()))
				continue
			}
			e.rec.State, e.rec.Outcome = s.Outcome.State(), s.Outcome
			e.rec.Revision, e.rec.SettledAt = s.Revision, s.At
			if err := e.save(); err != nil {
				return err
			}
			if err := t.post(q.told(), settledNotice(&e.rec)); err != nil {
				return err
			}
			settled = append(settled, s.Run)
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.answers.Remove(settled...)
	return errors.Join(refused...)
}

// Retry sets a settled run back to waiting, due at once: what was lost or marked
// as damaged is waiting again, all counts start anew, and the run's end is what
// the next terminal answer says. Its directory, labels, revision and what is
// stored stay. aside is where damaged files were put, below storage.dir.
// run.ErrOpenRun where the run is not settled.
func (q *Queue) Retry(ctx context.Context, id run.ID, aside map[run.Key]string) error {
	now := q.now()
	return q.update(ctx, 1, func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if !e.rec.State.Settled() {
			return fmt.Errorf("run %q: %w: it is tried as it is", id, run.ErrOpenRun)
		}
		r := &e.rec
		r.State, r.Polls, r.due = run.Waiting, run.Polls{}, millis(now)
		r.EndedAt, r.EndedService, r.GaveUp = time.Time{}, 0, ""
		r.Status, r.CompletedAt, r.ErrorMessage = "", "", ""
		r.Outcome, r.SettledAt, r.BadRecord, r.Ignored = "", time.Time{}, "", 0
		all, err := t.assets(id)
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.State != run.AssetLost && !a.Marked {
				continue
			}
			again := a.Again()
			if file := aside[a.Key]; file != "" {
				again.Quarantine = file
			}
			if err := e.put(&a, &again); err != nil {
				return err
			}
		}
		return e.save()
	})
}

// Remove forgets a run and its assets; files in the volume stay. What else lies
// there of them is noted to be cleared (Leftovers), and the run is not taken in
// again from a file that was read before (run.HandIn). run.ErrOpenRun where the run
// is not settled and force is false.
func (q *Queue) Remove(ctx context.Context, id run.ID, force bool) error {
	now := q.now()
	err := q.update(ctx, 1, func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if !e.rec.State.Settled() && !force {
			return fmt.Errorf("run %q: %w", id, run.ErrOpenRun)
		}
		if err := t.noteRemoved(id, now); err != nil {
			return err
		}
		return e.remove()
	})
	if err != nil {
		return err
	}
	q.answers.Remove(id)
	return nil
}
