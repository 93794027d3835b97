package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// Asset returns an asset; run.ErrUnknown where there is none.
func (q *Queue) Asset(ctx context.Context, key run.Key) (a run.Asset, err error) {
	err = q.view(ctx, func(t *txn) error {
		a, err = t.asset(key)
		return err
	})
	return a, err
}

// Assets returns all assets of a run by kind, index and id; run.ErrUnknown where
// there is no such run.
func (q *Queue) Assets(ctx context.Context, id run.ID) (all []run.Asset, err error) {
	err = q.view(ctx, func(t *txn) error {
		if _, err := t.run(id); err != nil {
			return err
		}
		all, err = t.assets(id)
		return err
	})
	slices.SortFunc(all, byIndex)
	return all, err
}

// Waiting returns up to limit waiting assets of all runs, those whose URL dies
// first before the others, an unknown death by first sight. cursor is empty at
// first and what the last call returned as next after that; an empty next is the
// end. What changes between two calls may be missed or come twice: whoever
// changes it tells.
func (q *Queue) Waiting(ctx context.Context, cursor string, limit int) (page []run.Asset, next string, err error) {
	return q.page(ctx, bDeadline, cursor, limit, func(key []byte) []byte {
		_, asset, _ := untimed(key)
		return asset
	})
}

// VerifiedAssets returns those that are verified but not stored, in the order of
// their keys, in pages like Waiting's.
func (q *Queue) VerifiedAssets(ctx context.Context, cursor string, limit int) (page []run.Asset, next string, err error) {
	return q.page(ctx, bVerified, cursor, limit, func(key []byte) []byte { return key })
}

func (q *Queue) page(ctx context.Context, index kv.Bucket, cursor string, limit int, assetOf func([]byte) []byte) (page []run.Asset, next string, err error) {
	err = q.view(ctx, func(t *txn) error {
		c := t.tx.Cursor(index)
		for k, _ := c.Seek([]byte(cursor)); k != nil; k, _ = c.Next() {
			if len(page) >= limit {
				next = string(k)
				return nil
			}
			asset := assetOf(k)
			a, err := decodeAsset(asset, t.get(bAssets, asset))
			if err != nil {
				return err
			}
			page = append(page, a)
		}
		return nil
	})
	return page, next, err
}

// edits are the runs that one operation on many assets changes.
type edits struct {
	t    *txn
	byID map[run.ID]*edit
}

// find reads an asset and the run it belongs to.
func (s *edits) find(key run.Key) (*edit, run.Asset, error) {
	a, err := s.t.asset(key)
	if err != nil {
		return nil, a, err
	}
	e := s.byID[key.Run]
	if e == nil {
		if e, err = s.t.edit(key.Run); err != nil {
			return nil, a, err
		}
		s.byID[key.Run] = e
	}
	return e, a, nil
}

// save saves the runs, and returns those that are ready to settle.
func (s *edits) save() (ready []run.ID, err error) {
	for id, e := range s.byID {
		if err := e.save(); err != nil {
			return nil, err
		}
		if e.rec.ready() {
			ready = append(ready, id)
		}
	}
	slices.Sort(ready)
	return ready, nil
}

func (q *Queue) updateAssets(ctx context.Context, weight int, change func(*edits) error) (ready []run.ID, err error) {
	err = q.update(ctx, weight, func(t *txn) error {
		s := &edits{t: t, byID: make(map[run.ID]*edit)}
		if err := change(s); err != nil {
			return err
		}
		ready, err = s.save()
		return err
	})
	if err != nil {
		return nil, err
	}
	return ready, nil
}

// updateAsset changes one asset.
func (q *Queue) updateAsset(ctx context.Context, key run.Key, change func(run.Asset) (run.Asset, error)) (is run.Asset, ready bool, err error) {
	done, err := q.updateAssets(ctx, 1, func(s *edits) error {
		e, was, err := s.find(key)
		if err != nil {
			return err
		}
		if is, err = change(was); err != nil {
			return err
		}
		return e.put(&was, &is)
	})
	if err != nil {
		return run.Asset{}, false, err
	}
	return is, len(done) > 0, nil
}

func stale(a run.Asset) error {
	return fmt.Errorf("asset %q: %w: it is %s", a.Key, run.ErrStale, a.State)
}

// Tried records an attempt at a waiting asset that did not bring its bytes.
// run.ErrStale where it is not waiting.
func (q *Queue) Tried(ctx context.Context, key run.Key, trial run.Trial) (run.Asset, error) {
	a, _, err := q.updateAsset(ctx, key, func(a run.Asset) (run.Asset, error) {
		if a.State != run.AssetWaiting {
			return a, stale(a)
		}
		a.Attempts++
		a.Evidence = a.Evidence.After(trial)
		a.LastError = trial.Error
		if trial.Quarantine != "" {
			a.Quarantine = trial.Quarantine
		}
		return a, nil
	})
	return a, err
}

// KeepProvisional records what was fetched of a waiting asset before its run ended:
// these bytes are durable, without a final name. The asset is provisional then; it
// stays waiting where its run has ended meanwhile. The attempt is counted.
// run.ErrStale where it is not waiting.
func (q *Queue) KeepProvisional(ctx context.Context, key run.Key, p run.Provisional) (is run.Asset, err error) {
	_, err = q.updateAssets(ctx, 1, func(s *edits) error {
		e, was, err := s.find(key)
		if err != nil {
			return err
		}
		if was.State != run.AssetWaiting {
			return stale(was)
		}
		is = was
		is.Attempts++
		is.Provisional, is.LastError = &p, ""
		if !e.rec.Ended() {
			is.State = run.AssetProvisional
		}
		return e.put(&was, &is)
	})
	return is, err
}

// Verified records that parts are whole and synced, and claims their final names.
// It answers for each item: nil; run.ErrNameTaken where another asset of the run
// has the name, or one equal to it without regard to case; run.ErrStale where the
// asset is not waiting; run.ErrUnknown. The attempt is counted. The second error
// is the queue's, and then nothing is recorded.
func (q *Queue) Verified(ctx context.Context, batch []run.Named) ([]error, error) {
	refused := make([]error, len(batch))
	_, err := q.updateAssets(ctx, len(batch), func(s *edits) error {
		for i, n := range batch {
			e, was, err := s.find(n.Key)
			if err == nil && was.State != run.AssetWaiting {
				err = stale(was)
			}
			if err != nil {
				refused[i] = err
				continue
			}
			is := was
			is.State, is.Stored, is.LastError = run.AssetVerified, stored(n), ""
			is.Attempts++
			if refused[i] = e.allowed(&was, &is); refused[i] != nil {
				continue
			}
			if err := e.put(&was, &is); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return refused, nil
}

func stored(n run.Named) *run.Stored {
	return &run.Stored{
		File: n.File, Size: n.Size, SHA256: n.SHA256,
		ContentType: n.ContentType, DownloadedAt: n.At, Warnings: n.Warnings,
	}
}

// Stored records that verified assets stand under their final names, durably,
// and returns the runs that are ready to settle by it. An asset that is not
// verified any more is left as it is, and named in the error with run.ErrStale;
// the others are recorded all the same. One that is stored already is left alone.
func (q *Queue) Stored(ctx context.Context, keys []run.Key) (ready []run.ID, err error) {
	var refused []error
	ready, err = q.updateAssets(ctx, len(keys), func(s *edits) error {
		for _, key := range keys {
			e, was, err := s.find(key)
			switch {
			case errors.Is(err, run.ErrUnknown):
				refused = append(refused, err)
				continue
			case err != nil:
				return err
			case was.State == run.AssetStored:
				continue
			case was.State != run.AssetVerified:
				refused = append(refused, stale(was))
				continue
			}
			is := was
			is.State, is.Provisional = run.AssetStored, nil
			if err := e.put(&was, &is); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ready, errors.Join(refused...)
}

// Again sets a verified or stored asset of a run that is not settled back to
// waiting, for a reason that stands as its last error: its bytes are gone. The
// name is free again. Where it has provisional bytes these are next; of an
// asset that is not verified yet they are gone. A waiting one that has none is left as it is; run.ErrStale for
// a lost one or a settled run.
func (q *Queue) Again(ctx context.Context, key run.Key, reason string) (run.Asset, error) {
	a, _, err := q.updateAsset(ctx, key, func(a run.Asset) (run.Asset, error) {
		switch a.State {
		case run.AssetLost:
			return a, stale(a)
		case run.AssetWaiting, run.AssetProvisional:
			if a.Provisional == nil {
				return a, nil
			}
			a.Provisional = nil
		}
		a.State, a.Stored, a.Marked, a.LastError = run.AssetWaiting, nil, false, reason
		return a, nil
	})
	return a, err
}

// Adopt records assets as stored that an older manifest of the same run has, and
// reports whether the run is ready to settle by it. All or nothing: run.ErrStale
// where one is lost, or verified by a transfer of now; run.ErrNameTaken;
// run.ErrUnknown. One that is stored already is left alone.
func (q *Queue) Adopt(ctx context.Context, id run.ID, found []run.Adopted) (ready bool, err error) {
	done, err := q.updateAssets(ctx, len(found), func(s *edits) error {
		for _, f := range found {
			if f.Key.Run != id {
				return fmt.Errorf("asset %q is not of run %q", f.Key, id)
			}
			e, was, err := s.find(f.Key)
			if err != nil {
				return err
			}
			if was.State == run.AssetStored {
				continue
			}
			if was.State != run.AssetWaiting {
				return stale(was)
			}
			whole := was
			whole.State, whole.Stored, whole.LastError = run.AssetVerified, new(f.Stored), ""
			if err := e.put(&was, &whole); err != nil {
				return err
			}
			there := whole
			there.State, there.Provisional = run.AssetStored, nil
			if err := e.put(&whole, &there); err != nil {
				return err
			}
		}
		return nil
	})
	return len(done) > 0, err
}

// Lose gives a waiting asset up, has others told of it in the same transaction,
// and reports whether its run is ready to settle by it. run.ErrStale where it is
// not waiting; one that is lost already is left alone.
func (q *Queue) Lose(ctx context.Context, key run.Key, loss run.Loss) (ready bool, err error) {
	done, err := q.updateAssets(ctx, 1, func(s *edits) error {
		e, was, err := s.find(key)
		if err != nil {
			return err
		}
		is := was
		switch was.State {
		case run.AssetLost:
			return e.put(&was, &is)
		case run.AssetWaiting:
			is.State, is.Loss, is.LastError, is.Provisional = run.AssetLost, &loss, loss.Reason, nil
			if err := e.put(&was, &is); err != nil {
				return err
			}
			return s.t.post(q.told(), lostNotice(&e.rec, is))
		}
		return stale(was)
	})
	return len(done) > 0, err
}
