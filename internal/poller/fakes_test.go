package poller

import (
	"cmp"
	"context"
	"errors"
	"maps"
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

// memory is a queue in memory.
type memory struct {
	mu       sync.Mutex
	runs     map[run.ID]run.Run
	due      map[run.ID]time.Time
	answers  map[run.ID]run.Answer
	provenBy map[string]bool
	verdicts map[run.ID][]run.Verdict
	log      []string // "save" and "answered" in order
	fail     func(method string, id run.ID) error
}

func newMemory() *memory {
	return &memory{
		runs: map[run.ID]run.Run{}, due: map[run.ID]time.Time{}, answers: map[run.ID]run.Answer{},
		provenBy: map[string]bool{}, verdicts: map[run.ID][]run.Verdict{},
		fail: func(string, run.ID) error { return nil },
	}
}

// add hands a run in at the present time.
func (q *memory) add(ids ...run.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.runs[id] = run.Run{ID: id, State: run.Waiting, HandedIn: time.Now()}
		q.due[id] = time.Now()
	}
}

// addEnded puts in a run that is downloading, and so is not due.
func (q *memory) addEnded(ids ...run.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.runs[id] = run.Run{ID: id, State: run.Downloading, Status: run.Completed, HandedIn: time.Now(), EndedAt: time.Now(), Assets: 1}
	}
}

func (q *memory) remove(id run.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.runs, id)
	delete(q.due, id)
}

func (q *memory) Due(ctx context.Context, now time.Time, limit int) (due []run.Run, next time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fail("Due", "")); err != nil {
		return nil, time.Time{}, err
	}
	ids := slices.SortedFunc(maps.Keys(q.due), func(a, b run.ID) int {
		return cmp.Or(q.due[a].Compare(q.due[b]), cmp.Compare(a, b))
	})
	for _, id := range ids {
		switch at := q.due[id]; {
		case at.After(now):
			return due, at, nil
		case len(due) < limit:
			due = append(due, q.runs[id])
		}
	}
	return due, time.Time{}, nil
}

func (q *memory) Get(_ context.Context, id run.ID) (run.Run, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail("Get", id); err != nil {
		return run.Run{}, err
	}
	r, ok := q.runs[id]
	if !ok {
		return run.Run{}, run.ErrUnknown
	}
	return r, nil
}

func (q *memory) Reschedule(_ context.Context, id run.ID, at time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail("Reschedule", id); err != nil {
		return err
	}
	if _, ok := q.runs[id]; !ok {
		return run.ErrUnknown
	}
	q.due[id] = at
	return nil
}

func (q *memory) Answer(id run.ID) (run.Answer, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.answers[id]
	return a, ok, q.fail("Answer", id)
}

func (q *memory) SaveAnswer(id run.ID, a run.Answer) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail("SaveAnswer", id); err != nil {
		return err
	}
	q.log = append(q.log, "save "+string(id))
	q.answers[id] = q.answers[id].Unite(a)
	return nil
}

func (q *memory) Answered(_ context.Context, id run.ID, v run.Verdict) (run.Change, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail("Answered", id); err != nil {
		return run.Change{}, err
	}
	r, ok := q.runs[id]
	if !ok {
		return run.Change{}, run.ErrUnknown
	}
	q.log = append(q.log, "answered "+string(id))
	q.verdicts[id] = append(q.verdicts[id], v)
	was := r.Ended()
	r.Polls = v.Polls
	if v.Answer != nil {
		r.Assets = max(r.Assets, len(v.Answer.Assets))
		if !r.Status.Terminal() {
			r.Status = v.Answer.Status
		}
	}
	if !was && (v.Terminal || v.GiveUp != "") {
		r.EndedAt, r.GaveUp, r.State = v.At, v.GiveUp, run.Downloading
	}
	q.runs[id] = r
	delete(q.due, id)
	if !v.Next.IsZero() {
		q.due[id] = v.Next
	}
	return run.Change{Run: r, Ended: r.Ended() && !was}, nil
}

func (q *memory) Proven(by string) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.provenBy[by], q.fail("Proven", "")
}

func (q *memory) Prove(_ context.Context, by string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail("Prove", ""); err != nil {
		return err
	}
	q.provenBy[by] = true
	return nil
}

func (q *memory) got(id run.ID) run.Run {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.runs[id]
}

// count is how many verdicts about the run were recorded.
func (q *memory) count(id run.ID) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.verdicts[id])
}

func (q *memory) saved(id run.ID) run.Answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answers[id]
}

func (q *memory) written() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.log)
}

func (q *memory) isProven(by string) bool {
	proven, _ := q.Proven(by)
	return proven
}

func (q *memory) last(id run.ID) run.Verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.verdicts[id]); n > 0 {
		return q.verdicts[id][n-1]
	}
	return run.Verdict{}
}

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

func (s *service) setKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
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
