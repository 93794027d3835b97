package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// Result is what verify says of a file.
type Result string

// The results. One that could not be read is neither damaged nor missing.
const (
	ResultOK         Result = "ok"
	ResultDamaged    Result = "damaged"
	ResultMissing    Result = "missing"
	ResultUnreadable Result = "unreadable"
)

// Verified is what verify found of one file of a run: a stored one, or its
// manifest.json and SHA256SUMS.
type Verified struct {
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

// Books is what verify holds the volume against: the daemon, or the queue itself.
// Run fails with run.ErrUnknown; Mark also with run.ErrStale.
type Books interface {
	Run(ctx context.Context, id run.ID) (server.Run, error) // with its assets
	Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error
}

// Verifier reads what is stored and holds it against the books. Safe for
// concurrent use.
type Verifier struct {
	Books Books
	// Tell takes what was found of each file, and may end all by an error; Read the
	// bytes that were read since its last call; Unmarked why a finding could not be
	// recorded. They are called from many goroutines.
	Tell     func(Verified) error
	Read     func(n int)
	Unmarked func(id run.ID, err error)

	volume *storage.Volume
	slots  chan struct{} // a token for each file that is read
}

// readAtOnce is how many files are read at a time: enough for a disk and a network
// mount, few enough to leave them to others.
const readAtOnce = 4

// reader is the one thing of a ledger that looking at a volume needs.
type reader struct {
	storage.Ledger
	queue string
}

func (r reader) ID() string { return r.queue }

// Open looks whether the volume is there and the queue's. run.ErrVolumeOffline says
// that it is not: then nothing can be said of any file.
func (v *Verifier) Open(where server.Volume) error {
	c := storage.Config{Dir: where.Dir, Mounted: where.Mounted, RunDir: "{run_id}", FileName: "{asset_id}"} // it names nothing
	volume, err := storage.New(c, storage.Deps{
		Ledger: reader{queue: where.Queue}, Ready: func([]run.ID) {}, Broken: func(error) bool { return false }, Tell: func(run.Event) {},
	})
	if err != nil {
		return err
	}
	sight, err := volume.Look() // does not hang
	if err != nil {
		return err
	}
	if sight.Queue == "" {
		return fmt.Errorf("%w: %s has no marker, so it is not the volume of queue %s: mount the right volume", run.ErrVolumeOffline, where.Dir, where.Queue)
	}
	if sight.Queue != where.Queue {
		return fmt.Errorf("%w: the marker of %s names queue %q, ours is %s: mount the right volume", run.ErrVolumeOffline, where.Dir, sight.Queue, where.Queue)
	}
	v.volume, v.slots = volume, make(chan struct{}, readAtOnce)
	return nil
}

// Verify reads all files of a settled run and holds them against the queue and its
// manifest, tells each, and records in the queue what is damaged and what is whole
// again. A run that was tried again meanwhile is looked at once more, or left where
// it is not settled now. When ctx ends what was found until then is recorded. The
// error is ctx's, the books' or run.ErrVolumeOffline.
func (v *Verifier) Verify(ctx context.Context, r server.Run) error {
	for range 2 {
		look := &look{v: v, run: r}
		err := look.all(ctx)
		if !look.outdated {
			look.record(context.WithoutCancel(ctx))
		}
		if err != nil || !look.outdated {
			return err
		}
		if r, err = v.Books.Run(ctx, r.RunID); errors.Is(err, run.ErrUnknown) || err == nil && !r.State.Settled() {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// look is one look at a run.
type look struct {
	v   *Verifier
	run server.Run

	mu       sync.Mutex
	found    []run.Finding // to be recorded
	outdated bool          // the run was settled anew, or is tried again
}

// expected is a file that should be there.
type expected struct {
	key     run.Key
	file    string // below the run's directory
	size    int64
	sha256  string
	marked  bool // found damaged before
	foreign bool // the queue does not know it: only the manifest does
}

func (l *look) all(ctx context.Context) error {
	var files []expected
	for _, a := range l.run.AssetList {
		if a.State == run.AssetStored {
			key := run.Key{Run: l.run.RunID, Kind: a.Kind, ID: a.ID}
			files = append(files, expected{key: key, file: a.File, size: a.Size, sha256: a.SHA256, marked: a.Damaged})
		}
	}
	only, err := l.records(ctx)
	if err != nil {
		return err
	}
	for _, o := range only {
		files = append(files, expected{key: o.Key, file: o.Stored.File, size: o.Stored.Size, sha256: o.Stored.SHA256, foreign: true})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range files {
		select {
		case l.v.slots <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(g.Wait(), ctx.Err())
		}
		g.Go(func() error {
			defer func() { <-l.v.slots }()
			return l.file(ctx, f)
		})
	}
	return g.Wait()
}

// file reads one file.
func (l *look) file(ctx context.Context, f expected) error {
	defer leaveToOthers()()
	is, err := l.v.volume.Sum(ctx, l.run.Dir, f.file, l.v.Read)
	found := Verified{
		RunID: l.run.RunID, Kind: f.key.Kind, ID: f.key.ID, File: path.Join(l.run.Dir, f.file), Result: ResultDamaged,
		Size: is.Size, SHA256: is.SHA256, ExpectedSize: f.size, ExpectedSHA256: f.sha256,
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, run.ErrVolumeOffline):
		return err
	case errors.Is(err, fs.ErrNotExist):
		found.Result, found.Detail = ResultMissing, "the file is not there"
	case err != nil:
		found.Result, found.Detail = ResultUnreadable, err.Error()
	case is.Odd != "":
		found.Detail = "it is " + is.Odd
	case is.Size != f.size:
		found.Detail = fmt.Sprintf("%d bytes, %d were stored", is.Size, f.size)
	case is.SHA256 != f.sha256:
		found.Detail = "other bytes than were stored"
	default:
		found.Result = ResultOK
	}
	if f.foreign && found.Result != ResultOK {
		found.Detail += "; the manifest alone names it, the queue does not know it"
	}
	return l.judge(ctx, f, found)
}

// judge tells what was found, unless the run has changed meanwhile, and keeps what
// is to be recorded.
func (l *look) judge(ctx context.Context, f expected, found Verified) error {
	bad := found.Result == ResultDamaged || found.Result == ResultMissing
	if bad {
		now, err := l.v.Books.Run(ctx, l.run.RunID)
		if err != nil && !errors.Is(err, run.ErrUnknown) {
			return err
		}
		if err != nil || !now.State.Settled() || now.Revision != l.run.Revision {
			l.mu.Lock()
			l.outdated = true
			l.mu.Unlock()
			return nil
		}
	}
	if err := l.v.Tell(found); err != nil {
		return err
	}
	if !f.foreign && (bad || f.marked && found.Result == ResultOK) {
		damage := ""
		if bad {
			damage = string(found.Result) + ": " + found.Detail
		}
		l.mu.Lock()
		l.found = append(l.found, run.Finding{Key: f.key, Damage: damage})
		l.mu.Unlock()
	}
	return nil
}

// records holds the run's own record against the queue, and says what the manifest
// alone names.
func (l *look) records(ctx context.Context) ([]run.Adopted, error) {
	if l.run.Dir == "" {
		return nil, nil
	}
	var rec manifest.Record
	for name, into := range map[string]*[]byte{manifest.File: &rec.Manifest, manifest.SumsFile: &rec.Sums} {
		data, err := l.v.volume.ReadRecord(ctx, l.run.Dir, name)
		switch {
		case errors.Is(err, run.ErrVolumeOffline) || ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case errors.Is(err, fs.ErrNotExist):
			if err := l.v.stands(); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, l.v.Tell(Verified{RunID: l.run.RunID, File: path.Join(l.run.Dir, name), Result: ResultUnreadable, Detail: err.Error()})
		default:
			*into = data
		}
	}
	c := manifest.Compare(l.queueHas(), l.assets(), rec)
	return c.Only, l.faults(ctx, c.Faults)
}

// stands looks whether the volume is still there.
func (v *Verifier) stands() error {
	_, err := v.volume.Sizes(context.Background(), ".", nil)
	return err
}

// faults tells what is wrong with the run's record, or that nothing is.
func (l *look) faults(ctx context.Context, faults []string) error {
	found := Verified{RunID: l.run.RunID, File: path.Join(l.run.Dir, manifest.File), Result: ResultOK, Detail: strings.Join(faults, "; ")}
	if len(faults) > 0 {
		found.Result = ResultDamaged
		name, _, _ := strings.Cut(faults[0], " ")
		found.File = path.Join(l.run.Dir, name)
		if strings.HasSuffix(faults[0], " is missing") {
			found.Result = ResultMissing
		}
	}
	return l.judge(ctx, expected{key: run.Key{Run: l.run.RunID}, marked: l.run.BadRecord != ""}, found)
}

// queueHas is the run as the queue has it, as far as its record tells of it.
func (l *look) queueHas() run.Run {
	return run.Run{ID: l.run.RunID, State: l.run.State, Outcome: run.Outcome(l.run.State), Revision: l.run.Revision}
}

func (l *look) assets() []run.Asset {
	all := make([]run.Asset, 0, len(l.run.AssetList))
	for _, a := range l.run.AssetList {
		is := run.Asset{Key: run.Key{Run: l.run.RunID, Kind: a.Kind, ID: a.ID}, State: a.State}
		if a.State == run.AssetStored {
			is.Stored = &run.Stored{File: a.File, Size: a.Size, SHA256: a.SHA256}
		}
		all = append(all, is)
	}
	return all
}

// record records what was found. A run that was settled anew in this very moment
// has other files.
func (l *look) record(ctx context.Context) {
	if len(l.found) == 0 {
		return
	}
	err := l.v.Books.Mark(ctx, l.run.RunID, l.run.Revision, l.found)
	if err != nil && !errors.Is(err, run.ErrStale) && !errors.Is(err, run.ErrUnknown) {
		l.v.Unmarked(l.run.RunID, err)
	}
}

// leaveToOthers has the disk serve others first (ioprio_set(2), best effort, the
// lowest level) for as long as this goroutine reads. Where that is not possible it
// reads as everybody does.
func leaveToOthers() (done func()) {
	const (
		whoProcess = 1 // this thread
		bestEffort = 2 << 13
		lowest     = 7
	)
	runtime.LockOSThread()
	was, _, failed := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0)
	if failed == 0 {
		_, _, failed = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, bestEffort|lowest)
	}
	return func() {
		if failed == 0 { // the thread goes back to those that download
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, was)
		}
		runtime.UnlockOSThread()
	}
}
