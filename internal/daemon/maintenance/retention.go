package maintenance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/run"
)

const (
	// retentionInterval is how often Retention looks for what is old.
	retentionInterval = 20 * time.Second
	// maxClockStep is how far the server's clock may differ from the monotonic clock
	// between two readings.
	maxClockStep = time.Minute
)

// trustedClock reads the server's clock, but only while it can be trusted: a clock that
// jumps would have everything removed at once.
type trustedClock struct {
	server func() (now time.Time, known bool) // by the API's clock
	local  func() time.Time
	built  time.Time // when this program was built; zero: unknown

	last, mark time.Time // the last reading: of the server's clock, and the monotonic time then
}

// now returns the time by the server's clock if two readings in a row agree. Otherwise ok
// is false, and why says what is wrong; it is empty while an answer of the API or a second
// reading is all that is missing.
func (c *trustedClock) now() (now time.Time, ok bool, why string) {
	now, known := c.server()
	local := c.local()
	last, mark := c.last, c.mark
	c.last = time.Time{}
	switch {
	case local.Before(c.built):
		return now, false, fmt.Sprintf("the local clock says %s, which is before this assetd was built (%s)", local.Format(time.RFC3339), c.built.Format(time.RFC3339))
	case !known:
		return now, false, ""
	case now.Before(c.built):
		return now, false, fmt.Sprintf("the API's clock says %s, which is before this assetd was built (%s)", now.Format(time.RFC3339), c.built.Format(time.RFC3339))
	}
	c.last, c.mark = now, time.Now()
	if last.IsZero() {
		return now, false, ""
	}
	if step := now.Sub(last) - c.mark.Sub(mark); step.Abs() > maxClockStep {
		return now, false, fmt.Sprintf("it jumped by %v between two looks", step.Round(time.Second))
	}
	return now, true, ""
}

// limits are how long settled runs and accepted drop files are kept.
type limits struct{ runs, files time.Duration }

// RetentionDeps are what a Retention works on. All but Built is required.
type RetentionDeps struct {
	History  History
	DropDir  string
	Clock    func() (now time.Time, known bool) // by the API's clock
	Built    time.Time                          // when this program was built; zero: unknown
	Covered  func() time.Time                   // see Backups.Covered
	Leftover func()                             // removed runs have left something on the volume
	Emit     run.Tell
}

// History is the queue's settled runs.
type History interface {
	// Expired returns some runs that settled before a moment.
	Expired(ctx context.Context, before time.Time) ([]run.ID, error)
	// Expire removes those of these runs that settled before it, and returns how many.
	Expire(ctx context.Context, ids []run.ID, before time.Time) (int, error)
}

// Retention removes what is old: settled runs from the queue, and accepted drop files.
// Stored files are never touched.
type Retention struct {
	deps   RetentionDeps
	clock  trustedClock
	wake   chan struct{}
	limits atomic.Pointer[limits]

	nextFiles time.Time // drop files are not looked at before: the directory may be large and slow
	held      string    // why nothing is removed, as reported last
	failed    string    // the failure reported last
}

// NewRetention returns a Retention with the limits of a configuration.
func NewRetention(c *config.Config, d RetentionDeps) *Retention {
	r := &Retention{deps: d, clock: trustedClock{server: d.Clock, local: time.Now, built: d.Built}, wake: make(chan struct{}, 1)}
	r.Configure(c)
	return r
}

// Configure applies new limits.
func (r *Retention) Configure(c *config.Config) {
	r.limits.Store(&limits{c.Retention.Runs, c.Drop.Keep})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// KeepFiles returns how long accepted drop files are kept at the moment.
func (r *Retention) KeepFiles() time.Duration { return r.limits.Load().files }

// Run removes what is old until ctx ends. It returns nil.
func (r *Retention) Run(ctx context.Context) error {
	tick := time.NewTicker(retentionInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-tick.C:
		}
		r.trim(ctx)
	}
}

// trim removes what is old now, if the time is known.
func (r *Retention) trim(ctx context.Context) {
	now, ok, why := r.clock.now()
	if why != "" && why != r.held {
		r.deps.Emit(run.Event{Kind: run.RetentionHeld, Err: errors.New(why), Hint: "set this machine's clock; nothing is removed until two looks agree"})
	}
	r.held = why
	if !ok {
		return
	}
	keep := *r.limits.Load()
	runs, runErr := r.trimRuns(ctx, now.Add(-keep.runs))
	if runs > 0 {
		r.deps.Leftover()
		r.deps.Emit(run.Event{Kind: run.HistoryTrimmed, Count: runs})
	}
	files, fileErr := r.trimFiles(ctx, keep.files)
	if files > 0 {
		r.deps.Emit(run.Event{Kind: run.DropTrimmed, Count: files, File: r.deps.DropDir})
	}
	failed := ""
	if err := errors.Join(runErr, fileErr); err != nil && ctx.Err() == nil {
		if failed = err.Error(); failed != r.failed {
			r.deps.Emit(run.Event{Kind: run.RetentionFailed, Err: err, Note: "it is tried again"})
		}
	}
	r.failed = failed
}

// trimRuns removes runs that settled before the given time from the queue. What they leave
// on the volume is recorded there, to be cleared by admin.Clear.
func (r *Retention) trimRuns(ctx context.Context, before time.Time) (n int, err error) {
	for ctx.Err() == nil {
		ids, err := r.deps.History.Expired(ctx, before)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		removed, err := r.deps.History.Expire(ctx, ids, before)
		n += removed
		if err != nil || removed == 0 {
			return n, err
		}
	}
	return n, ctx.Err()
}

// trimFiles removes accepted drop files that are old by the local clock, like their times.
// A file that came after the newest good copy of the queue stays: it is needed should the
// queue have to be restored.
func (r *Retention) trimFiles(ctx context.Context, keep time.Duration) (int, error) {
	start := time.Now()
	if start.Before(r.nextFiles) {
		return 0, nil
	}
	before := r.clock.local().Add(-keep)
	if covered := r.deps.Covered(); covered.Before(before) {
		before = covered
	}
	n, err := inbox.Expire(ctx, r.deps.DropDir, before)
	r.nextFiles = start.Add(500 * time.Since(start))
	return n, err
}
