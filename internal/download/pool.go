// Package download is the pool that stores every waiting asset.
//
// It guarantees that a free worker takes the most urgent asset that may start at
// that moment; that one asset's failure, panic included, touches no other; that a
// host which slows down, refuses or is down gets one probe at a time; that no URL
// is given up as expired without a try or a fresh one asked for; and that an asset
// is lost by the four rules of design 4.4 alone, and never while the API cannot be
// asked or the volume cannot be used.
//
// It leaves the order itself to backlog and triage, the bytes to transfer, parts and final names
// to storage, fresh URLs to the poller, and the truth to the queue: what it
// remembers besides, a restart finds out again.
package download

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// Config is the download section of the configuration as far as the pool needs
// it. Workers is fixed at New.
type Config struct {
	Workers     int           // assets at a time, at least 1
	MaxOpen     int           // connections held open besides, at most; fixed at New, too
	HostRate    float64       // requests a second to one host; 0: as many as it bears; fixed at New, too
	Margin      time.Duration // a deadline is so long before expiry, see run.Asset.Deadline
	GiveUpAfter time.Duration // how long answers must look final: loss rule (b)
	LostAfter   time.Duration // from the run's end on: loss rule (d)
}

// Records is what the pool reads of the queue. Get and Asset fail with
// run.ErrUnknown where there is no such thing; Listed is false where no answer is
// at hand, and holds a secret where one is.
type Records interface {
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Asset(ctx context.Context, key run.Key) (run.Asset, error)
	Listed(key run.Key) (run.Listed, bool, error)
}

// Pages is what a start reads of the queue: waiting assets in the order of their
// deadlines, and those verified but not stored. An empty next is the end.
type Pages interface {
	Waiting(ctx context.Context, cursor string, limit int) (page []run.Asset, next string, err error)
	VerifiedAssets(ctx context.Context, cursor string, limit int) (page []run.Asset, next string, err error)
}

// Ledger is what the pool records in the queue. Both fail with run.ErrStale where
// the asset is not waiting any more, or with run.ErrUnknown.
type Ledger interface {
	Tried(ctx context.Context, key run.Key, t run.Trial) (run.Asset, error)
	Early
	Lose(ctx context.Context, key run.Key, loss run.Loss) (ready bool, err error)
}

// Early records what was fetched of assets before their runs ended. KeepProvisional
// notes the bytes, Again that they are gone or those of another object.
type Early interface {
	KeepProvisional(ctx context.Context, key run.Key, p run.Provisional) (run.Asset, error)
	Again(ctx context.Context, key run.Key, reason string) (run.Asset, error)
}

// Hosts is what is remembered of hosts across restarts: those that were seen to end
// transfers when their URLs expired, and when that was. Cuts notes it of one; the zero
// time takes it back.
type Hosts interface {
	Cutters(ctx context.Context) (map[string]time.Time, error)
	Cuts(ctx context.Context, host string, seen time.Time) error
}

// Queue is the queue as the pool sees it.
type Queue interface {
	Records
	Pages
	Ledger
	Hosts
}

// Store is the volume. Part opens an asset's part; it fails with
// run.ErrVolumeOffline, which Check tells, too. Resume goes on with an asset that
// the queue has as verified; done is called as by Part.Keep.
type Store interface {
	Part(key run.Key) (Part, error)
	Check() error
	Resume(a run.Asset, done func(error))
	Shelf
}

// Shelf is where the bytes are that Part.KeepProvisional kept. Confirm gives them
// their final name; done is called as by Part.Keep. DropProvisional removes them.
type Shelf interface {
	Confirm(w run.Whole, done func(error))
	DropProvisional(key run.Key) error
}

// Room is the volume's free space, in bytes. Free may be negative. Parts are those in
// nobody's use, by run.Key.Hash.
type Room interface {
	Free() (int64, error)
	Parts() (map[string]int64, error)
	RemovePart(key run.Key) error
}

// Volume is where assets are stored.
type Volume interface {
	Store
	Room
}

// Part is an asset's bytes on their way. Close keeps what can be gone on with.
type Part interface {
	transfer.Part
	Close() error
	Ender
}

// Ender ends a part for good. Keep passes it on and calls done once, from any
// goroutine, when the asset is stored (nil) or has to be fetched again.
type Ender interface {
	Discard() error
	Quarantine() (file string, err error) // below the volume
	Keep(w run.Whole, done func(error))
	KeepProvisional(size int64) error
}

// Fetcher brings an asset into its part; the error is a *transfer.Failure.
type Fetcher interface {
	Fetch(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error)
	// Size is how many bytes the asset has; -1: its server does not tell.
	Size(ctx context.Context, r transfer.Request) (int64, error)
	// Look is what its server says of it.
	Look(ctx context.Context, r transfer.Request) (transfer.Facts, error)
}

// Clock is each host's clock; the local one where a host's is not known.
type Clock interface {
	Server(host string) time.Time
	Skew(host string) (time.Duration, bool)
}

// Service is the service clock, which is stopped while API or volume cannot be
// used.
type Service interface {
	Now() time.Duration
	Paused() []string
	Pauser
}

// Pauser stops the service clock for a reason, and lets it go on.
type Pauser interface {
	Pause(reason string)
	Resume(reason string)
}

// Deps is what the pool works with; all of it is required but Random.
type Deps struct {
	Queue   Queue
	Volume  Volume
	Fetcher Fetcher
	Clock   Clock
	Service Service

	// Prepare makes a run ready for its first byte: its directory is chosen, an
	// older manifest recalled. adopted: nothing of it is left to fetch.
	Prepare func(ctx context.Context, id run.ID) (adopted bool, err error)
	// Renew asks for fresh URLs of a run, at most once in spacing. The answer comes
	// through Changed. It must return quickly.
	Renew  func(id run.ID, death time.Time, spacing time.Duration)
	Ready  func([]run.ID) // these runs have nothing open any more
	Tell   run.Tell
	Broken func(err error) bool // the queue cannot go on
	Random func() float64       // from 0 to 1, for jitter; nil: math/rand
}

// Pool fetches assets. Run may be called once; the other methods are safe for
// concurrent use.
type Pool struct {
	Deps
	workers  int
	maxOpen  int
	epoch    time.Time     // of the clock that waits are measured on
	wake     chan struct{} // something may start
	nudge    chan struct{} // the caretaker has something to look at
	redirect chan struct{} // there is something new to decide on
	begun    chan struct{} // something runs again

	mu       sync.Mutex
	config   Config
	backlog  *backlog.Backlog
	runs     map[run.ID]*runState   // of which an asset was started
	cases    map[run.Key]*caseNotes // assets that were begun and are not stored
	flights  map[*backlog.Ticket]*flight
	scarce   scarcity
	stopping bool // nothing starts any more
	reload   []resumed
	loaded   bool // the queue was read to its end
	rescues  int  // parts held open
	volume   volumeState
	fatal    error
	stop     context.CancelFunc // Run's, for a broken queue
}

// runState is what is remembered of a run while assets of it are in the backlog.
type runState struct {
	preparing sync.Mutex
	prepared  bool
	known     bool // run is what the queue says
	run       backlog.Run
	asked     time.Duration // when fresh URLs were last asked for
	spacing   time.Duration // of that; 0: never
	answered  bool          // since
}

// caseNotes are what is remembered of an asset that was begun, until it is stored
// or lost. After a restart it starts again, which costs a few early tries.
type caseNotes struct {
	url         string        // hash of the URL that all this is about
	tries       int           // failures in a row
	asking      bool          // a fresh one was asked for
	refused     time.Duration // when it was last refused; meaningless before
	wasRefused  bool
	need        int64 // bytes it needs free space for
	total, had  int64 // bytes it has, and those of them that are in its part; 0: not known
	parted      bool  // a part of it was kept, and may still be there
	quarantined bool
	form        requestForm
	unseen      bool // whether it changed since it was fetched early could not be found out at this URL
	lastTry     bool // the one before a loss by time
	rescue      *rescue
	cut         string // SHA-256 of what came last and looked cut off; empty: nothing did
	looks       int    // times that something came that did
}

// New makes a pool.
func New(c Config, d Deps) *Pool {
	if d.Random == nil {
		d.Random = rand.Float64
	}
	c.Workers = max(c.Workers, 1)
	order := backlog.New(c.Workers)
	order.SetRateLimit(max(c.HostRate, 0))
	return &Pool{
		Deps: d, workers: c.Workers, maxOpen: max(c.MaxOpen, 0), config: c, epoch: time.Now(),
		wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1), redirect: make(chan struct{}, 1), begun: make(chan struct{}, 1),
		backlog: order,
		runs:    map[run.ID]*runState{},
		cases:   map[run.Key]*caseNotes{},
		flights: map[*backlog.Ticket]*flight{},
		scarce: scarcity{
			hosts: map[string]*hostFacts{}, scales: scales{}, asked: map[run.Key]struct{}{},
			cuts: map[string]time.Time{}, warned: map[run.Key]int64{}, told: map[string]told{}, since: map[string]time.Duration{},
		},
	}
}

// Configure takes new settings. A new margin holds for the deadlines of URLs that
// are learned of from then on, the rest at once.
func (p *Pool) Configure(c Config) {
	p.mu.Lock()
	p.config = c
	p.mu.Unlock()
	signal(p.nudge)
}

// Wake looks at once whether something may start.
func (p *Pool) Wake() {
	signal(p.wake)
	signal(p.nudge)
	signal(p.redirect)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// longestSleep bounds every timer: they stand still during a suspend (P7.1).
const longestSleep = 30 * time.Second

// Run fetches assets until ctx ends: then nothing new starts, and it returns when
// the transfers that run have ended or hard, which ends them, has. What is not
// done keeps its part. Whole assets may still be with the store's committer then,
// which has to run on until it is told to stop after this. An error means that the
// queue cannot go on.
func (p *Pool) Run(ctx, hard context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hard, halt := context.WithCancel(hard)
	defer halt()
	p.mu.Lock()
	p.stop = func() { stop(); halt() }
	p.mu.Unlock()

	p.recallCuts(ctx)
	p.resumeAll(ctx)
	var beside, workers errgroup.Group
	workers.SetLimit(2*p.workers + p.maxOpen + mostParked)
	// What runs is directed to its end: what is held is finished in the time that a
	// stop leaves.
	directing, directed := context.WithCancel(hard)
	defer directed()
	beside.Go(func() error { p.load(ctx); return nil })
	beside.Go(func() error { p.care(ctx); return nil })
	beside.Go(func() error { p.direct(directing); return nil })
	beside.Go(func() error { p.watch(directing); return nil })
	for ctx.Err() == nil {
		t, f, sleep := p.next(hard)
		if t == nil {
			rest(ctx, p.wake, sleep)
			continue
		}
		// It blocks for a moment at most: next keeps count of who works.
		workers.Go(func() error { p.work(t, f); return nil })
	}
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	_ = workers.Wait() // they return nil: one asset's failure is nobody else's
	directed()
	_ = beside.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.cases {
		c.rescue.close()
	}
	if p.fatal != nil {
		return fmt.Errorf("downloading: %w", p.fatal)
	}
	return nil
}

// rest sleeps until woken, and never long.
func rest(ctx context.Context, wake <-chan struct{}, sleep time.Duration) {
	if sleep > 0 {
		clock.Sleep(ctx, min(sleep, longestSleep), wake)
	}
}

// now is the time that waits are measured on: it knows no steps.
func (p *Pool) now() time.Duration { return time.Since(p.epoch) }

// next takes the asset that a free worker starts with, nil where there is none,
// and then says how long to sleep. Transfers end with hard.
func (p *Pool) next(hard context.Context) (t *backlog.Ticket, f *flight, sleep time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.volume.offline || p.volume.full || len(p.flights)-p.backlog.Parked() >= p.most() {
		return nil, nil, longestSleep // whoever changes that wakes
	}
	now := p.now()
	held := false
	if p.scarce.on {
		t, held = p.ordered(now)
	} else {
		t, _ = p.backlog.Next(now)
	}
	if t != nil {
		f = &flight{Candidate: t.Candidate(), opened: now}
		f.host = f.Host
		if held {
			p.hold(f)
		}
		f.ctx, f.stop = context.WithCancelCause(hard)
		if p.flights[t] = f; len(p.flights) == 1 {
			signal(p.redirect) // they may have been asleep
			signal(p.begun)
		}
		return t, f, 0
	}
	if p.backlog.Promote(now) && p.scarce.on {
		signal(p.redirect)
	}
	if at, ok := p.backlog.NextAt(); ok {
		return nil, nil, at - now
	}
	return nil, nil, longestSleep
}

// most is how many transfers there may be. The pool is locked.
func (p *Pool) most() int {
	if p.scarce.on {
		return p.workers + p.maxOpen
	}
	return p.workers
}

// broken reports whether the queue cannot go on, and then ends everything.
func (p *Pool) broken(err error) bool {
	if err == nil || !p.Broken(err) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fatal == nil {
		p.fatal = err
		p.stop()
	}
	return true
}
