package poller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("the queue is dead")

// call is one request to the API.
type call struct {
	id run.ID
	at time.Duration // since the bubble began
}

// service is an API in memory.
type service struct {
	start   time.Time
	wait    func(context.Context) error
	latency time.Duration

	mu       sync.Mutex
	key      string
	changes  int
	reply    func(id run.ID, n int) reply // n: how often the run was asked before
	calls    []call
	asked    map[run.ID]int
	flying   map[run.ID]int
	most     int // polls in flight at a time
	doubles  int // polls of a run that was being asked
	finished int
}

func (s *service) Wait(ctx context.Context) error { return s.wait(ctx) }
func (s *service) Host() string                   { return "api.test" }

func (s *service) Fingerprint(salt string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return salt + s.key
}

func (s *service) KeyChanges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

func (s *service) setKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
	s.changes++
}

func (s *service) answerWith(f func(id run.ID, n int) reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = f
}

func (s *service) Get(ctx context.Context, id run.ID) (run.Answer, error) {
	s.mu.Lock()
	n := s.asked[id]
	s.asked[id]++
	s.calls = append(s.calls, call{id, time.Since(s.start)})
	if s.flying[id]++; s.flying[id] > 1 {
		s.doubles++
	}
	s.most = max(s.most, len(s.flying))
	r := s.reply(id, n)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flying[id]--; s.flying[id] == 0 {
			delete(s.flying, id)
		}
		s.finished++
	}()
	if s.latency > 0 { // else the answer comes in the same moment, whatever ends in it
		select {
		case <-time.After(s.latency):
		case <-ctx.Done():
			return run.Answer{}, ctx.Err()
		}
	}
	if r.refusal != nil {
		return run.Answer{}, r.refusal
	}
	a := *r.answer
	a.Run = id
	return a, nil
}

// times are when the runs were asked, all of them where none is named.
func (s *service) times(ids ...run.ID) (at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if len(ids) == 0 || slices.Contains(ids, c.id) {
			at = append(at, c.at)
		}
	}
	return at
}

func (s *service) order() (ids []run.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		ids = append(ids, c.id)
	}
	return ids
}

// world is a poller among fakes, in a bubble.
type world struct {
	*testing.T
	*Poller
	queue   *memory
	api     *service
	service *clock.Service
	stop    func() error

	mu      sync.Mutex
	events  []run.Event
	changes []run.Change
}

// inBubble runs f with a poller that is not yet running. Its jitter is always the
// least, so a test in which calls fail outside of a stop gives another roll: a
// backoff of nothing would stop the bubble's time.
func inBubble(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, queue: newMemory(), service: clock.NewService(0)}
		w.api = &service{
			start: time.Now(), key: "key", asked: map[run.ID]int{}, flying: map[run.ID]int{},
			wait:  func(ctx context.Context) error { return ctx.Err() },
			reply: func(run.ID, int) reply { return status(run.Running) },
		}
		w.again()
		f(w)
		if w.stop != nil {
			if err := w.stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		if w.api.doubles > 0 {
			t.Errorf("a run was asked while it was being asked, %d times", w.api.doubles)
		}
		if w.api.most > inFlight {
			t.Errorf("%d polls at a time", w.api.most)
		}
	})
}

// again makes the poller anew, as after a restart.
func (w *world) again() {
	w.Poller = New(config, Deps{
		API: w.api, Queue: w.queue, Clock: clock.New(), Service: w.service, Salt: "salt-",
		Changed: func(c run.Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, c)
		},
		Tell: func(e run.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Broken: func(err error) bool { return errors.Is(err, errBroken) },
	})
	w.Poller.roll = func() float64 { return 0 }
}

// byToken makes every request wait for a token sent to the channel.
func (w *world) byToken() chan<- struct{} {
	tokens := make(chan struct{})
	w.api.wait = func(ctx context.Context) error {
		select {
		case <-tokens:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return tokens
}

// begin starts Run.
func (w *world) begin() {
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	p := w.Poller
	go func() { done <- p.Run(ctx) }()
	w.stop = func() error {
		cancel()
		w.stop = nil
		return <-done
	}
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) told(kind run.EventKind) (found []run.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

func (w *world) changed() []run.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.changes)
}

func seconds(s ...float64) (d []time.Duration) {
	for _, v := range s {
		d = append(d, time.Duration(v*float64(time.Second)))
	}
	return d
}

// whole is the times in whole seconds, where what an answer takes is of no interest.
func whole(times []time.Duration) (d []time.Duration) {
	for _, at := range times {
		d = append(d, at.Truncate(time.Second))
	}
	return d
}
