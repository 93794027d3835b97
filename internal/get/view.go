package get

import (
	"context"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// view is the queue as the stages see it: it has work for the given runs alone. A 404 counts
// from the first poll on, since somebody waits for the answer.
type view struct {
	*queue.Queue
	ids     map[run.ID]bool // the given runs; read only
	report  func(run.Run)   // takes a run after each answer of the API
	missing *missing
}

// Proven reports true: see view.
func (view) Proven(string) (bool, error) { return true, nil }

// Answered records an answer and reports it.
func (v view) Answered(ctx context.Context, id run.ID, verdict run.Verdict) (run.Change, error) {
	v.missing.judge(id, &verdict, time.Now())
	change, err := v.Queue.Answered(ctx, id, verdict)
	if err == nil && verdict.Answer != nil {
		v.report(change.Run)
	}
	return change, err
}

// Waiting returns a page of waiting assets. It may be empty before the end.
func (v view) Waiting(ctx context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	page, next, err := v.Queue.Waiting(ctx, cursor, limit)
	return v.among(page), next, err
}

// VerifiedAssets returns a page of assets that are verified and not stored. It may be empty
// before the end.
func (v view) VerifiedAssets(ctx context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	page, next, err := v.Queue.VerifiedAssets(ctx, cursor, limit)
	return v.among(page), next, err
}

// among removes the assets of other runs from a page.
func (v view) among(page []run.Asset) []run.Asset {
	return slices.DeleteFunc(page, func(a run.Asset) bool { return !v.ids[a.Key.Run] })
}

// Ready returns up to limit runs of which only the manifest is missing.
func (v view) Ready(ctx context.Context, limit int) ([]run.ID, error) {
	for most := limit; ; most *= 2 {
		ids, err := v.Queue.Ready(ctx, most)
		all := len(ids) < most
		ids = slices.DeleteFunc(ids, func(id run.ID) bool { return !v.ids[id] })
		if err != nil || all || len(ids) >= limit {
			return ids[:min(len(ids), limit)], err
		}
	}
}
