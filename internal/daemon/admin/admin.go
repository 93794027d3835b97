// Package admin does what people ask for: it retries runs, removes them, marks damaged
// files, and adopts a volume.
//
// The daemon does it while its stages work; a command does it on the queue file while no
// daemon runs. One operation is done to a run at a time.
package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// Deps are what an Admin works on, and whom it notifies.
type Deps struct {
	Queue  *queue.Queue
	Volume *storage.Volume

	// Each may be nil.
	Emit     run.Tell     // takes what was done
	Retried  func(run.ID) // the run is due at once
	Removed  func(run.ID) // nothing is fetched for the run any more
	Leftover func()       // Clear has something to remove
}

// Admin changes runs. It is safe for concurrent use.
type Admin struct {
	queue  *queue.Queue
	volume *storage.Volume
	deps   Deps

	// A second retry must not move the files that the first one has fetched.
	locks runLocks
}

// New returns an Admin over an open queue and its volume.
func New(d Deps) *Admin {
	if d.Emit == nil {
		d.Emit = func(run.Event) {}
	}
	if d.Retried == nil {
		d.Retried = func(run.ID) {}
	}
	if d.Removed == nil {
		d.Removed = func(run.ID) {}
	}
	if d.Leftover == nil {
		d.Leftover = func() {}
	}
	return &Admin{queue: d.Queue, volume: d.Volume, deps: d}
}

// Open opens the queue of a configuration for a command. The error is fs.ErrNotExist where
// nothing was ever added, and boltkv.ErrLocked where a daemon has the queue. The caller
// closes the Admin.
func Open(c *config.Config) (*Admin, error) {
	if err := refuseRoot(boltkv.Path(c.State.Dir)); err != nil {
		return nil, err
	}
	q, err := queue.Open(c.State.Dir, queue.Options{})
	if err != nil {
		return nil, err
	}
	v, err := OpenVolume(c, q)
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return New(Deps{Queue: q, Volume: v}), nil
}

// OpenVolume opens the volume of a queue on which no stages run.
func OpenVolume(c *config.Config, q *queue.Queue) (*storage.Volume, error) {
	return storage.New(pipeline.StorageConfig(c), storage.Deps{
		Ledger: q, Ready: func([]run.ID) {}, Broken: func(error) bool { return false }, Tell: func(run.Event) {},
	})
}

// refuseRoot refuses root the queue of another user: a queue that is written again on the
// way would belong to root, and the daemon could not open it any more.
func refuseRoot(file string) error {
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

// Close closes the queue of an Admin that Open returned.
func (a *Admin) Close() error { return a.queue.Close() }

// Remove removes a run from the queue and returns it as it was. Its stored files stay; its
// parts and other leftovers are removed by Clear. The error is run.ErrUnknown, or
// run.ErrOpenRun where the run has not settled and force is false.
func (a *Admin) Remove(ctx context.Context, id run.ID, force bool) (was run.Run, err error) {
	defer a.locks.lock(id)()
	if was, err = a.queue.Get(ctx, id); err != nil {
		return was, err
	}
	if err := a.queue.Remove(ctx, id, force); err != nil {
		return was, err
	}
	a.deps.Removed(id)
	a.deps.Leftover()
	a.deps.Emit(run.Event{Kind: run.RunRemoved, Run: id, State: was.State, File: was.Dir, Note: "its files stay"})
	return was, nil
}

// clearPage is how many assets are cleared at a time.
const clearPage = 1000

// Clear removes from the volume what removed runs have left there. What is in use at this
// moment is left to the next call.
func (a *Admin) Clear(ctx context.Context) error {
	for {
		hashes, err := a.queue.Leftovers(ctx, clearPage)
		if err != nil || len(hashes) == 0 {
			return err
		}
		busy, err := a.volume.Clear(ctx, hashes)
		if err != nil {
			return err
		}
		inUse := make(map[string]bool, len(busy))
		for _, hash := range busy {
			inUse[hash] = true
		}
		cleared := hashes[:0]
		for _, hash := range hashes {
			if !inUse[hash] {
				cleared = append(cleared, hash)
			}
		}
		if len(cleared) == 0 {
			return nil
		}
		if err := a.queue.Cleared(ctx, cleared); err != nil {
			return err
		}
	}
}

// Mark records what verify found of a run as it was with that revision. The error is
// run.ErrUnknown, or run.ErrStale where the run has changed since.
func (a *Admin) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	defer a.locks.lock(id)()
	return a.queue.Mark(ctx, id, revision, found)
}

// Volume describes the volume that files are stored on, for assetd verify.
func (a *Admin) Volume() server.Volume {
	return server.Volume{Dir: a.volume.Dir, Mounted: a.volume.Mounted, Queue: a.queue.ID()}
}

// listPage is how many runs are read at a time.
const listPage = 1000

// Each calls f with every run of the queue, in the order of their IDs, until f fails.
func (a *Admin) Each(ctx context.Context, f func(run.Run) error) error {
	for after := run.ID(""); ; {
		runs, err := a.queue.List(ctx, "", after, listPage)
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
