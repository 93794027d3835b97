package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/assetd/assetd/internal/run"
)

// Prepare makes a run ready for its first byte: its directory is chosen, once and
// in the queue, and where an older manifest there says that the run is stored and
// every asset is there with its size, its assets are adopted. adopted reports that
// nothing is left to fetch. It may be called again at any time.
func (s *Settler) Prepare(ctx context.Context, id run.ID) (adopted bool, err error) {
	r, err := s.Queue.Get(ctx, id)
	if err != nil {
		return false, err
	}
	if r.Dir == "" {
		if r.Dir, err = s.place(ctx, r); err != nil {
			return false, err
		}
	}
	if !r.Ended() || r.Revision > 0 || r.Open() == 0 {
		return false, nil // not terminal yet, or retried on purpose
	}
	old, err := s.standing(ctx, r)
	if err != nil || old.Outcome != run.OutcomeStored {
		return false, err
	}
	assets, err := s.Queue.Assets(ctx, id)
	if err != nil {
		return false, err
	}
	found, err := s.recall(ctx, r.Dir, old, assets)
	if err != nil || found == nil {
		return false, err
	}
	ready, err := s.Places.Adopt(ctx, id, found)
	if err != nil {
		return false, fmt.Errorf("run %s: taking over what its older manifest names: %w", id, err)
	}
	if ready {
		s.Wake()
	}
	return ready, nil
}

// recall is every open asset as the old manifest names it, nil unless all of them
// are named and all files of the manifest are there with their sizes.
func (s *Settler) recall(ctx context.Context, dir string, old Manifest, assets []run.Asset) ([]run.Adopted, error) {
	stored := old.stored()
	files := make([]string, 0, len(stored))
	for _, a := range stored {
		files = append(files, *a.File)
	}
	sizes, err := s.Volume.Sizes(ctx, dir, files)
	if err != nil {
		return nil, err
	}
	for _, a := range stored {
		if size, there := sizes[*a.File]; !there || size != *a.Size {
			return nil, nil
		}
	}
	var found []run.Adopted
	for _, a := range assets {
		if !a.State.Open() {
			continue
		}
		m, ok := stored[a.Key]
		if !ok {
			return nil, nil
		}
		st := run.Stored{
			File: *m.File, Size: *m.Size, SHA256: *m.SHA256,
			ContentType: value(m.ContentType), Warnings: m.Warnings,
		}
		if m.DownloadedAt != nil {
			st.DownloadedAt = *m.DownloadedAt
		}
		found = append(found, run.Adopted{Key: a.Key, Stored: st})
	}
	return found, nil
}

// place chooses the run's directory. One that holds another run's manifest, left
// by an earlier queue, is not taken.
func (s *Settler) place(ctx context.Context, r run.Run) (string, error) {
	wanted := s.Volume.DirFor(r)
	data, err := s.Volume.ReadRecord(ctx, wanted, File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default:
		if old, err := Parse(data); err != nil || old.RunID != r.ID {
			key := run.Key{Run: r.ID}
			wanted += "-" + key.Hash()[:8]
		}
	}
	dir, err := s.Places.Place(ctx, r.ID, wanted)
	if err != nil {
		return "", fmt.Errorf("run %s: choosing its directory: %w", r.ID, err)
	}
	return dir, nil
}
