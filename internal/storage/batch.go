package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// From how many files, and from how many directories, one syncfs costs less than
// a sync of each; how many of those run at a time; and how long a file system
// whose syncfs failed gets only syncs of each, which tell whose bytes are bad.
const (
	filesForSyncFS = 8
	dirsForSyncFS  = 4
	syncsAtOnce    = 8
	syncFSPause    = 10 * time.Minute
	mostTries      = 20 // names tried for one asset
)

// group is the items of a batch on one file system. Nearly always a batch is one
// group; a volume that was swapped while parts were open makes two.
type group struct {
	items []*item
	top   *os.File // its storage.dir
	dirs  dirCache // through the first one's mount
	local bool     // syncfs can be used
}

// store brings a batch as far as it comes, in the order that design 4.1 demands:
// bytes on disk, queue `verified`, final names, directories on disk, queue
// `stored`. An item's failure is its own; the error is the queue's.
func (v *Volume) store(ctx context.Context, batch []*item) error {
	whole := context.WithoutCancel(ctx) // a batch that has begun is finished
	groups := v.groups(batch)
	defer func() {
		for _, g := range groups {
			g.top.Close()
			g.dirs.close()
		}
	}()
	for _, it := range batch {
		v.guard(it, func() error { return v.prepare(it) })
	}
	for _, g := range groups {
		v.syncParts(g)
	}
	for range mostTries {
		if err := v.name(ctx, well(batch, func(it *item) bool { return !it.verified })); err != nil {
			return err
		}
		for _, it := range well(batch, func(it *item) bool { return it.verified && !it.published }) {
			v.guard(it, func() error { it.dirs.trim(); return v.publish(whole, it) })
		}
		if len(well(batch, func(it *item) bool { return !it.published })) == 0 {
			break
		}
	}
	for _, it := range well(batch, func(it *item) bool { return !it.published }) {
		it.err = fmt.Errorf("asset %s: no free name below %s after %d tries", it.key, it.dir, mostTries)
	}
	for _, g := range groups {
		v.syncDirs(g)
	}
	if err := v.undo(whole, batch); err != nil {
		return err
	}
	return v.markStored(ctx, well(batch, func(it *item) bool { return it.published }))
}

// guard does one step for one item and keeps its error, and its panic, there.
func (v *Volume) guard(it *item, step func() error) {
	defer func() {
		if p := recover(); p != nil {
			v.panicked(p)
			it.err = fmt.Errorf("asset %s: panic while storing: %v", it.key, p)
		}
	}()
	if it.err == nil {
		it.err = step()
	}
}

// groups sorts a batch by file system and opens each one's root: before any of
// the renames that a syncfs through it is to cover.
func (v *Volume) groups(batch []*item) map[fileID]*group {
	groups := map[fileID]*group{}
	for _, it := range batch {
		v.guard(it, func() error {
			g := groups[it.m.id]
			if g == nil {
				top, err := (&folder{m: it.m, root: it.m.root, name: "."}).handle()
				if err != nil {
					return v.unusable(v.Dir, err)
				}
				g = &group{top: top, dirs: dirCache{m: it.m}}
				var st unix.Statfs_t
				err = durable.Uninterrupted(func() (err error) { st, err = v.sys.statfs(top); return err })
				g.local = err == nil && localFS(st) && v.sys.syncTold
				groups[it.m.id] = g
			}
			g.items, it.dirs = append(g.items, it), &g.dirs
			return nil
		})
	}
	return groups
}

// prepare gives a whole part its size and mode before its bytes are synced.
func (v *Volume) prepare(it *item) error {
	p := it.part
	if p == nil {
		return nil
	}
	if err := p.endSync(); err != nil {
		return err
	}
	if p.broken != nil {
		return p.broken
	}
	if p.size != it.whole.Size {
		it.distrust = true
		return fmt.Errorf("asset %s: its part has %d bytes and was handed over as %d", it.key, p.size, it.whole.Size)
	}
	if err := p.trim(); err != nil {
		return err
	}
	return v.explain("setting the mode of", p.path(), v.chmod(p.f, v.FileMode))
}

// syncParts puts the bytes of a group's parts on disk and closes them: P4.3, NFS
// tells of trouble at close, and P4.11, some cannot rename an open file. After a
// failed sync nothing is believed: that part, or with syncfs each of the group's,
// is fetched again from its first byte.
func (v *Volume) syncParts(g *group) {
	items := well(g.items, func(it *item) bool { return it.part != nil })
	if g.local && len(items) >= filesForSyncFS && time.Now().After(v.committer.noSyncFS) {
		// syncfs tells what went wrong since its descriptor was opened: it has to be
		// the one that was there before every other part's first byte.
		first := items[0].part
		for _, it := range items {
			if it.part.seq < first.seq {
				first = it.part
			}
		}
		if err := durable.Uninterrupted(func() error { return v.sys.syncFS(first.f) }); err != nil {
			v.committer.noSyncFS = time.Now().Add(syncFSPause)
			for _, it := range items {
				it.distrust, it.err = true, v.explain("syncing the file system of", it.part.path(), err)
			}
			return
		}
	} else {
		v.syncEach(items)
	}
	for _, it := range items {
		v.guard(it, func() error {
			err := v.sys.close(it.part.f)
			it.part.f = nil
			it.distrust = err != nil
			return v.explain("closing", it.part.path(), err)
		})
	}
}

// syncEach syncs each part by itself, and the directory that names them.
func (v *Volume) syncEach(items []*item) {
	each(items, func(it *item) {
		v.guard(it, func() error {
			err := v.sys.sync(it.part.f)
			it.distrust = err != nil
			return v.explain("syncing", it.part.path(), err)
		})
	})
	if items = well(items, func(*item) bool { return true }); len(items) > 0 {
		if err := items[0].m.syncDir(partsDir); err != nil {
			fail(items, err)
		}
	}
}

// each does something for all items, some at a time.
func each[T any](items []T, do func(T)) {
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, it := range items {
		g.Go(func() error { do(it); return nil })
	}
	g.Wait() //nolint:errcheck // there is none
}

// name finds each item a name that is free on disk and has the queue note it,
// with one commit for all. Those whose name the queue knows as another's stay
// unverified, with the next name to try.
func (v *Volume) name(ctx context.Context, items []*item) error {
	for _, it := range items {
		if err := v.lookUp(ctx, it); err != nil {
			return err
		}
		v.guard(it, func() error { it.dirs.trim(); return v.choose(context.WithoutCancel(ctx), it) })
	}
	items = well(items, func(*item) bool { return true })
	if len(items) == 0 {
		return nil
	}
	named := make([]run.Named, len(items))
	for i, it := range items {
		named[i] = run.Named{Whole: it.whole, File: it.file}
	}
	var errs []error
	err := v.record(ctx, func(ctx context.Context) (err error) {
		errs, err = v.deps.Ledger.Verified(ctx, named)
		return err
	})
	if err != nil {
		fail(items, err)
		return v.fatal(err)
	}
	for i, it := range items {
		switch {
		case errs[i] == nil:
			it.verified = true
		case errors.Is(errs[i], run.ErrNameTaken):
			it.try++
		default:
			it.err = fmt.Errorf("asset %s: noting it as verified: %w", it.key, errs[i])
		}
	}
	return nil
}

// lookUp reads what the queue says of the item's asset and run.
func (v *Volume) lookUp(ctx context.Context, it *item) error {
	if it.err != nil || it.dir != "" {
		return nil
	}
	var err error
	it.asset, it.dir, err = v.ask(ctx, it.key)
	if err != nil {
		it.err = fmt.Errorf("asset %s: %w", it.key, err)
		return v.fatal(err)
	}
	return nil
}

// ask is an asset with its run's directory, which is chosen where none is.
func (v *Volume) ask(ctx context.Context, key run.Key) (run.Asset, string, error) {
	ctx = context.WithoutCancel(ctx)
	a, err := v.deps.Ledger.Asset(ctx, key)
	if err != nil {
		return a, "", err
	}
	r, err := v.deps.Ledger.Get(ctx, key.Run)
	if err != nil || r.Dir != "" {
		return a, r.Dir, err
	}
	dir, err := v.deps.Ledger.Place(ctx, r.ID, v.DirFor(r))
	return a, dir, err
}

// syncDirs puts the names of a group's published items on disk: of each file in its
// directory, and of each directory in its parent, up to storage.dir, as one that
// was made before a crash may not be there yet.
func (v *Volume) syncDirs(g *group) {
	items := well(g.items, func(it *item) bool { return it.published })
	dirs := map[string][]*item{}
	for _, it := range items {
		for dir := path.Dir(path.Join(it.dir, it.file)); ; dir = path.Dir(dir) {
			dirs[dir] = append(dirs[dir], it)
			if dir == "." {
				break
			}
		}
	}
	if g.local && len(dirs) >= dirsForSyncFS && time.Now().After(v.committer.noSyncFS) {
		if err := durable.Uninterrupted(func() error { return v.sys.syncFS(g.top) }); err != nil {
			v.committer.noSyncFS = time.Now().Add(syncFSPause)
			fail(items, v.explain("syncing the file system of", v.Dir, err))
		}
		return
	}
	for dir, its := range dirs {
		if err := its[0].m.syncDir(dir); err != nil {
			fail(its, err)
		}
	}
}

// undo has the queue forget as verified what turned out not to be there.
func (v *Volume) undo(ctx context.Context, batch []*item) error {
	for _, it := range batch {
		if !it.verified || !it.distrust {
			continue
		}
		if err := v.requeue(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// requeue sets a verified item back to waiting. Its own error says why.
func (v *Volume) requeue(ctx context.Context, it *item) error {
	_, err := v.deps.Ledger.Again(context.WithoutCancel(ctx), it.key, it.err.Error())
	if err != nil && !gone(err) {
		return v.fatal(err) // it stays verified and is looked at later
	}
	it.verified = false
	return nil
}

// markStored notes all that are under their names as stored, with one commit.
func (v *Volume) markStored(ctx context.Context, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	keys := make([]run.Key, len(items))
	for i, it := range items {
		keys[i] = it.key
	}
	var ready []run.ID
	err := v.record(ctx, func(ctx context.Context) (err error) {
		ready, err = v.deps.Ledger.Stored(ctx, keys)
		return err
	})
	if len(ready) > 0 { // also where one of the others was refused
		v.deps.Ready(ready)
	}
	switch {
	case err == nil:
		for _, it := range items {
			it.stored = true
		}
		return nil
	case gone(err) && len(items) > 1: // one of them: ask for each
		for _, it := range items {
			if err := v.markStored(ctx, []*item{it}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, it := range items {
		it.err = fmt.Errorf("asset %s: noting it as stored: %w", it.key, err)
	}
	return v.fatal(err)
}

// record has the queue note something for a whole batch. What has begun is not cut
// off by the end of ctx; while the queue cannot be written (its disk is full) it is
// tried again until ctx ends: these bytes are whole, and nothing can go on without
// the queue.
func (v *Volume) record(ctx context.Context, do func(context.Context) error) error {
	for failures := 1; ; failures++ {
		err := do(context.WithoutCancel(ctx))
		if err == nil || gone(err) || ctx.Err() != nil || v.deps.Broken(err) {
			return err
		}
		v.deps.Tell(run.Event{Kind: run.QueueTrouble, Err: err, Hint: "whole assets wait for it"})
		clock.Sleep(ctx, backoff.Delay(failures, firstDelay, longSleep), nil)
	}
}

// fatal is the error where the queue cannot go on, else nil.
func (v *Volume) fatal(err error) error {
	if v.deps.Broken(err) {
		return fmt.Errorf("storing assets: %w", err)
	}
	return nil
}
