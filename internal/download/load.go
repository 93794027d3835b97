package download

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

// pageSize is how many assets are read at a time.
const pageSize = 1000

// resumeAll gives what is verified back to the store. It comes before the first
// transfer, so that nothing which this life has verified is among it.
func (p *Pool) resumeAll(ctx context.Context) {
	p.readPages(ctx, p.Queue.VerifiedAssets, func(_ context.Context, page []run.Asset) error {
		for _, a := range page {
			p.resume(a)
		}
		return nil
	})
}

// load takes all assets in that wait. They come in the order of their deadlines,
// so that the first page is what a start begins with.
func (p *Pool) load(ctx context.Context) {
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
		p.backlog.Hurry(a.Key, p.now())
		p.mu.Unlock()
	}
	p.Wake()
	return nil
}

// addToKnown adds the asset if its run is in the backlog already.
func (p *Pool) addToKnown(a run.Asset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.backlog.Waits(a.Key.Run) {
		return false
	}
	p.backlog.Add(backlog.Run{}, p.planAsset(a))
	p.backlog.Hurry(a.Key, p.now())
	return true
}

// resume gives an asset that is verified back to the store.
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
			p.lookInto(resumed{key: a.Key, why: err})
			signal(p.nudge)
		}
	})
}

// resumed is an asset that could not be resumed, or that may wait again.
type resumed struct {
	key run.Key
	why error         // nil: nothing went wrong
	due time.Duration // not to be looked into before
}

func (p *Pool) lookInto(x resumed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reload = append(p.reload, x)
}

// reloadAll looks into what could not be resumed, and says when to do so again.
func (p *Pool) reloadAll(ctx context.Context) (sleep time.Duration) {
	p.mu.Lock()
	all := p.reload
	p.reload = nil
	p.mu.Unlock()
	sleep = longestSleep
	for _, x := range all {
		left := x.due - p.now()
		if left <= 0 {
			left = p.reloadOne(ctx, x)
		} else {
			p.lookInto(x)
		}
		sleep = min(sleep, left)
	}
	return sleep
}

// reloadOne takes the asset in if it waits now.
func (p *Pool) reloadOne(ctx context.Context, x resumed) (sleep time.Duration) {
	a, err := p.Queue.Asset(ctx, x.key)
	var r run.Run
	if err == nil {
		r, err = p.Queue.Get(ctx, x.key.Run)
	}
	switch {
	case errors.Is(err, run.ErrUnknown), ctx.Err() != nil, p.broken(err):
	case err == nil && a.State == run.AssetWaiting:
		if x.why != nil {
			p.Tell(run.Event{Kind: run.AssetAgain, Asset: x.key, Err: x.why})
		}
		p.Changed(run.Change{Run: r, Assets: []run.Asset{a}})
	case err == nil && x.why == nil:
	case err == nil && a.State == run.AssetVerified && x.due > 0:
		p.resume(a)
	case err != nil, a.State == run.AssetVerified: // later
		x.due = p.now() + lookAgain
		p.lookInto(x)
		return lookAgain
	}
	return longestSleep
}
