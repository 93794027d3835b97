package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/verify"
	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// Care does what people want done to runs: try them again, forget them, mark what
// was found damaged. A daemon does it while its stages work, a command on the queue
// itself where none runs (OpenCare). Safe for concurrent use.
type Care struct {
	queue  *queue.Queue
	volume *storage.Volume
	tell   run.Tell
	anew   func(run.ID) // it is due, and nothing that was before counts
	forget func(run.ID) // nothing is fetched for it any more
	left   func()       // there is something to clear

	// One thing at a time is done to a run: a second retry must not move what the
	// first has brought.
	locks runLocks
}

func newCare(e *pipeline.Pipeline, tell run.Tell, left func()) *Care {
	return &Care{
		queue: e.Queue, volume: e.Volume, tell: tell, left: left,
		anew:   func(id run.ID) { e.Poller.Forget(id); e.Poller.Wake() },
		forget: func(id run.ID) { e.Pool.Forget(id); e.Poller.Forget(id) },
	}
}

// OpenCare opens the queue for one that is not a daemon; fs.ErrNotExist says that
// there is none yet, queue.ErrLocked that a daemon has it.
func OpenCare(c *config.Config) (*Care, error) {
	if err := mayWrite(c.State.Dir); err != nil {
		return nil, err
	}
	q, err := queue.Open(c.State.Dir, queue.Options{})
	if err != nil {
		return nil, err
	}
	nobody := func(run.Event) {}
	v, err := storage.New(pipeline.StorageConfig(c), storage.Deps{
		Ledger: q, Ready: func([]run.ID) {}, Broken: func(error) bool { return false }, Tell: nobody,
	})
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return &Care{queue: q, volume: v, tell: nobody, anew: func(run.ID) {}, forget: func(run.ID) {}, left: func() {}}, nil
}

// mayWrite refuses root what would become root's: a queue that is made anew on the
// way belongs to who did that, and its daemon could not open it any more.
func mayWrite(stateDir string) error {
	file := filepath.Join(stateDir, "queue.db")
	info, err := os.Stat(file)
	if err != nil {
		return err // fs.ErrNotExist: no queue is made for this
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); ok && uid == 0 && st.Uid != 0 {
		return fmt.Errorf("%s belongs to uid %d: start the daemon, or do this as that user, like: setpriv --reuid %d --regid %d --clear-groups assetd …", file, st.Uid, st.Uid, st.Gid)
	}
	return nil
}

// Close closes the queue of an OpenCare.
func (c *Care) Close() error { return c.queue.Close() }

// Retry tries a settled run once more. It looks at the run's files first: what is
// missing or has another size is marked, as verify does it. What is marked is put into
// quarantine, so that its name is free when it is fetched again: where the volume is
// offline such a run stays as it is, with its marks, and the error is
// run.ErrVolumeOffline. A run that is open is tried anyway, and one that is stored
// whole has nothing to try: both are left as they are.
func (c *Care) Retry(ctx context.Context, id run.ID) (done run.Retried, err error) {
	defer c.locks.lock(id)()
	if done.Run, err = c.queue.Get(ctx, id); err != nil {
		return done, err
	}
	if !done.Run.State.Settled() {
		return done, nil
	}
	if done.Run, err = c.look(ctx, done.Run); err != nil {
		return done, err
	}
	if r := done.Run; r.State == run.StoredRun && !r.Repairable() {
		return done, nil
	}
	// From here on it is finished: who asked may be gone.
	ctx = context.WithoutCancel(ctx)
	aside, err := c.putAside(ctx, done.Run)
	if err != nil {
		return done, err
	}
	for _, file := range aside {
		done.Aside = append(done.Aside, file)
	}
	done.Tried, done.Lost, done.Damaged = true, done.Run.Lost, done.Run.Marked
	if err := c.queue.Retry(ctx, id, aside); err != nil {
		return done, err
	}
	if now, err := c.queue.Get(ctx, id); err == nil {
		done.Run = now
	}
	c.tell(run.Event{Kind: run.RunRetried, Run: id, State: done.Run.State, Count: done.Lost + done.Damaged})
	c.anew(id)
	return done, nil
}

// look marks what is missing of a settled run, or has another size than was stored, and
// returns the run as it is then. An offline volume is no error where it keeps nothing
// from being tried.
func (c *Care) look(ctx context.Context, r run.Run) (run.Run, error) {
	err := c.volume.Check() // does not hang
	if err == nil {
		var found []run.Finding
		if found, err = c.missing(ctx, r); err == nil && len(found) > 0 {
			err = c.queue.Mark(ctx, r.ID, r.Revision, found)
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
	return c.queue.Get(ctx, r.ID)
}

// missing is what is not as it was stored, by name and size.
func (c *Care) missing(ctx context.Context, r run.Run) (found []run.Finding, err error) {
	if r.Dir == "" {
		return nil, nil
	}
	assets, err := c.queue.Assets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	names := []string{manifest.File}
	if r.Stored > 0 {
		names = append(names, manifest.SumsFile)
	}
	records := len(names)
	for _, a := range assets {
		if a.State == run.AssetStored {
			names = append(names, a.Stored.File)
		}
	}
	sizes, err := c.volume.Sizes(ctx, r.Dir, names)
	if err != nil {
		return nil, err
	}
	for _, name := range names[:records] {
		if _, there := sizes[name]; !there && r.BadRecord == "" {
			found = append(found, run.Finding{Key: run.Key{Run: r.ID}, Damage: fmt.Sprintf("%s: %s is missing", verify.Missing, name)})
		}
	}
	for _, a := range assets {
		if a.State != run.AssetStored || a.Marked {
			continue
		}
		size, there := sizes[a.Stored.File]
		switch {
		case !there:
			found = append(found, run.Finding{Key: a.Key, Damage: fmt.Sprintf("%s: the file is not there", verify.Missing)})
		case size != a.Stored.Size:
			found = append(found, run.Finding{Key: a.Key, Damage: fmt.Sprintf("%s: %d bytes, %d were stored", verify.Damaged, size, a.Stored.Size)})
		}
	}
	return found, nil
}

// putAside moves the run's damaged files into quarantine. It may have been done
// before, in part, by a call that did not come to its end.
func (c *Care) putAside(ctx context.Context, r run.Run) (map[run.Key]string, error) {
	if r.Marked == 0 {
		return nil, nil
	}
	assets, err := c.queue.Assets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	aside := map[run.Key]string{}
	for _, a := range assets {
		if !a.Marked || a.Stored == nil {
			continue
		}
		file, err := c.volume.Aside(ctx, a.Key, r.Dir, a.Stored.File)
		if err != nil {
			return nil, fmt.Errorf("asset %s: putting the damaged file aside: %w", a.Key, err)
		}
		if file != "" {
			aside[a.Key] = file
		}
	}
	return aside, nil
}

// Remove forgets a run. Its files stay; what else lies of it on the volume goes at
// once, or as soon as the volume is there and nothing uses it any more.
func (c *Care) Remove(ctx context.Context, id run.ID, force bool) (was run.Run, err error) {
	defer c.locks.lock(id)()
	if was, err = c.queue.Get(ctx, id); err != nil {
		return was, err
	}
	if err := c.queue.Remove(ctx, id, force); err != nil {
		return was, err
	}
	c.forget(id)
	c.left()
	c.tell(run.Event{Kind: run.RunRemoved, Run: id, State: was.State, File: was.Dir, Note: "its files stay"})
	return was, nil
}

// Mark records what verify found.
func (c *Care) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	defer c.locks.lock(id)()
	return c.queue.Mark(ctx, id, revision, found)
}

// Volume is where the daemon stores.
func (c *Care) Volume() server.Volume {
	return server.Volume{Dir: c.volume.Dir, Mounted: c.volume.Mounted, Queue: c.queue.ID()}
}

// Each calls f with every run of the queue, in the order of their IDs.
func (c *Care) Each(ctx context.Context, f func(run.Run) error) error {
	for after := run.ID(""); ; {
		runs, err := c.queue.List(ctx, "", after, 1000)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			if err := f(r); err != nil {
				return err
			}
			after = r.ID
		}
	}
}

// clearStep is how many assets are cleared at a time.
const clearStep = 1000

// Clear removes from the volume what removed runs have left there. What is in use
// at this moment is left to the next call.
func (c *Care) Clear(ctx context.Context) error {
	for {
		hashes, err := c.queue.Leftovers(ctx, clearStep)
		if err != nil || len(hashes) == 0 {
			return err
		}
		busy, err := c.volume.Clear(ctx, hashes)
		if err != nil {
			return err
		}
		used := make(map[string]bool, len(busy))
		for _, hash := range busy {
			used[hash] = true
		}
		cleared := hashes[:0]
		for _, hash := range hashes {
			if !used[hash] {
				cleared = append(cleared, hash)
			}
		}
		if len(cleared) == 0 {
			return nil
		}
		if err := c.queue.Cleared(ctx, cleared); err != nil {
			return err
		}
	}
}

// NoQueue reports whether the error of OpenCare says that nothing was ever handed
// in.
func NoQueue(err error) bool { return errors.Is(err, fs.ErrNotExist) }
