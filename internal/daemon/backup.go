package daemon

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
	"github.com/assetd/assetd/internal/run"
)

// How often it is looked whether a copy is due, at most; how long one that failed is
// not tried again.
const (
	backupLook  = time.Minute
	backupAgain = 5 * time.Minute
)

// backups makes copies of the queue while it is used, and keeps the newest few.
type backups struct {
	queue *queue.Queue
	dir   string
	cfg   config.Backup
	keep  func() time.Duration // drop.keep: a drop file may go when a copy has its runs
	due   chan struct{}
	tell  run.Tell

	copying sync.Mutex                // one copy at a time; guards retry and trouble
	retry   time.Time                 // not before
	trouble string                    // reported last
	newest  atomic.Pointer[time.Time] // when the newest good copy was begun; nil: there is none
}

// interval is how often a copy is made.
func (b *backups) interval() time.Duration {
	return min(b.cfg.Interval, max(b.keep(), backupLook))
}

// run makes a copy whenever one is due, until ctx ends.
func (b *backups) run(ctx context.Context) error {
	if err := b.tidy(); err != nil {
		b.tell(run.Event{Kind: run.BackupTrouble, File: b.dir, Err: err, Note: "what a crash left there could not be removed"})
	}
	signal(b.due) // the last one may be from before a long stop
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.due:
		}
		b.look(ctx)
	}
}

// look makes a copy where the newest one is too old, or from the future: then it was
// made when the clock was wrong.
func (b *backups) look(ctx context.Context) {
	b.copying.Lock()
	defer b.copying.Unlock()
	now := time.Now()
	if now.Before(b.retry) {
		return
	}
	made, err := b.copyDue(ctx, now)
	if ctx.Err() != nil {
		return
	}
	if made.Path != "" {
		b.newest.Store(&made.At)
	}
	switch {
	case err != nil:
		b.retry = now.Add(min(backupAgain, b.interval()))
		if b.trouble == "" {
			b.tell(backupTrouble(b.dir, err))
		}
		b.trouble = err.Error()
	case made.Path != "":
		if b.trouble != "" {
			b.tell(run.Event{Kind: run.BackupBack, File: made.Path})
		}
		b.trouble = ""
		b.tell(run.Event{Kind: run.BackupMade, File: made.Path, Count: made.Runs, Bytes: made.Size, Took: time.Since(now)})
	}
}

func backupTrouble(dir string, err error) run.Event {
	e := run.Event{Kind: run.BackupTrouble, File: dir, Err: err, Note: "the older copies stay; it is tried again"}
	if errors.Is(err, queue.ErrNoRoomForCopy) {
		e.Kind, e.Hint = run.BackupSkipped, "free space there"
	}
	return e
}

// copyDue makes a copy if it is time, and removes what is no longer kept. The lock is
// held.
func (b *backups) copyDue(ctx context.Context, now time.Time) (made queue.Copy, err error) {
	if _, err := durable.MkdirAll(b.dir, 0o700); err != nil {
		return made, err
	}
	copies, err := queue.Copies(b.dir, now)
	if err != nil {
		return made, err
	}
	if len(copies) > 0 {
		if age := now.Sub(copies[0].At); age >= 0 && age < b.interval() {
			b.newest.CompareAndSwap(nil, &copies[0].At) // made before this start, and good when it was made
			return made, nil
		}
	}
	if made, err = b.queue.Backup(ctx, queue.CopyPath(b.dir, now)); err != nil {
		return made, err
	}
	return made, queue.Prune(b.dir, now, b.cfg.Keep)
}

// covered is when the newest good copy was begun: all that was durable then is in it. It
// does not wait for a copy under way: retention asks, and must go on.
func (b *backups) covered() time.Time {
	if at := b.newest.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Copy is a copy of the queue as it is at this moment, for the server. The file has
// no name any more, so that no crash can leave it.
func (b *backups) Copy(ctx context.Context) (*os.File, error) {
	b.copying.Lock()
	defer b.copying.Unlock()
	if _, err := durable.MkdirAll(b.dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, byHand)
	made, err := b.queue.Backup(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("no copy was made: %w", err)
	}
	f, err := os.Open(made.Path)
	return f, errors.Join(err, os.Remove(made.Path))
}

// byHand is where a copy stands for a moment that somebody asked for.
const byHand = "by-hand.db"

// tidy removes what a crash left half made.
func (b *backups) tidy() error {
	b.copying.Lock()
	defer b.copying.Unlock()
	path := filepath.Join(b.dir, byHand)
	var failed []error
	for _, name := range []string{path, queue.HalfCopy(path)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(append(failed, queue.Prune(b.dir, time.Now(), b.cfg.Keep))...)
}
