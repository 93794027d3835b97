package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
)

// committer is the state of the assets on their way to a final name.
type committer struct {
	slots   chan struct{} // a token for each asset that holds descriptors here
	stopped chan struct{}
	wake    chan struct{} // for Run's first loop: something waits
	recheck chan struct{} // for its second: something is to be looked at again

	mu      sync.Mutex
	waiting []*item // whole parts, open
	later   []*item // verified by the queue, closed, to be looked at when due
	ended   error   // why Run has ended

	noSyncFS time.Time // until then no syncfs: one failed; the first loop's own
}

// mostWaiting bounds the assets that hold descriptors in the committer, two each, and
// so the size of a batch.
const mostWaiting = 128

// The retry delay of an asset that the queue has as verified and that cannot get its
// final name, and the longest sleep of the second loop.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	longSleep  = 30 * time.Second
)

var errStopped = errors.New("storage has stopped")

func (k *committer) init() {
	k.slots = make(chan struct{}, slots())
	k.stopped = make(chan struct{})
	k.wake, k.recheck = make(chan struct{}, 1), make(chan struct{}, 1)
}

// slots leaves most of the descriptors to transfers.
func slots() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return mostWaiting
	}
	return int(min(max(limit.Cur/16, 4), mostWaiting))
}

// item is one asset in the committer.
type item struct {
	key  run.Key
	hash string
	done func(error)

	m           *mount    // the asset's own; nil while it waits for later
	dirs        *dirCache // its batch's
	part        *Part     // nil where it came by Resume or Confirm
	provisional bool      // by Confirm: it is waiting in the queue, and provisional
	from        string    // the extension of the file in .assetd/parts that holds its bytes
	whole       run.Whole

	asset     run.Asset
	dir       string // of the run, below storage.dir
	file      string // the name chosen, below dir
	try       int    // of the names that could be chosen
	verified  bool   // the queue has it under file
	published bool   // it is there
	stored    bool   // the queue has it as stored
	distrust  bool   // its bytes must be written again

	err    error
	delays int // how often it was put off
	due    time.Time
	volume bool // it waits for the volume, or for free space there
}

// Keep ends the part and passes the asset to the committer: its bytes are whole, as w
// says. It returns at once, but blocks while too many wait there already. done is
// called exactly once, from another goroutine or, where the committer has ended, from
// here: with nil when the asset is stored; else the asset is not, is waiting in the
// queue, and has to be fetched once more, with run.ErrNoRoom or
// run.ErrVolumeOffline where that is why, or run.ErrStale or run.ErrUnknown where
// the queue no longer wants it. It must return quickly.
func (p *Part) Keep(w run.Whole, done func(error)) {
	v := p.v
	it := &item{key: p.key, hash: p.hash, done: done, m: p.m, part: p, from: partExt, whole: w}
	switch {
	case p.closed:
		it.part = nil // it has left everything already
		it.call(v, errClosed)
		return
	case w.Key != p.key:
		it.err = fmt.Errorf("asset %s: its part was handed over as that of %s", p.key, w.Key)
	}
	p.closed = true
	select {
	case v.committer.slots <- struct{}{}:
	case <-v.committer.stopped:
		it.err = errors.Join(it.err, errStopped)
		v.shut(it)
		v.release(it.hash)
		it.call(v, it.err)
		return
	}
	v.push(it)
}

// Resume goes on with an asset that the queue has as verified since an earlier
// life of the daemon: its part or its file is compared with what the queue knows,
// without asking a server. done is as in Keep. It never blocks.
func (v *Volume) Resume(a run.Asset, done func(error)) {
	v.takeUp(&item{key: a.Key, hash: a.Key.Hash(), done: done, from: partExt})
}

// Confirm gives provisional bytes (Part.KeepProvisional) their final name: they are
// what w says, which is compared first. done is as in Keep; where the bytes are not
// there the queue has forgotten them when it is called. It never blocks.
func (v *Volume) Confirm(w run.Whole, done func(error)) {
	v.takeUp(&item{key: w.Key, hash: w.Key.Hash(), done: done, provisional: true, from: provisionalExt, whole: w})
}

// takeUp puts an item among the later ones whose bytes have to be compared.
func (v *Volume) takeUp(it *item) {
	if !v.claim(it.hash) {
		it.call(v, fmt.Errorf("asset %s: its part is still in use", it.key))
		return
	}
	v.postpone(it)
}

// Wake looks at once at the assets that wait for the volume or for free space. Others,
// whose own names make trouble, keep their pace: each look reads a whole file.
func (v *Volume) Wake() {
	v.committer.mu.Lock()
	for _, it := range v.committer.later {
		if it.volume {
			it.due = time.Time{}
		}
	}
	v.committer.mu.Unlock()
	signal(v.committer.recheck)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push passes on an item that holds a slot.
func (v *Volume) push(it *item) {
	k := &v.committer
	k.mu.Lock()
	ended := k.ended
	if ended == nil {
		k.waiting = append(k.waiting, it)
	}
	k.mu.Unlock()
	if ended != nil {
		it.err = ended
		v.finish(it)
		return
	}
	signal(k.wake)
}

// postpone puts an item that holds neither slot nor descriptor among the later
// ones.
func (v *Volume) postpone(it *item) {
	k := &v.committer
	k.mu.Lock()
	ended := k.ended
	if ended == nil {
		k.later = append(k.later, it)
	}
	k.mu.Unlock()
	if ended != nil {
		v.release(it.hash)
		it.call(v, ended)
		return
	}
	signal(k.recheck)
}

// Run is the committer's loop: it gives whole assets their names, in batches that
// share syncs and commits, until ctx ends; what was passed before that is
// finished first. It returns an error only when the queue cannot go on.
func (v *Volume) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return v.commitLoop(inner) })
	g.Go(func() error { return v.resumeLoop(inner) })
	err := g.Wait()
	v.stop(err)
	return err
}

func (v *Volume) commitLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return v.commitBatch(ctx)
		case <-v.committer.wake:
			if err := v.commitBatch(ctx); err != nil {
				return err
			}
		}
	}
}

// stop ends everything that still waits. What is verified goes on after a restart.
func (v *Volume) stop(err error) {
	k := &v.committer
	if err == nil {
		err = errStopped
	}
	k.mu.Lock()
	waiting, later := k.waiting, k.later
	k.waiting, k.later, k.ended = nil, nil, err
	k.mu.Unlock()
	close(k.stopped)
	for _, it := range waiting {
		it.err = err
		v.finish(it)
	}
	for _, it := range later {
		v.release(it.hash)
		it.call(v, err)
	}
}

// keepBatch takes all that wait and brings them as far as they come.
func (v *Volume) commitBatch(ctx context.Context) (err error) {
	k := &v.committer
	k.mu.Lock()
	batch := k.waiting
	k.waiting = nil
	k.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	defer func() {
		cause := err
		if p := recover(); p != nil {
			v.panicked(p)
			cause = fmt.Errorf("panic while storing: %v", p)
		}
		for _, it := range batch {
			if !it.stored && it.err == nil { // only the queue's word makes it stored
				it.err = cmp.Or(cause, errStopped)
			}
			v.finish(it)
		}
	}()
	return v.store(ctx, batch)
}

func (v *Volume) panicked(p any) {
	v.deps.Tell(run.Event{Kind: run.StageRecovered, Err: fmt.Errorf("storage: %v", p), Note: string(debug.Stack())})
}

// finish takes an item out of the committer: stored, or to be fetched again, or put
// off where only its name is missing.
func (v *Volume) finish(it *item) {
	later := !it.stored && it.verified && !gone(it.err) && v.committer.running()
	v.shut(it)
	<-v.committer.slots
	if !later {
		v.release(it.hash)
		it.call(v, it.err)
		return
	}
	v.putOff(it)
}

// putOff lets a verified item wait, longer each time.
func (v *Volume) putOff(it *item) {
	it.volume = errors.Is(it.err, run.ErrVolumeOffline) || errors.Is(it.err, run.ErrNoRoom)
	// A volume that is offline is reported by its watcher; a full one by nobody,
	// where nothing is being fetched.
	if it.delays == 0 && !errors.Is(it.err, run.ErrVolumeOffline) && !errors.Is(it.err, context.Canceled) {
		v.deps.Tell(run.Event{
			Kind: NameTrouble, Run: it.key.Run, Asset: it.key, File: it.dir + "/" + it.file, Err: it.err,
			Hint: "its bytes are whole and on disk; it is tried again until this is mended",
		})
	}
	it.delays++
	it.due = time.Now().Add(backoff.Delay(it.delays, firstDelay, maxDelay))
	it.part, it.published, it.err = nil, false, nil
	v.postpone(it)
}

func (k *committer) running() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended == nil
}

// gone reports whether the queue no longer wants the asset as it was.
func gone(err error) bool { return errors.Is(err, run.ErrStale) || errors.Is(err, run.ErrUnknown) }

// shut closes what the item has open. A part that is not stored stays where it
// can be resumed, or where the queue has it as verified.
func (v *Volume) shut(it *item) {
	p := it.part
	if it.stored && it.asset.Provisional != nil && it.from != provisionalExt {
		it.m.dropProvisional(it.hash) //nolint:errcheck // Sweep takes it
	}
	switch {
	case p == nil:
		if it.m != nil {
			it.m.close()
		}
		it.m = nil
		return
	case it.stored:
		p.removeSidecar() //nolint:errcheck // it fits nothing any more; Sweep takes it
	case it.distrust:
		p.drop() //nolint:errcheck // the item's own error is returned
	case !it.verified && p.f != nil:
		p.shelve() //nolint:errcheck // the item's own error is returned
	case !it.verified && p.sidecar == nil:
		p.drop() //nolint:errcheck // it could not be resumed
	}
	p.shut()
	it.m = nil
}

func (it *item) call(v *Volume, err error) {
	defer func() {
		if p := recover(); p != nil {
			v.panicked(p)
		}
	}()
	it.done(err)
}

// fail gives an error to all that have none yet.
func fail(items []*item, err error) {
	for _, it := range items {
		if it.err == nil {
			it.err = err
		}
	}
}

// well is the items without an error so far for which want holds.
func well(items []*item, want func(*item) bool) []*item {
	return slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.err != nil || !want(it) })
}
