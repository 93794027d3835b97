// Package poller decides which runs are due, what an answer of the API means,
// and when to ask again.
//
// It guarantees that a run is ended only by an answer (a terminal one, or one
// that the rules for giving up count), never by an outage, a refused key or the
// local clock; that no run is asked twice at a time; that the API is asked within
// its budget, fresh URLs for what dies first before the runs that are due, which
// keep a quarter of it; and that what an answer told is in the answer file before
// the queue says so. Of each app it learns how long its runs take, and asks when
// they are likely to end (plan), never more seldom than MaxInterval while the
// budget has room. It leaves the call and its budget to magnific, the records and what follows from a verdict to
// the queue, and what becomes of assets to download.
package poller

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

// Config are the live settings.
type Config struct {
	MinInterval   time.Duration // between two polls of a young run
	MaxInterval   time.Duration // between two polls of any run
	GiveUpAfter   time.Duration // not terminal so long after the first answer
	NotFoundAfter time.Duration // nothing but 404 for so long
}

// API is asked about runs.
type API interface {
	Wait(ctx context.Context) error                         // for one request of the budget
	Get(ctx context.Context, id run.ID) (run.Answer, error) // error: *run.Refusal, or ctx's
	Identity
}

// Identity tells which API is asked with which key.
type Identity interface {
	Fingerprint(salt string) string // of URL, path and key together
	KeyChanges() int                // how often the key was changed
	Host() string
}

// Queue holds the runs.
type Queue interface {
	Runs
	Answers
	Apps
	Keys
}

// Runs are the runs by class and by the time they are due. Due returns up to limit of
// each class, or fewer, in the order in which they have their turns. Get fails with run.ErrUnknown
// where there is none.
type Runs interface {
	Due(ctx context.Context, now time.Time, turns run.Turns, limit int) (due []run.Due, next time.Time, err error)
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Reschedule(ctx context.Context, id run.ID, at time.Time) error
}

// Answers records what was answered: the answer's file first, the queue after it.
// SaveAnswer unites the answer with those before it; Answer is the union so far.
type Answers interface {
	Answer(id run.ID) (run.Answer, bool, error)
	SaveAnswer(id run.ID, a run.Answer) error
	Answered(ctx context.Context, id run.ID, v run.Verdict) (run.Change, error)
}

// Apps tells how the last runs of an app went, the newest last. It learns that
// from the verdicts.
type Apps interface {
	Samples(app string) ([]run.Sample, error)
}

// Keys remembers which fingerprints have answered 200 for any run.
type Keys interface {
	Proven(fingerprint string) (bool, error)
	Prove(ctx context.Context, fingerprint string) error
}

// Clock is the local wall clock and the servers'.
type Clock interface {
	Now() time.Time
	Server(host string) time.Time
}

// Service is the service clock, which stands still while the API cannot be asked.
type Service interface {
	Now() time.Duration
	Pause(reason string)
	Resume(reason string)
}

// Deps is what the poller works with; all of it is required.
type Deps struct {
	API     API
	Queue   Queue
	Clock   Clock
	Service Service
	Changed func(run.Change) // what a recorded answer changed; called from several goroutines
	Tell    run.Tell
	Broken  func(err error) bool // the queue cannot go on
	Salt    string               // for fingerprints: the queue's ID
}

const (
	inFlight  = 16               // polls at a time
	sleepMost = 30 * time.Second // timers stop during suspend (P7.1), and a wake-up may be lost
	pauseName = "api"            // the service clock's reason
)

// Poller polls. Run may be called once; the other methods are safe for
// concurrent use.
type Poller struct {
	Deps
	roll func() float64 // in [0, 1)
	wake chan struct{}
	fail context.CancelCauseFunc // Run's

	// The dispatcher's own:
	batch   batch // due, read ahead, none of them being asked
	turns   run.Turns
	renewed int // renewals asked in a row

	mu       sync.Mutex
	config   Config
	time     steady
	gate     gate
	renewals renewals
	trouble  trouble
	usuals   usuals
	flying   map[run.ID]bool // being asked
	proven   string          // a fingerprint known to be proven
	statuses map[run.Status]bool
}

// New gives a poller.
func New(c Config, d Deps) *Poller {
	return &Poller{
		Deps: d, config: c, roll: rand.Float64,
		wake:     make(chan struct{}, 1),
		time:     steady{start: time.Now()},
		renewals: renewals{},
		usuals:   usuals{apps: map[string]*usual{}},
		flying:   map[run.ID]bool{},
		statuses: map[run.Status]bool{},
	}
}

// Configure takes new settings, from the next answer on.
func (p *Poller) Configure(c Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = c
	clear(p.usuals.apps) // their plans are made by the settings
}

// Wake says that runs were handed in: they are asked at once, and while the key
// is refused the probes begin anew at 1 s.
func (p *Poller) Wake() {
	p.mu.Lock()
	p.gate.handedIn(p.now())
	p.mu.Unlock()
	p.Tick()
}

// Tick makes the poller look whether something is due. It never needs to be
// called for that: a tick lost costs nothing.
func (p *Poller) Tick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Probe asks at once whether a refused key is accepted now.
func (p *Poller) Probe() {
	p.mu.Lock()
	p.gate.probeNow(p.now())
	p.mu.Unlock()
	p.Tick()
}

// Renew asks for fresh URLs of a run, the first of which dies at death. The run
// is polled at once where that was not done within the last spacing, else when
// spacing is over, and again with backoff until the API answers. What came of it
// is told through Changed.
func (p *Poller) Renew(id run.ID, death time.Time, spacing time.Duration) {
	p.mu.Lock()
	p.renewals.ask(id, death, spacing, p.now())
	p.mu.Unlock()
	p.Tick()
}

// Forget forgets when fresh URLs of a run were asked for: it was removed, or is
// tried anew.
func (p *Poller) Forget(id run.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.renewals, id)
}

// now is the local time, which never goes back. The caller holds mu.
func (p *Poller) now() time.Time { return p.time.at(p.Clock.Now(), time.Since(p.time.start)) }

// Run polls until ctx ends, and waits for what is in flight. It returns an error
// only when the queue cannot go on.
func (p *Poller) Run(ctx context.Context) error {
	ctx, p.fail = context.WithCancelCause(ctx)
	defer p.fail(nil)
	var flights sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for ctx.Err() == nil {
		if _, wait := p.pick(ctx); wait > 0 {
			clock.Sleep(ctx, min(wait, sleepMost), p.wake)
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		// The budget first, then the choice: what is most urgent when the request
		// may go out, not when the wait for it began.
		if p.API.Wait(ctx) != nil {
			break
		}
		id, wait := p.pick(ctx)
		if wait > 0 {
			<-slots
			continue
		}
		p.takeOff(id)
		flights.Go(func() {
			defer func() { <-slots }()
			defer p.land(id)
			p.poll(ctx, id)
		})
	}
	flights.Wait()
	if err := context.Cause(ctx); p.Broken(err) {
		return err
	}
	return nil
}

// takeOff marks a run as being asked: pick does not choose it until it lands. It
// is the dispatcher's, as the batch is.
func (p *Poller) takeOff(id run.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying[id] = true
	if r := p.renewals[id]; r != nil && r.wanted {
		p.renewed++
	} else {
		p.renewed = 0
	}
	if p.gate.refused {
		p.gate.probing = id
	}
	if a, ok := p.batch.remove(id); ok {
		p.turns[a.class] = a.submission
	}
}

func (p *Poller) land(id run.ID) {
	p.mu.Lock()
	delete(p.flying, id)
	if p.gate.probing == id {
		p.gate.probing = ""
	}
	p.mu.Unlock()
	p.Tick()
}
