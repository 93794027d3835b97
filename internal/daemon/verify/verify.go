// Package verify reads the stored files of settled runs and compares them with the queue
// and with the runs' own records (manifest.json and SHA256SUMS).
//
// It changes no file. Damage is reported for every file, and recorded in the queue so that
// a retry fetches the file again; a file that was marked before and is intact again loses
// its mark. A run that changes while it is read is never marked by what was read before.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// Result is the state of a file as verify found it.
type Result string

// The results. An unreadable file is neither damaged nor missing.
const (
	OK         Result = "ok"
	Damaged    Result = "damaged"
	Missing    Result = "missing"
	Unreadable Result = "unreadable"
)

// File is what verify found of one file of a run: a stored one, or its record
// (manifest.json or SHA256SUMS).
type File struct {
	RunID          run.ID   `json:"run_id"`
	Kind           run.Kind `json:"kind,omitempty"` // empty for the run's record
	ID             string   `json:"id,omitempty"`   // likewise
	File           string   `json:"file"`           // below storage.dir
	Result         Result   `json:"result"`
	Detail         string   `json:"detail,omitempty"`
	Size           int64    `json:"size"` // bytes, as it is now
	SHA256         string   `json:"sha256,omitempty"`
	ExpectedSize   int64    `json:"expected_size"`
	ExpectedSHA256 string   `json:"expected_sha256,omitempty"`
}

// Backend is where runs are looked up and marked: the daemon, or the queue file.
type Backend interface {
	// Run returns a run with its assets, or run.ErrUnknown.
	Run(ctx context.Context, id run.ID) (server.Run, error)
	// Mark records findings about the run as it was with that revision. It fails with
	// run.ErrUnknown or run.ErrStale.
	Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error
}

// Verifier verifies the runs of one volume. Its functions must be set before Verify is
// called, and are called from many goroutines. It is safe for concurrent use.
type Verifier struct {
	Report     func(File) error             // takes each file; an error ends the verification
	Read       func(n int)                  // takes the bytes read since its last call
	MarkFailed func(id run.ID, cause error) // takes why the findings of a run were not recorded

	backend Backend
	volume  *storage.Volume
	slots   chan struct{} // holds a token for each file that is being read
}

// concurrentReads is how many files are read at a time: enough for a disk and a network
// mount, and few enough to leave bandwidth to others.
const concurrentReads = 4

// Open returns a Verifier of a volume. The error is run.ErrVolumeOffline where the volume
// is absent or belongs to another queue: then nothing is known about any file. Open does
// not hang on a dead mount.
func Open(where server.Volume, b Backend) (*Verifier, error) {
	c := storage.Config{Dir: where.Dir, Mounted: where.Mounted, RunDir: "{run_id}", FileName: "{asset_id}"} // no name is made from these
	volume, err := storage.New(c, storage.Deps{
		Ledger: queueID{id: where.Queue}, Ready: func([]run.ID) {}, Broken: func(error) bool { return false }, Tell: func(run.Event) {},
	})
	if err != nil {
		return nil, err
	}
	sight, err := volume.Look()
	switch {
	case err != nil:
		return nil, err
	case sight.Queue == "":
		return nil, fmt.Errorf("%w: %s has no marker, so it is not the volume of queue %s: mount the right volume", run.ErrVolumeOffline, where.Dir, where.Queue)
	case sight.Queue != where.Queue:
		return nil, fmt.Errorf("%w: the marker of %s names queue %q, ours is %s: mount the right volume", run.ErrVolumeOffline, where.Dir, sight.Queue, where.Queue)
	}
	return &Verifier{backend: b, volume: volume, slots: make(chan struct{}, concurrentReads)}, nil
}

// queueID is a ledger of which only the ID is used: reading a volume needs no more.
type queueID struct {
	storage.Ledger
	id string
}

func (q queueID) ID() string { return q.id }

// Verify reads all files of a settled run, reports each, and records damage and recovery.
// A run that was retried meanwhile is read once more if it has settled again, else left
// alone. If ctx ends, what was found until then is recorded. The error is ctx's, the
// backend's, Report's or run.ErrVolumeOffline.
func (v *Verifier) Verify(ctx context.Context, r server.Run) error {
	for range 2 {
		p := &pass{v: v, run: r}
		err := p.readAll(ctx)
		if p.outdated {
			if err != nil {
				return err
			}
			r, err = v.backend.Run(ctx, r.RunID)
			if errors.Is(err, run.ErrUnknown) || err == nil && !r.State.Settled() {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		if len(p.found) > 0 {
			marked := v.backend.Mark(context.WithoutCancel(ctx), r.RunID, r.Revision, p.found)
			// A run that settled again in this very moment has other files.
			if marked != nil && !errors.Is(marked, run.ErrStale) && !errors.Is(marked, run.ErrUnknown) {
				v.MarkFailed(r.RunID, marked)
			}
		}
		return err
	}
	return nil
}

// pass is one pass over the files of a run.
type pass struct {
	v   *Verifier
	run server.Run

	mu       sync.Mutex
	found    []run.Finding // to be recorded
	outdated bool          // the run has settled again, or is being retried
}

// expected is a file that should be there.
type expected struct {
	key     run.Key
	file    string // below the run's directory
	size    int64
	sha256  string
	marked  bool // found damaged before
	foreign bool // the manifest names it, the queue does not
}

// readAll reads the run's record, then its files, several at a time.
func (p *pass) readAll(ctx context.Context) error {
	var files []expected
	for _, a := range p.run.AssetList {
		if a.State == run.AssetStored {
			key := run.Key{Run: p.run.RunID, Kind: a.Kind, ID: a.ID}
			files = append(files, expected{key: key, file: a.File, size: a.Size, sha256: a.SHA256, marked: a.Damaged})
		}
	}
	only, err := p.readRecord(ctx)
	if err != nil {
		return err
	}
	for _, o := range only {
		files = append(files, expected{key: o.Key, file: o.Stored.File, size: o.Stored.Size, sha256: o.Stored.SHA256, foreign: true})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range files {
		select {
		case p.v.slots <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(g.Wait(), ctx.Err())
		}
		g.Go(func() error {
			defer func() { <-p.v.slots }()
			return p.readFile(ctx, f)
		})
	}
	return g.Wait()
}

// readRecord compares the run's record with the queue, and returns the files that only
// the manifest names.
func (p *pass) readRecord(ctx context.Context) ([]run.Adopted, error) {
	if p.run.Dir == "" {
		return nil, nil
	}
	var rec manifest.Record
	for name, into := range map[string]*[]byte{manifest.File: &rec.Manifest, manifest.SumsFile: &rec.Sums} {
		data, err := p.v.volume.ReadRecord(ctx, p.run.Dir, name)
		switch {
		case errors.Is(err, run.ErrVolumeOffline) || ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case errors.Is(err, fs.ErrNotExist):
			// It counts as missing only if the volume is still there.
			if _, err := p.v.volume.Sizes(context.Background(), ".", nil); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, p.v.Report(File{RunID: p.run.RunID, File: path.Join(p.run.Dir, name), Result: Unreadable, Detail: err.Error()})
		default:
			*into = data
		}
	}
	r, assets := queueView(p.run)
	c := manifest.Compare(r, assets, rec)
	found := File{RunID: p.run.RunID, File: path.Join(p.run.Dir, manifest.File), Result: OK, Detail: strings.Join(c.Faults, "; ")}
	if len(c.Faults) > 0 {
		found.Result = Damaged
		name, _, _ := strings.Cut(c.Faults[0], " ")
		found.File = path.Join(p.run.Dir, name)
		if strings.HasSuffix(c.Faults[0], " is missing") {
			found.Result = Missing
		}
	}
	return c.Only, p.judge(ctx, expected{key: run.Key{Run: p.run.RunID}, marked: p.run.BadRecord != ""}, found)
}

// queueView is the run and its assets as the queue has them, as far as the run's record
// repeats them.
func queueView(r server.Run) (run.Run, []run.Asset) {
	assets := make([]run.Asset, 0, len(r.AssetList))
	for _, a := range r.AssetList {
		asset := run.Asset{Key: run.Key{Run: r.RunID, Kind: a.Kind, ID: a.ID}, State: a.State}
		if a.State == run.AssetStored {
			asset.Stored = &run.Stored{File: a.File, Size: a.Size, SHA256: a.SHA256}
		}
		assets = append(assets, asset)
	}
	return run.Run{ID: r.RunID, State: r.State, Outcome: run.Outcome(r.State), Revision: r.Revision}, assets
}

// readFile hashes one file and compares it with what was stored.
func (p *pass) readFile(ctx context.Context, f expected) error {
	defer lowerIOPriority()()
	is, err := p.v.volume.Sum(ctx, p.run.Dir, f.file, p.v.Read)
	found := File{
		RunID: p.run.RunID, Kind: f.key.Kind, ID: f.key.ID, File: path.Join(p.run.Dir, f.file), Result: Damaged,
		Size: is.Size, SHA256: is.SHA256, ExpectedSize: f.size, ExpectedSHA256: f.sha256,
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, run.ErrVolumeOffline):
		return err
	case errors.Is(err, fs.ErrNotExist):
		found.Result, found.Detail = Missing, "the file is not there"
	case err != nil:
		found.Result, found.Detail = Unreadable, err.Error()
	case is.Odd != "":
		found.Detail = "it is " + is.Odd
	case is.Size != f.size:
		found.Detail = fmt.Sprintf("%d bytes, %d were stored", is.Size, f.size)
	case is.SHA256 != f.sha256:
		found.Detail = "other bytes than were stored"
	default:
		found.Result = OK
	}
	if f.foreign && found.Result != OK {
		found.Detail += "; only the manifest names it, the queue does not know it"
	}
	return p.judge(ctx, f, found)
}

// judge reports a file and notes what is to be recorded. Damage counts only if the run has
// not changed since it was looked up.
func (p *pass) judge(ctx context.Context, f expected, found File) error {
	bad := found.Result == Damaged || found.Result == Missing
	if bad {
		now, err := p.v.backend.Run(ctx, p.run.RunID)
		if err != nil && !errors.Is(err, run.ErrUnknown) {
			return err
		}
		if err != nil || !now.State.Settled() || now.Revision != p.run.Revision {
			p.mu.Lock()
			p.outdated = true
			p.mu.Unlock()
			return nil
		}
	}
	if err := p.v.Report(found); err != nil {
		return err
	}
	recovered := f.marked && found.Result == OK
	if f.foreign || !bad && !recovered {
		return nil
	}
	damage := "" // removes the mark
	if bad {
		damage = string(found.Result) + ": " + found.Detail
	}
	p.mu.Lock()
	p.found = append(p.found, run.Finding{Key: f.key, Damage: damage})
	p.mu.Unlock()
	return nil
}
