package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

func inboxConfig(c *config.Config) inbox.Config {
	return inbox.Config{Dir: c.Drop.Dir, Settle: c.Drop.Settle, Rescan: c.Drop.Rescan}
}

// wakingQueue is the queue as the inbox sees it: runs that are added are polled at once.
type wakingQueue struct {
	*queue.Queue
	wake func()
}

func (w wakingQueue) Add(ctx context.Context, ids []run.HandIn) (run.Taken, error) {
	taken, err := w.Queue.Add(ctx, ids)
	if taken.New > 0 {
		w.wake()
	}
	return taken, err
}

const (
	// scanDelay is how late a scan of the drop directory may be before it counts as hanging
	// in its file system. The inbox itself cannot report that.
	scanDelay = 30 * time.Second
	// scanReminder is how often a scan that hangs is reported again.
	scanReminder = 10 * time.Minute
)

// scanWatch watches that the inbox finishes its scans. It reads no disk.
type scanWatch struct {
	dir      string
	last     func() time.Time     // when a scan ended last
	rescan   func() time.Duration // drop.rescan: a scan ends at least that often
	emit     run.Tell
	hangs    bool // as reported
	reported time.Time
}

// check reports a scan that hangs, again every scanReminder, and once that one ended. It is
// called by a periodic job.
func (w *scanWatch) check() {
	now := time.Now()
	age := now.Sub(w.last())
	if age <= w.rescan()+scanDelay {
		if w.hangs {
			w.hangs = false
			w.emit(run.Event{Kind: run.DropAnswers, File: w.dir})
		}
		return
	}
	if w.hangs && now.Sub(w.reported) < scanReminder {
		return
	}
	w.hangs, w.reported = true, now
	w.emit(run.Event{
		Kind: run.DropHangs, File: w.dir,
		Err:  fmt.Errorf("the last look at %s ended %v ago", w.dir, age.Round(time.Second)),
		Hint: "its file system, or that of accepted/ or rejected/, hangs: see the mount and its server; no drop file is taken meanwhile",
	})
}
