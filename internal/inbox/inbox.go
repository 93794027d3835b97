// Package inbox brings what lies in the drop directory into the queue.
//
// It guarantees that a drop file leaves the directory only when all its run IDs
// are durable in the queue, that no file is ever replaced or deleted on the way
// to accepted/ or rejected/, and that whatever was not taken is explained beside
// the file. A file may be read twice, after a crash or a change; that costs
// nothing, since the queue knows its IDs. Events of the file system are a hint
// only: the truth is a rescan (P5.1). What a drop file says is dropfile's matter,
// what becomes of a run the queue's; when accepted files go (Expire) or come back
// (Back) is for others to say.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// What the inbox tells besides the events that all stages know.
const (
	FileTrouble run.EventKind = "drop file cannot be taken yet"
	WatchLost   run.EventKind = "drop directory cannot be watched, it is looked at every drop.rescan instead"
	WatchBack   run.EventKind = "drop directory is watched again"
)

const (
	maxSleep   = 30 * time.Second      // timers stand still during a suspend (P7.1)
	spacing    = 20 * time.Millisecond // between two looks at the directory, so that a burst is one
	maxSpacing = 2 * time.Second       // even where a look takes long
	repeat     = 10 * time.Minute      // a trouble that lasts is told again

	maxAge = time.Duration(math.MaxInt64) // of a file in the drop directory: any
)

// Config is what of the configuration concerns the inbox.
type Config struct {
	Dir    string        // drop.dir; fixed at New
	Settle time.Duration // drop.settle
	Rescan time.Duration // drop.rescan
}

// Queue is where run IDs go. Once Add has returned without an error they survive
// power loss; a known one is counted.
type Queue interface {
	Add(ctx context.Context, ids []run.HandIn) (run.Taken, error)
}

// Inbox is the stage. Run is called once; all else is safe for concurrent use.
type Inbox struct {
	queue   Queue
	tell    run.Tell
	wake    chan struct{}
	asked   chan struct{} // somebody awaits files
	scanned chan struct{}
	once    sync.Once

	mu      sync.Mutex
	cfg     Config
	waiters map[*waiter]bool

	lying atomic.Int64              // files in rejected/ when it was listed last
	done  atomic.Pointer[time.Time] // when a look ended last

	// Only Run's goroutine touches these.
	watch    watch
	drop     *folder
	accepted *folder
	rejected *folder
	passes   uint64
	took     time.Duration // for the last look at the drop directory
	ended    time.Time     // the last pass
	missing  trouble       // of the drop directory
	unsynced trouble       // of any of the three directories
	stalled  trouble       // of the queue
	retry    time.Time     // when the queue is tried again
	failures int           // of the queue, in a row
}

// New gives an inbox for the directory, which Prepare has made.
func New(cfg Config, queue Queue, tell run.Tell) *Inbox {
	x := &Inbox{
		queue: queue, tell: redacting(tell), cfg: cfg,
		wake: make(chan struct{}, 1), asked: make(chan struct{}, 1), scanned: make(chan struct{}),
		waiters:  map[*waiter]bool{},
		watch:    watch{open: fsnotify.NewWatcher},
		drop:     newFolder(cfg.Dir),
		accepted: newFolder(cfg.Dir + "/" + acceptedDir),
		rejected: newFolder(cfg.Dir + "/" + rejectedDir),
	}
	x.getsOn()
	return x
}

// redacting tells without what a file's name gives away: a file saved by its URL
// has the token in its name.
func redacting(tell run.Tell) run.Tell {
	return func(e run.Event) {
		e.File = signedurl.Redact(e.File)
		if e.Err != nil {
			if text := signedurl.Redact(e.Err.Error()); text != e.Err.Error() {
				e.Err = errors.New(text)
			}
		}
		tell(e)
	}
}

// Configure sets the live settings, Settle and Rescan, from the next look on.
func (x *Inbox) Configure(cfg Config) {
	x.mu.Lock()
	cfg.Dir = x.cfg.Dir
	x.cfg = cfg
	x.mu.Unlock()
	x.Wake()
}

func (x *Inbox) config() Config {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cfg
}

// Wake makes the inbox look at the directory at once.
func (x *Inbox) Wake() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Scanned is closed after the first look at the directory, also where it could
// not be read. Files that are not settled yet may still be there.
func (x *Inbox) Scanned() <-chan struct{} { return x.scanned }

// Rejected is how many files lay in rejected/ when it was listed last, without those
// that say why.
func (x *Inbox) Rejected() int { return int(x.lying.Load()) }

// LastPass is when a look at the drop directory ended last, or was known to get on: at
// first when the inbox was made. One whose file system hangs does not end.
func (x *Inbox) LastPass() time.Time { return *x.done.Load() }

// Run takes drop files until ctx ends, and then returns nil: nothing that goes
// wrong here ends the daemon.
func (x *Inbox) Run(ctx context.Context) error {
	defer x.watch.close()
	for ctx.Err() == nil {
		due := x.guarded(func() time.Time { return x.pass(ctx) })
		x.once.Do(func() { close(x.scanned) })
		x.ended = x.getsOn()
		for x.sleep(ctx, due) {
			due = x.guarded(func() time.Time { return x.express(ctx, due) })
		}
	}
	return nil
}

// getsOn notes that a look at the drop directory ended, or got on.
func (x *Inbox) getsOn() time.Time {
	now := time.Now()
	x.done.Store(&now)
	return now
}

// guarded is a pass that survives a panic.
func (x *Inbox) guarded(pass func() time.Time) (due time.Time) {
	defer func() {
		if r := recover(); r != nil {
			x.tell(run.Event{Kind: run.StageRecovered, File: x.drop.path, Err: fmt.Errorf("inbox: %v\n%s", r, debug.Stack())})
			due = time.Now().Add(x.config().Rescan)
		}
	}()
	return pass()
}

// earliest is when the directory may be looked at again: the longer a look takes,
// the rarer it is.
func (x *Inbox) earliest() time.Time {
	return x.ended.Add(min(max(spacing, 10*x.took), maxSpacing))
}

// sleep waits until due, an event of the directory, Wake or the end of ctx; and until
// somebody awaits files, which asked says.
func (x *Inbox) sleep(ctx context.Context, due time.Time) (asked bool) {
	if due.Before(x.earliest()) {
		due = x.earliest()
	}
	for {
		left := time.Until(due)
		if left <= 0 {
			return false
		}
		timer := time.NewTimer(min(left, maxSleep))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-x.wake:
			timer.Stop()
			return false
		case <-x.asked:
			timer.Stop()
			return true
		case <-timer.C:
		case event, ok := <-x.watch.events():
			if ok {
				x.watch.note(event)
			}
			if !ok || x.watch.matters(event, x.drop.path) {
				due = x.earliest()
			}
		case <-x.watch.errors(): // an overflow, at worst the end of the watch: look
			clear(x.watch.renamed)
			due = x.earliest()
		}
		timer.Stop()
	}
}

// pass looks once at the directory, takes what is ready, and says when the next
// thing will be.
func (x *Inbox) pass(ctx context.Context) time.Time {
	now := time.Now()
	p := &pass{Inbox: x, cfg: x.config(), now: now}
	p.due = now.Add(p.cfg.Rescan)
	x.passes++
	if err := p.openAll(); err != nil {
		x.missing.is(p, err, run.Event{Kind: run.DropTrouble, File: x.drop.path, Hint: hint(err)})
		x.watch.close()
		return p.due
	}
	defer p.closeAll()
	p.ensureWatch()
	ready, err := p.scan(x.drop, maxAge)
	x.took = time.Since(now)
	if err != nil {
		x.missing.is(p, err, run.Event{Kind: run.DropTrouble, File: x.drop.path, Hint: hint(err)})
		return p.due
	}
	x.missing.over(p, run.Event{Kind: run.DropBack, File: x.drop.path})
	for _, f := range []*folder{x.accepted, x.rejected} {
		f.trouble.is(p, f.err, run.Event{Kind: run.DropTrouble, File: f.path, Hint: hint(f.err)})
	}
	p.take(ctx, ready)
	p.answer()
	for _, f := range []*folder{x.accepted, x.rejected} {
		p.again(ctx, f)
	}
	return p.due
}

// openAll opens the directory and its two folders for the time of a pass. What is
// wrong with a folder is in its err.
func (p *pass) openAll() error {
	if err := p.drop.open(); err != nil {
		return err
	}
	p.accepted.openBelow(p.drop)
	p.rejected.openBelow(p.drop)
	return nil
}

func (p *pass) closeAll() {
	for _, f := range []*folder{p.rejected, p.accepted, p.drop} {
		f.close()
	}
}

// ensureWatch watches the directory before it is listed, so that nothing falls
// between the two (P5.3).
func (p *pass) ensureWatch() {
	err := p.watch.ensure(p.drop)
	if err != nil {
		p.watch.trouble.is(p, err, run.Event{Kind: WatchLost, File: p.drop.path, Hint: watchHint(err)})
		return
	}
	p.watch.trouble.over(p, run.Event{Kind: WatchBack, File: p.drop.path})
}

// again reads anew what has changed in a folder since it was taken. A folder that
// holds much is listed less often: it must not cost what the drop directory
// itself does not.
func (p *pass) again(ctx context.Context, f *folder) {
	if f.dir == nil || p.now.Before(f.next) {
		p.sooner(f.next)
		return
	}
	start, due := time.Now(), p.due
	p.due = start.Add(lookAgain / 2)
	ready, err := p.scan(f, lookAgain)
	if err != nil {
		f.trouble.is(p, err, run.Event{Kind: run.DropTrouble, File: f.path, Hint: hint(err)})
	} else {
		f.trouble.over(p, run.Event{Kind: run.DropBack, File: f.path})
	}
	took := time.Since(start)
	p.take(ctx, ready)
	f.next = start.Add(max(p.cfg.Rescan, min(500*took, lookAgain/2)))
	if p.due.Before(f.next) {
		f.next = p.due
	}
	p.due = due
	p.sooner(f.next)
	f.listed = true
}

// pass is one look.
type pass struct {
	*Inbox
	cfg   Config
	now   time.Time
	due   time.Time // of the next one
	lines int       // told about files that cannot be taken
}

func (p *pass) sooner(at time.Time) {
	if at.After(p.now) && at.Before(p.due) {
		p.due = at
	}
}

// trouble is something that lasts: told when it begins or changes, now and then
// while it goes on, and when it is over.
type trouble struct {
	text string
	told time.Time
}

// is tells e, with its cause, where it is news.
func (t *trouble) is(p *pass, err error, e run.Event) {
	if err == nil || t.text == err.Error() && p.now.Sub(t.told) < repeat {
		return
	}
	t.text, t.told = err.Error(), p.now
	e.Err = err
	p.tell(e)
}

// over tells e where there was trouble.
func (t *trouble) over(p *pass, e run.Event) {
	if t.text != "" {
		*t = trouble{}
		p.tell(e)
	}
}
