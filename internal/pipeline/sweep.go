package pipeline

import (
	"context"

	"github.com/assetd/assetd/internal/run"
)

// sweepPage is how many records are read at a time.
const sweepPage = 1000

// Sweep removes from the volume the parts that belong to no open or lost asset: those left
// by a crash, or by a run that was removed. It returns how many it removed. The queue is
// read only if there are parts at all; if that fails every part stays.
func (p *Pipeline) Sweep(ctx context.Context) (int, error) {
	return p.Volume.Sweep(ctx, func() (map[string]bool, error) { return p.wantedParts(ctx) })
}

// wantedParts returns the hash of each asset whose part may still be used.
func (p *Pipeline) wantedParts(ctx context.Context) (map[string]bool, error) {
	wanted := map[string]bool{}
	// Runs come first: provisional assets turn into those below when their run ends.
	for _, state := range []run.State{run.Waiting, run.Downloading, run.PartialRun, run.FailedRun} {
		if err := p.addRunParts(ctx, state, wanted); err != nil {
			return nil, err
		}
	}
	for _, page := range []func(context.Context, string, int) ([]run.Asset, string, error){p.Queue.Waiting, p.Queue.VerifiedAssets} {
		for cursor := ""; ; {
			assets, next, err := page(ctx, cursor, sweepPage)
			if err != nil {
				return nil, err
			}
			for _, a := range assets {
				wanted[a.Key.Hash()] = true
			}
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	return wanted, nil
}

// addRunParts adds the lost assets of the runs in a state, since a retry resumes their
// parts, and the open assets of runs that have not ended, which may be provisional.
func (p *Pipeline) addRunParts(ctx context.Context, state run.State, wanted map[string]bool) error {
	for after := run.ID(""); ; {
		runs, err := p.Queue.List(ctx, state, after, sweepPage)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			after = r.ID
			if r.Lost == 0 && (r.Ended() || r.Open() == 0) {
				continue
			}
			assets, err := p.Queue.Assets(ctx, r.ID)
			if err != nil {
				return err
			}
			for _, a := range assets {
				if a.State == run.AssetLost || a.State.Open() && !r.Ended() {
					wanted[a.Key.Hash()] = true
				}
			}
		}
	}
}
