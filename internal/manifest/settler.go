package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

// Queue is what the settler reads of the queue.
type Queue interface {
	Ready(ctx context.Context, limit int) ([]run.ID, error) // in the order of their IDs
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Assets(ctx context.Context, id run.ID) ([]run.Asset, error)
}

// Ledger is what the settler records in the queue.
type Ledger interface {
	Settle(ctx context.Context, done []run.Settlement) error
	Again(ctx context.Context, key run.Key, reason string) (run.Asset, error)
	Answer(id run.ID) (run.Answer, bool, error)
}

// Places chooses a run's directory and takes over what an older manifest names.
type Places interface {
	Place(ctx context.Context, id run.ID, wanted string) (string, error)
	Adopt(ctx context.Context, id run.ID, assets []run.Adopted) (ready bool, err error)
}

// Volume is where manifests stand. Every method fails with run.ErrVolumeOffline
// where the volume is not there. ReadRecord fails with fs.ErrNotExist where the
// file is not; Sizes leaves out what is not a regular file.
type Volume interface {
	DirFor(r run.Run) string
	Shelf
}

// Shelf reads and writes the records below a run's directory.
type Shelf interface {
	ReadRecord(ctx context.Context, dir, name string) ([]byte, error)
	WriteRecords(ctx context.Context, batch []run.Records) ([]error, error)
	Sizes(ctx context.Context, dir string, files []string) (map[string]int64, error)
}

// Config is what the settler needs; all of it is required.
type Config struct {
	Queue  Queue
	Ledger Ledger
	Places Places
	Volume Volume
	Tell   run.Tell
	Again  func(run.Change) // a stored file was gone: its asset waits once more
	// Done is called after runs were settled, with their stored assets: nothing else
	// that was kept for these is needed any more.
	Done   func(ctx context.Context, stored []run.Key)
	Broken func(err error) bool // the queue cannot go on
	Now    func() time.Time     // UTC
}

// Settler writes the manifests of finished runs. Run may be called once; the
// other methods are safe for concurrent use.
type Settler struct {
	Config
	wake    chan struct{}
	blocked map[run.ID]block // runs whose record could not be written, Run's own
}

type block struct {
	until    time.Time
	failures int // in a row
}

// How many runs are settled with shared syncs, and of how many assets: a batch is
// over with the run that reaches that. And how long one waits whose
// record could not be written.
const (
	batchSize  = 128
	mostAssets = 10_000
	firstDelay = time.Second
	maxDelay   = 30 * time.Second
)

// New makes a settler.
func New(c Config) *Settler {
	return &Settler{Config: c, wake: make(chan struct{}, 1), blocked: map[run.ID]block{}}
}

// Wake makes the settler look at once whether a run is ready.
func (s *Settler) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run settles what is ready until ctx ends, what became ready before that
// included. It returns an error only when the queue cannot go on.
func (s *Settler) Run(ctx context.Context) error {
	working := context.WithoutCancel(ctx) // a batch that has begun is finished
	for {
		ending := ctx.Err() != nil
		more, err := s.settle(working)
		if err != nil && s.Broken(err) {
			return fmt.Errorf("settling runs: %w", err)
		}
		if more && err == nil {
			continue
		}
		if ending {
			return nil
		}
		clock.Sleep(ctx, s.nextLook(err), s.wake)
	}
}

// nextLook is how long to sleep: until the first blocked run's turn, at most
// maxDelay, so that a lost wake-up costs little.
func (s *Settler) nextLook(err error) time.Duration {
	if err != nil {
		return 5 * time.Second // volume or queue: looked at every 5 s while something waits
	}
	wait := maxDelay
	for _, b := range s.blocked {
		wait = min(wait, max(b.until.Sub(s.Now()), firstDelay))
	}
	return wait
}

// settle writes one batch of manifests. more says that further runs are ready.
func (s *Settler) settle(ctx context.Context) (more bool, err error) {
	limit := batchSize + len(s.blocked)
	ready, err := s.Queue.Ready(ctx, limit)
	if err != nil {
		return false, err
	}
	s.unblock(ready, len(ready) < limit)
	var batch []draft
	assets := 0
	for _, id := range ready {
		if assets >= mostAssets {
			return true, s.write(ctx, batch)
		}
		if s.Now().Before(s.blocked[id].until) {
			continue
		}
		d, ok, err := s.draft(ctx, id)
		switch {
		case errors.Is(err, run.ErrVolumeOffline) || err != nil && s.Broken(err):
			return false, err
		case notReady(err): // no more: it was removed, or one of its assets waits again
			delete(s.blocked, id)
		case err != nil:
			s.block(ctx, id, err)
		case ok:
			batch = append(batch, d)
			assets += len(d.manifest.Assets)
		}
	}
	return len(ready) == limit, s.write(ctx, batch)
}

// unblock forgets the runs that wait for their next turn and are not ready any more:
// they were removed, settled, or have assets to fetch again. ready are those that are,
// in the order of their IDs; all says that no other is.
func (s *Settler) unblock(ready []run.ID, all bool) {
	for id := range s.blocked {
		at, found := slices.BinarySearch(ready, id)
		if !found && (all || at < len(ready)) {
			delete(s.blocked, id)
		}
	}
}

// notReady reports whether an error says of a run alone that it is not to be settled.
func notReady(err error) bool { return errors.Is(err, run.ErrUnknown) || errors.Is(err, run.ErrStale) }

// block puts a run aside for a while, so that it never keeps the others waiting. One
// that was removed meanwhile is nobody's trouble.
func (s *Settler) block(ctx context.Context, id run.ID, err error) {
	if _, gone := s.Queue.Get(ctx, id); errors.Is(gone, run.ErrUnknown) {
		delete(s.blocked, id)
		return
	}
	b := s.blocked[id]
	b.failures++
	b.until = s.Now().Add(backoff.Delay(b.failures, firstDelay, maxDelay))
	s.blocked[id] = b
	s.Tell(run.Event{Kind: run.ManifestTrouble, Run: id, Err: err, Hint: "the run settles as soon as its directory can be written"})
}

// draft is a run about to be settled.
type draft struct {
	run      run.Run
	manifest Manifest
	records  run.Records // no files: what stands is right
	stored   []run.Key
}

// draft gathers a ready run's record. ok is false when the run is not to be
// settled after all: a stored file was gone and its asset waits again.
func (s *Settler) draft(ctx context.Context, id run.ID) (d draft, ok bool, err error) {
	r, assets, err := s.load(ctx, id)
	if err != nil {
		return d, false, err
	}
	if r.Dir == "" {
		if r.Dir, err = s.place(ctx, r); err != nil {
			return d, false, err
		}
	}
	gone, err := s.gone(ctx, r, assets)
	if err != nil || gone {
		return d, false, err
	}
	answer, _, err := s.Ledger.Answer(id)
	if err != nil {
		return d, false, err
	}
	old, err := s.standing(ctx, r)
	if err != nil {
		return d, false, err
	}
	m := Build(r, assets, answer, max(old.Revision, r.Revision)+1, s.Now())
	d.run, d.stored = r, storedKeys(assets)
	if old.Revision > r.Revision && old.sameEnd(m) {
		d.manifest = old // written before a crash, or by an earlier queue
		return d, true, nil
	}
	if d.manifest, err = s.keepStored(ctx, r.Dir, old, m); err != nil {
		return d, false, err
	}
	d.records = d.manifest.records(r.Dir)
	return d, true, nil
}

func storedKeys(assets []run.Asset) []run.Key {
	var keys []run.Key
	for _, a := range assets {
		if a.State == run.AssetStored {
			keys = append(keys, a.Key)
		}
	}
	return keys
}

func (s *Settler) load(ctx context.Context, id run.ID) (run.Run, []run.Asset, error) {
	r, err := s.Queue.Get(ctx, id)
	if err != nil {
		return run.Run{}, nil, err
	}
	assets, err := s.Queue.Assets(ctx, id)
	return r, assets, err
}

// gone looks at each stored file's size. An asset whose file is not there as it
// was stored goes back to waiting.
func (s *Settler) gone(ctx context.Context, r run.Run, assets []run.Asset) (bool, error) {
	var files []string
	for _, a := range assets {
		if a.State == run.AssetStored {
			files = append(files, a.Stored.File)
		}
	}
	if len(files) == 0 {
		return false, nil
	}
	sizes, err := s.Volume.Sizes(ctx, r.Dir, files)
	if err != nil {
		return false, err
	}
	change := run.Change{Run: r}
	for _, a := range assets {
		if a.State != run.AssetStored {
			continue
		}
		if size, there := sizes[a.Stored.File]; there && size == a.Stored.Size {
			continue
		}
		reason := fmt.Sprintf("stored file %s/%s is gone or has another size", r.Dir, a.Stored.File)
		a, err := s.Ledger.Again(ctx, a.Key, reason)
		if err != nil {
			return false, err
		}
		s.Tell(run.Event{Kind: run.AssetAgain, Run: r.ID, Asset: a.Key, Note: reason})
		change.Assets = append(change.Assets, a)
	}
	if len(change.Assets) > 0 {
		s.Again(change)
	}
	return len(change.Assets) > 0, nil
}

// standing is the manifest that is there already, zero where there is none or
// where it cannot be read: then a new one replaces it.
func (s *Settler) standing(ctx context.Context, r run.Run) (Manifest, error) {
	data, err := s.Volume.ReadRecord(ctx, r.Dir, File)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, nil
	}
	if err != nil {
		return Manifest{}, err
	}
	old, err := Parse(data)
	if err != nil || old.RunID != r.ID {
		return Manifest{}, nil
	}
	return old, nil
}

// sameEnd reports whether both tell the same end of the same run: outcome, status,
// and per asset what is stored where.
func (m Manifest) sameEnd(other Manifest) bool {
	if m.Outcome != other.Outcome || value(m.Status) != value(other.Status) || len(m.Assets) != len(other.Assets) {
		return false
	}
	mine := m.stored()
	for key, a := range other.stored() {
		b, ok := mine[key]
		if !ok || *a.File != *b.File || *a.SHA256 != *b.SHA256 {
			return false
		}
		delete(mine, key)
	}
	return len(mine) == 0
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// keepStored is m with the stored assets that only the old manifest names, where
// their files are still there: a queue restored from a backup may know less than
// the volume.
func (s *Settler) keepStored(ctx context.Context, dir string, old, m Manifest) (Manifest, error) {
	lost := old.stored()
	for key := range m.stored() {
		delete(lost, key)
	}
	if len(lost) == 0 {
		return m, nil
	}
	files := make([]string, 0, len(lost))
	for _, a := range lost {
		files = append(files, *a.File)
	}
	sizes, err := s.Volume.Sizes(ctx, dir, files)
	if err != nil {
		return m, err
	}
	assets := m.Assets[:0:0]
	for _, a := range m.Assets {
		key := run.Key{Run: m.RunID, Kind: a.Kind, ID: a.ID}
		if there, ok := lost[key]; ok && sizes[*there.File] == *there.Size {
			a = there
			delete(lost, key)
		}
		assets = append(assets, a)
	}
	for _, a := range old.Assets {
		key := run.Key{Run: m.RunID, Kind: a.Kind, ID: a.ID}
		if _, ok := lost[key]; ok && a.File != nil && sizes[*a.File] == *a.Size {
			assets = append(assets, a)
		}
	}
	m.Assets = assets
	return m, nil
}

func (m Manifest) records(dir string) run.Records {
	rec := run.Records{Dir: dir}
	if slices.ContainsFunc(m.Assets, Asset.summed) {
		rec.Files = append(rec.Files, run.Record{Name: SumsFile, Write: m.WriteSums})
	}
	rec.Files = append(rec.Files, run.Record{Name: File, Write: m.Write})
	return rec
}

// write makes the batch's records durable and settles its runs, in that order.
func (s *Settler) write(ctx context.Context, batch []draft) error {
	if len(batch) == 0 {
		return nil
	}
	var records []run.Records
	var at []int // records[i] belongs to batch[at[i]]
	for i, d := range batch {
		if len(d.records.Files) > 0 {
			records, at = append(records, d.records), append(at, i)
		}
	}
	failed := make([]error, len(batch))
	if len(records) > 0 {
		errs, err := s.Volume.WriteRecords(ctx, records)
		if err != nil {
			return err
		}
		for i, err := range errs {
			failed[at[i]] = err
		}
	}
	var done []run.Settlement
	var told []draft
	var stored []run.Key
	for i, d := range batch {
		if failed[i] != nil {
			s.block(ctx, d.run.ID, failed[i])
			continue
		}
		delete(s.blocked, d.run.ID)
		done = append(done, run.Settlement{Run: d.run.ID, Outcome: d.manifest.Outcome, Revision: d.manifest.Revision, At: s.Now()})
		told = append(told, d)
		stored = append(stored, d.stored...)
	}
	if len(done) == 0 {
		return nil
	}
	err := s.Ledger.Settle(ctx, done)
	if err != nil && !notReady(err) {
		return err
	}
	for _, d := range told {
		if err == nil || s.settled(ctx, d.run.ID) { // one that was refused leaves the others settled
			s.tell(d)
		}
	}
	s.Done(ctx, stored)
	return nil // what was refused is not ready any more, and keeps nobody waiting
}

func (s *Settler) settled(ctx context.Context, id run.ID) bool {
	r, err := s.Queue.Get(ctx, id)
	return err == nil && r.State.Settled()
}

func (s *Settler) tell(d draft) {
	r := d.run
	s.Tell(run.Event{
		Kind: run.RunSettled, Run: r.ID, State: d.manifest.Outcome.State(), File: r.Dir,
		Count: r.Stored, Lost: r.Lost, Bytes: r.Bytes, Took: s.Now().Sub(r.HandedIn), Note: cmp.Or(r.GaveUp, r.ErrorMessage),
	})
}
