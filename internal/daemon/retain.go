package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// How often it is looked whether something is old, and how far two looks may differ
// on what passed between them.
const (
	retainEvery = 20 * time.Second
	agreement   = time.Minute
)

// gate lets retention pass by the server's clock, and only while that can be
// trusted: a clock that jumps would have everything removed at once.
type gate struct {
	server func() (now time.Time, known bool) // by the API's clock
	local  func() time.Time
	built  time.Time // when this program was; zero: nobody knows

	last, mark time.Time // of the last look: what the server's clock said, and the monotonic time
}

// now is the time by the server's clock, where two looks in a row agree on it.
// Otherwise ok is false, and why says what is wrong: empty where there is nothing
// but to wait for an answer, or for a second look.
func (g *gate) now() (now time.Time, ok bool, why string) {
	now, known := g.server()
	if local := g.local(); local.Before(g.built) {
		g.last = time.Time{}
		return now, false, fmt.Sprintf("the local clock says %s, which is before this assetd was built (%s)", local.Format(time.RFC3339), g.built.Format(time.RFC3339))
	}
	if !known {
		g.last = time.Time{}
		return now, false, ""
	}
	if now.Before(g.built) {
		g.last = time.Time{}
		return now, false, fmt.Sprintf("the API's clock says %s, which is before this assetd was built (%s)", now.Format(time.RFC3339), g.built.Format(time.RFC3339))
	}
	last, mark := g.last, g.mark
	g.last, g.mark = now, time.Now()
	if last.IsZero() {
		return now, false, ""
	}
	if off := now.Sub(last) - g.mark.Sub(mark); off.Abs() > agreement {
		return now, false, fmt.Sprintf("it jumped by %v between two looks", off.Round(time.Second))
	}
	return now, true, ""
}

// kept says for how long what is kept.
type kept struct{ runs, files time.Duration }

func keptBy(c *config.Config) kept { return kept{c.Retention.Runs, c.Drop.Keep} }

// retainer removes what is old: settled runs from the history, accepted drop files
// from their directory. Stored files are never touched.
type retainer struct {
	gate    gate
	tick    chan struct{}
	cfg     atomic.Pointer[kept]
	drop    string
	history func(ctx context.Context, before time.Time) (int, error)
	// copied is when the newest good copy of the queue was begun: a drop file that
	// came later is still needed, should the queue have to be restored.
	copied func() time.Time
	left   func() // there is something to clear from the volume
	tell   run.Tell

	files time.Time // not before; the folder may be large, and slow
	held  string    // told last
	told  string    // the failure told last
}

func (x *retainer) configure(k kept) {
	x.cfg.Store(&k)
	signal(x.tick)
}

// run works at each tick until ctx ends.
func (x *retainer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.tick:
		}
		x.look(ctx)
	}
}

func (x *retainer) look(ctx context.Context) {
	now, ok, why := x.gate.now()
	if why != "" && why != x.held {
		x.tell(run.Event{Kind: run.RetentionHeld, Err: errors.New(why), Hint: "set this machine's clock; nothing is removed until two looks agree"})
	}
	x.held = why
	if !ok {
		return
	}
	k := *x.cfg.Load()
	n, err := x.history(ctx, now.Add(-k.runs))
	if n > 0 {
		x.left()
		x.tell(run.Event{Kind: run.HistoryTrimmed, Count: n})
	}
	removed, fileErr := x.trimFiles(ctx, k.files)
	if removed > 0 {
		x.tell(run.Event{Kind: run.DropTrimmed, Count: removed, File: x.drop})
	}
	x.fail(ctx, errors.Join(err, fileErr))
}

// trimFiles removes accepted drop files. Their times are the local clock's.
func (x *retainer) trimFiles(ctx context.Context, keep time.Duration) (int, error) {
	start := time.Now()
	if start.Before(x.files) {
		return 0, nil
	}
	before := x.gate.local().Add(-keep)
	if copied := x.copied(); copied.Before(before) {
		before = copied
	}
	n, err := inbox.Expire(ctx, x.drop, before)
	x.files = start.Add(500 * time.Since(start))
	return n, err
}

// fail tells once why something could not be removed.
func (x *retainer) fail(ctx context.Context, err error) {
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && text != x.told {
		x.tell(run.Event{Kind: run.RetentionFailed, Err: err, Note: "it is tried again"})
	}
	x.told = text
}

// keepers makes the stages that copy the queue and remove what is old.
func (d *daemon) keepers() {
	x := &retainer{
		tick: make(chan struct{}, 1), drop: d.cfg.Drop.Dir, history: d.expire, tell: d.tell,
		left: func() { signal(d.look) },
		gate: gate{server: d.pipeline.ServerTime, local: time.Now, built: d.Built},
	}
	d.backups = &backups{
		queue: d.queue, dir: queue.BackupDir(d.cfg.State.Dir), cfg: d.cfg.Backup,
		keep: func() time.Duration { return x.cfg.Load().files }, due: make(chan struct{}, 1), tell: d.tell,
	}
	x.copied = d.backups.covered
	x.configure(keptBy(d.cfg))
	d.retain = x
}

// expire removes runs settled before the given time from the history. What is kept of
// their assets beside the files is noted to be cleared (Care.Clear).
func (d *daemon) expire(ctx context.Context, before time.Time) (n int, err error) {
	for ctx.Err() == nil {
		ids, err := d.queue.Expired(ctx, before)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		gone, err := d.queue.Expire(ctx, ids, before)
		n += gone
		if err != nil || gone == 0 {
			return n, err
		}
	}
	return n, ctx.Err()
}
