// Package maintenance keeps the daemon's data in order over time: it copies the queue and
// restores it from a copy, and removes settled runs and drop files that are old.
//
// It guarantees that a damaged or missing queue is never replaced by an empty one while
// there are copies, that no drop file is removed before a good copy of the queue has its
// runs, and that nothing is removed while the clock cannot be trusted.
package maintenance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
)

const (
	// backupCheck is how often Backups looks whether a copy is due, at most.
	backupCheck = time.Minute
	// backupRetry is how long it waits after a failure, at most.
	backupRetry = 5 * time.Minute
)

// Backups copies the queue while it is in use, and keeps the newest copies. It is safe for
// concurrent use.
type Backups struct {
	queue *queue.Queue
	dir   string
	cfg   config.Backup
	keep  func() time.Duration // drop.keep: a drop file is removed only once a copy has its runs
	emit  run.Tell

	copying sync.Mutex                // held while a copy is made; guards retry and trouble
	retry   time.Time                 // no copy before
	trouble string                    // as reported last
	newest  atomic.Pointer[time.Time] // when the newest good copy was begun; nil: there is none
}

// NewBackups returns the Backups of a configuration's queue. keep returns drop.keep as it
// is at the moment.
func NewBackups(c *config.Config, q *queue.Queue, keep func() time.Duration, emit run.Tell) *Backups {
	return &Backups{queue: q, dir: boltkv.BackupDir(c.State.Dir), cfg: c.Backup, keep: keep, emit: emit}
}

// interval returns how often a copy is made.
func (b *Backups) interval() time.Duration {
	return min(b.cfg.Interval, max(b.keep(), backupCheck))
}

// Run makes a copy whenever one is due, until ctx ends. It returns nil.
func (b *Backups) Run(ctx context.Context) error {
	if err := b.tidy(); err != nil {
		b.emit(run.Event{Kind: run.BackupTrouble, File: b.dir, Err: err, Note: "what a crash left there could not be removed"})
	}
	tick := time.NewTicker(min(b.cfg.Interval, backupCheck))
	defer tick.Stop()
	for ctx.Err() == nil {
		b.copyIfDue(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// copyIfDue makes a copy if the newest one is too old, or from the future: then it was made
// when the clock was wrong.
func (b *Backups) copyIfDue(ctx context.Context) {
	b.copying.Lock()
	defer b.copying.Unlock()
	now := time.Now()
	if now.Before(b.retry) {
		return
	}
	made, err := b.copyAndPrune(ctx, now)
	if ctx.Err() != nil {
		return
	}
	if made.Path != "" {
		b.newest.Store(&made.At)
	}
	switch {
	case err != nil:
		b.retry = now.Add(min(backupRetry, b.interval()))
		if b.trouble == "" {
			b.emit(backupTrouble(b.dir, err))
		}
		b.trouble = err.Error()
	case made.Path != "":
		if b.trouble != "" {
			b.emit(run.Event{Kind: run.BackupBack, File: made.Path})
		}
		b.trouble = ""
		b.emit(run.Event{Kind: run.BackupMade, File: made.Path, Count: made.Runs, Bytes: made.Size, Took: time.Since(now)})
	}
}

func backupTrouble(dir string, err error) run.Event {
	e := run.Event{Kind: run.BackupTrouble, File: dir, Err: err, Note: "the older copies stay; it is tried again"}
	if errors.Is(err, boltkv.ErrNoRoomForCopy) {
		e.Kind, e.Hint = run.BackupSkipped, "free space there"
	}
	return e
}

// copyAndPrune makes a copy if one is due, and removes those that are no longer kept. The
// lock is held.
func (b *Backups) copyAndPrune(ctx context.Context, now time.Time) (made queue.Copy, err error) {
	if _, err := durable.MkdirAll(b.dir, 0o700); err != nil {
		return made, err
	}
	copies, err := boltkv.Copies(b.dir, now)
	if err != nil {
		return made, err
	}
	if len(copies) > 0 {
		if age := now.Sub(copies[0].At); age >= 0 && age < b.interval() {
			b.newest.CompareAndSwap(nil, &copies[0].At) // made before this start, and good when it was made
			return made, nil
		}
	}
	if made, err = b.queue.Backup(ctx, boltkv.CopyPath(b.dir, now)); err != nil {
		return made, err
	}
	return made, boltkv.Prune(b.dir, now, b.cfg.Keep)
}

// Covered returns when the newest good copy was begun: it has everything that was durable
// then. It does not wait for a copy that is being made.
func (b *Backups) Covered() time.Time {
	if at := b.newest.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Copy returns a copy of the queue as it is at this moment. The file has no name any more,
// so that a crash cannot leave it behind.
func (b *Backups) Copy(ctx context.Context) (*os.File, error) {
	b.copying.Lock()
	defer b.copying.Unlock()
	if _, err := durable.MkdirAll(b.dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, onRequest)
	made, err := b.queue.Backup(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("no copy was made: %w", err)
	}
	f, err := os.Open(made.Path)
	return f, errors.Join(err, os.Remove(made.Path))
}

// onRequest is the name of a copy that Copy makes, for a moment.
const onRequest = "by-hand.db"

// tidy removes the copies that a crash left incomplete.
func (b *Backups) tidy() error {
	b.copying.Lock()
	defer b.copying.Unlock()
	path := filepath.Join(b.dir, onRequest)
	var failed []error
	for _, name := range []string{path, boltkv.HalfCopy(path)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(append(failed, boltkv.Prune(b.dir, time.Now(), b.cfg.Keep))...)
}
