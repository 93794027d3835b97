package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Mark records what verify found of stored files of a settled run whose manifest
// has that revision: a damaged or missing one is marked, with the reason as its
// last error, until a retry fetches it anew; of a whole one the mark is taken
// back. So it is with the run's own record, which a retry writes anew. All or nothing: run.ErrStale where the run is not settled or was settled
// anew since, and where an asset is not stored; run.ErrUnknown.
func (q *Queue) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	return q.update(ctx, len(found), func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if r := e.rec; !r.State.Settled() || r.Revision != revision {
			return fmt.Errorf("run %q: %w: it is %s with revision %d, revision %d was verified", id, run.ErrStale, r.State, r.Revision, revision)
		}
		for _, f := range found {
			if f.Key.Run != id {
				return fmt.Errorf("asset %q is not of run %q", f.Key, id)
			}
			if f.Record() {
				e.rec.BadRecord = f.Damage
			} else if err := e.mark(f); err != nil {
				return err
			}
		}
		return e.save()
	})
}

// mark changes nothing of a stored asset that an index or another count follows
// from: so it may be done in a settled run, too.
func (e *edit) mark(f run.Finding) error {
	was, err := e.t.asset(f.Key)
	if err != nil {
		return err
	}
	if was.State != run.AssetStored {
		return stale(was)
	}
	is := was
	is.Marked = f.Damage != ""
	if is.Marked || was.Marked {
		is.LastError = f.Damage
	}
	cleanAsset(&is, &was)
	e.tally(&was, -1)
	e.tally(&is, +1)
	return e.t.put(bAssets, assetKey(is.Key), encodeAsset(&is))
}

// removedFor is how long it is remembered that a run was removed: longer than
// files that were taken are usually kept (drop.keep).
const removedFor = 30 * 24 * time.Hour

// removedStep is how many older notes a new one is held against, so that they do
// not pile up.
const removedStep = 8

// noteRemoved notes that a run was removed, and forgets some of what was long ago.
func (t *txn) noteRemoved(id run.ID, now time.Time) error {
	own := []byte(keyRemoved + id)
	var old [][]byte
	c := t.tx.Cursor(bMeta)
	seen := 0
	for k, v := c.Seek(own); bytes.HasPrefix(k, []byte(keyRemoved)) && seen < removedStep; k, v = c.Next() {
		seen++
		at, err := decodeService(v)
		if err != nil {
			return broken("removed run", k, err)
		}
		if now.Sub(time.Unix(0, int64(at))) > removedFor {
			old = append(old, bytes.Clone(k))
		}
	}
	for _, k := range old {
		if err := t.del(bMeta, k); err != nil {
			return err
		}
	}
	return t.put(bMeta, own, encodeService(time.Duration(now.UnixNano())))
}

// handedIn reports whether an unknown run is to be left out: it was removed, and
// nobody has handed it in since. One that is handed in is no longer removed.
func (t *txn) handedIn(h run.HandIn) (skip bool, err error) {
	key := []byte(keyRemoved + h.ID)
	if h.Again {
		return t.get(bMeta, key) != nil, nil
	}
	return false, t.del(bMeta, key)
}

// leave notes what may still lie on the volume of an asset that is forgotten.
func (t *txn) leave(a run.Asset) error {
	if a.State == run.AssetStored && a.Quarantine == "" {
		return nil
	}
	return t.put(bMeta, []byte(keyClear+a.Key.Hash()), assetKey(a.Key))
}

// Leftovers returns up to limit assets of removed runs, by run.Key.Hash, whose
// parts and copies in quarantine are still to be cleared from the volume. One that
// has been handed in anew is not among them.
func (q *Queue) Leftovers(ctx context.Context, limit int) (hashes []string, err error) {
	err = q.view(ctx, func(t *txn) error {
		c := t.tx.Cursor(bMeta)
		for k, v := c.Seek([]byte(keyClear)); bytes.HasPrefix(k, []byte(keyClear)) && len(hashes) < limit; k, v = c.Next() {
			if t.get(bAssets, v) == nil {
				hashes = append(hashes, string(k[len(keyClear):]))
			}
		}
		return nil
	})
	return hashes, err
}

// Cleared notes that nothing of these lies on the volume any more.
func (q *Queue) Cleared(ctx context.Context, hashes []string) error {
	return q.update(ctx, len(hashes), func(t *txn) error {
		var failed error
		for _, hash := range hashes {
			failed = errors.Join(failed, t.del(bMeta, []byte(keyClear+hash)))
		}
		return failed
	})
}
