package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/assetd/assetd/internal/daemon/verify"
	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/run"
)

// Retry tries a settled run again and returns it as it is afterwards. An open run and one
// that is stored completely are left as they are.
//
// The run's files are looked at first: one that is missing or has another size is marked
// as verify would mark it. Marked files move to quarantine, so that their names are free
// when they are fetched again. On an offline volume a run with marked files stays as it
// is, and the error is run.ErrVolumeOffline.
func (a *Admin) Retry(ctx context.Context, id run.ID) (done run.Retried, err error) {
	defer a.locks.lock(id)()
	if done.Run, err = a.queue.Get(ctx, id); err != nil || !done.Run.State.Settled() {
		return done, err
	}
	if done.Run, err = a.markMissing(ctx, done.Run); err != nil {
		return done, err
	}
	if r := done.Run; r.State == run.StoredRun && !r.Repairable() {
		return done, nil
	}
	// From here on the retry completes, even if the client has disconnected.
	ctx = context.WithoutCancel(ctx)
	moved, err := a.quarantine(ctx, done.Run)
	if err != nil {
		return done, err
	}
	for _, file := range moved {
		done.Aside = append(done.Aside, file)
	}
	done.Tried, done.Lost, done.Damaged = true, done.Run.Lost, done.Run.Marked
	if err := a.queue.Retry(ctx, id, moved); err != nil {
		return done, err
	}
	if now, err := a.queue.Get(ctx, id); err == nil {
		done.Run = now
	}
	a.deps.Emit(run.Event{Kind: run.RunRetried, Run: id, State: done.Run.State, Count: done.Lost + done.Damaged})
	a.deps.Retried(id)
	return done, nil
}

// markMissing marks the files of a settled run that are missing or have another size than
// was stored, and returns the run as it is then. An offline volume is an error only where
// it prevents the retry.
func (a *Admin) markMissing(ctx context.Context, r run.Run) (run.Run, error) {
	err := a.volume.Check() // does not hang
	if err == nil {
		var found []run.Finding
		if found, err = a.missing(ctx, r); err == nil && len(found) > 0 {
			err = a.queue.Mark(ctx, r.ID, r.Revision, found)
		}
	}
	switch {
	case errors.Is(err, run.ErrVolumeOffline) && r.Marked == 0 && (r.State != run.StoredRun || r.Repairable()):
		return r, nil
	case err != nil && r.Marked > 0:
		return r, fmt.Errorf("run %s has damaged files, which have to be moved first: it stays as it is: %w", r.ID, err)
	case err != nil:
		return r, fmt.Errorf("run %s: its files cannot be looked at, so it stays as it is: %w", r.ID, err)
	}
	return a.queue.Get(ctx, r.ID)
}

// missing compares the names and sizes of a run's files with what was stored.
func (a *Admin) missing(ctx context.Context, r run.Run) (found []run.Finding, err error) {
	if r.Dir == "" {
		return nil, nil
	}
	assets, err := a.queue.Assets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	records := []string{manifest.File}
	if r.Stored > 0 {
		records = append(records, manifest.SumsFile)
	}
	names := append([]string(nil), records...)
	for _, asset := range assets {
		if asset.State == run.AssetStored {
			names = append(names, asset.Stored.File)
		}
	}
	sizes, err := a.volume.Sizes(ctx, r.Dir, names)
	if err != nil {
		return nil, err
	}
	for _, name := range records {
		if _, exists := sizes[name]; !exists && r.BadRecord == "" {
			found = append(found, run.Finding{Key: run.Key{Run: r.ID}, Damage: fmt.Sprintf("%s: %s is missing", verify.Missing, name)})
		}
	}
	for _, asset := range assets {
		if asset.State != run.AssetStored || asset.Marked {
			continue
		}
		size, exists := sizes[asset.Stored.File]
		switch {
		case !exists:
			found = append(found, run.Finding{Key: asset.Key, Damage: fmt.Sprintf("%s: the file is not there", verify.Missing)})
		case size != asset.Stored.Size:
			found = append(found, run.Finding{Key: asset.Key, Damage: fmt.Sprintf("%s: %d bytes, %d were stored", verify.Damaged, size, asset.Stored.Size)})
		}
	}
	return found, nil
}

// quarantine moves the run's marked files into quarantine and returns where they are then.
// An earlier call that did not finish may have moved some of them.
func (a *Admin) quarantine(ctx context.Context, r run.Run) (map[run.Key]string, error) {
	if r.Marked == 0 {
		return nil, nil
	}
	assets, err := a.queue.Assets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	moved := map[run.Key]string{}
	for _, asset := range assets {
		if !asset.Marked || asset.Stored == nil {
			continue
		}
		file, err := a.volume.Aside(ctx, asset.Key, r.Dir, asset.Stored.File)
		if err != nil {
			return nil, fmt.Errorf("asset %s: moving the damaged file to quarantine: %w", asset.Key, err)
		}
		if file != "" {
			moved[asset.Key] = file
		}
	}
	return moved, nil
}
