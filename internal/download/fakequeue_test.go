package download_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// fakeQueue is the queue and the answers, with the transitions of package run.
type fakeQueue struct {
	mu     sync.Mutex
	runs   map[run.ID]run.Run
	assets map[run.Key]run.Asset
	urls   map[run.Key]run.Listed
	fail   error // of every call
	losses map[run.Key]run.Loss
	onLoss func()
	trials map[run.Key][]run.Trial
	cuts   map[string]time.Time
	read   map[run.ID]int // how often one of the run's assets was read
}

func (q *fakeQueue) Get(_ context.Context, id run.ID) (run.Run, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r, ok := q.runs[id]
	if !ok {
		return r, cmp.Or(q.fail, run.ErrUnknown)
	}
	return r, q.fail
}

func (q *fakeQueue) Asset(_ context.Context, key run.Key) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.read[key.Run]++
	a, ok := q.assets[key]
	if !ok {
		return a, cmp.Or(q.fail, run.ErrUnknown)
	}
	return a, q.fail
}

func (q *fakeQueue) Listed(key run.Key) (run.Listed, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.urls[key]
	return l, ok, nil
}

func (q *fakeQueue) page(state run.AssetState, cursor string, limit int) ([]run.Asset, string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []run.Asset
	for _, a := range q.assets {
		if a.State == state && a.Key.String() > cursor {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b run.Asset) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	if len(all) <= limit {
		return all, "", q.fail
	}
	return all[:limit], all[limit-1].Key.String(), q.fail
}

func (q *fakeQueue) Waiting(_ context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	return q.page(run.AssetWaiting, cursor, limit)
}

func (q *fakeQueue) VerifiedAssets(_ context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	return q.page(run.AssetVerified, cursor, limit)
}

func (q *fakeQueue) Tried(ctx context.Context, key run.Key, t run.Trial) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case q.fail != nil:
		return a, q.fail
	case !ok:
		return a, run.ErrUnknown
	case a.State != run.AssetWaiting:
		return a, run.ErrStale
	}
	a.Attempts++
	a.Evidence = a.Evidence.After(t)
	a.LastError = t.Error
	q.assets[key] = a
	q.trials[key] = append(q.trials[key], t)
	return a, nil
}

func (q *fakeQueue) KeepProvisional(_ context.Context, key run.Key, p run.Provisional) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	switch {
	case q.fail != nil:
		return a, q.fail
	case !ok:
		return a, run.ErrUnknown
	case a.State != run.AssetWaiting:
		return a, run.ErrStale
	}
	a.Attempts++
	a.Provisional = &p
	if r := q.runs[key.Run]; !r.Ended() {
		a.State = run.AssetProvisional
	}
	q.assets[key] = a
	return a, nil
}

func (q *fakeQueue) Again(_ context.Context, key run.Key, reason string) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	if !ok {
		return a, cmp.Or(q.fail, run.ErrUnknown)
	}
	a.State, a.Provisional, a.LastError = run.AssetWaiting, nil, reason
	q.assets[key] = a
	return a, q.fail
}

func (q *fakeQueue) Lose(_ context.Context, key run.Key, loss run.Loss) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	switch {
	case q.fail != nil:
		return false, q.fail
	case !ok:
		return false, run.ErrUnknown
	case a.State != run.AssetWaiting:
		return false, run.ErrStale
	}
	if q.onLoss != nil {
		q.onLoss()
	}
	a.State, a.Loss = run.AssetLost, &loss
	q.assets[key] = a
	q.losses[key] = loss
	return !slices.ContainsFunc(q.of(key.Run), func(a run.Asset) bool { return a.State.Open() }), nil
}

// of is the run's assets. The queue is locked.
func (q *fakeQueue) of(id run.ID) (all []run.Asset) {
	for _, a := range q.assets {
		if a.Key.Run == id {
			all = append(all, a)
		}
	}
	return all
}

func (q *fakeQueue) reads(id run.ID) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.read[id]
}

func (q *fakeQueue) state(key run.Key) run.AssetState {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.assets[key].State
}

func (q *fakeQueue) set(key run.Key, change func(*run.Asset)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.assets[key]
	change(&a)
	q.assets[key] = a
}

func (q *fakeQueue) Cutters(context.Context) (map[string]time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.cuts), q.fail
}

func (q *fakeQueue) Cuts(_ context.Context, host string, seen time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cuts == nil {
		q.cuts = map[string]time.Time{}
	}
	if q.cuts[host] = seen; seen.IsZero() {
		delete(q.cuts, host)
	}
	return q.fail
}
