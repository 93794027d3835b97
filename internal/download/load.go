package download

import (
	"context"
	"errors"
	"fmt"

	"github.com/assetd/assetd/internal/plan"
	"github.com/assetd/assetd/internal/run"
)

// pageSize is how many assets are read at a time.
const pageSize = 1000

// load takes all open assets in. Those that wait come in the order of their
// deadlines, so that the first page is what a start begins with.
func (p *Pool) load(ctx context.Context) {
	p.readPages(ctx, p.Queue.VerifiedAssets, func(_ context.Context, page []run.Asset) error {
		for _, a := range page {
			p.resume(a)
		}
		return nil
	})
	p.readPages(ctx, p.Queue.Waiting, p.take)
	p.mu.Lock()
	p.loaded = ctx.Err() == nil
	p.mu.Unlock()
}

type pages func(ctx context.Context, cursor string, limit int) ([]run.Asset, string, error)

// readPages reads to the end, however often a page has to be asked for.
func (p *Pool) readPages(ctx context.Context, read pages, take func(context.Context, []run.Asset) error) {
	cursor := ""
	for ctx.Err() == nil {
		page, next, err := read(ctx, cursor, pageSize)
		if err == nil {
			err = take(ctx, page)
		}
		switch {
		case ctx.Err() != nil || p.broken(err):
			return
		case err != nil:
			p.Tell(run.Event{Kind: run.QueueTrouble, Err: fmt.Errorf("reading open assets: %w", err)})
			rest(ctx, nil, lookAgain)
			continue
		case next == "":
			return
		}
		cursor = next
	}
}

// take adds assets that wait to the backlog. What came by Changed in the meantime
// is newer and stays.
func (p *Pool) take(ctx context.Context, page []run.Asset) error {
	for _, a := range page {
		if p.addToKnown(a) {
			continue
		}
		r, err := p.Queue.Get(ctx, a.Key.Run)
		switch {
		case errors.Is(err, run.ErrUnknown):
			continue
		case err != nil:
			return err
		}
		p.mu.Lock()
		p.backlog.Add(planRun(r), p.planAsset(a))
		p.hurry(a)
		p.mu.Unlock()
	}
	signal(p.wake)
	signal(p.nudge)
	return nil
}

// addToKnown adds the asset if its run is in the backlog already.
func (p *Pool) addToKnown(a run.Asset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.backlog.Waits(a.Key.Run) {
		return false
	}
	p.backlog.Add(plan.Run{}, p.planAsset(a))
	p.hurry(a)
	return true
}

// resume hands an asset that is verified back to the store.
func (p *Pool) resume(a run.Asset) {
	p.Volume.Resume(a, func(err error) {
		switch {
		case err == nil:
			e := run.Event{Kind: run.AssetKept, Asset: a.Key, Host: hostOf(a)}
			if a.Stored != nil {
				e.Bytes = a.Stored.Size
			}
			p.Tell(e)
		case errors.Is(err, run.ErrUnknown):
		default:
			p.mu.Lock()
			p.reload = append(p.reload, resumed{a.Key, err})
			p.mu.Unlock()
			signal(p.nudge)
		}
	})
}

// resumed is an asset that could not be resumed, and why.
type resumed struct {
	key run.Key
	why error
}

// reloadAll takes assets in that could not be resumed, if they wait now.
func (p *Pool) reloadAll(ctx context.Context) {
	p.mu.Lock()
	again := p.reload
	p.reload = nil
	p.mu.Unlock()
	for i, x := range again {
		a, err := p.Queue.Asset(ctx, x.key)
		var r run.Run
		if err == nil {
			r, err = p.Queue.Get(ctx, x.key.Run)
		}
		switch {
		case errors.Is(err, run.ErrUnknown):
		case ctx.Err() != nil || p.broken(err):
			return
		case err != nil:
			p.mu.Lock()
			p.reload = append(p.reload, again[i:]...)
			p.mu.Unlock()
			return
		case a.State == run.AssetWaiting:
			p.Tell(run.Event{Kind: run.AssetAgain, Asset: x.key, Err: x.why})
			p.Changed(run.Change{Run: r, Assets: []run.Asset{a}})
		case a.State == run.AssetVerified:
			p.resume(a)
		}
	}
}
