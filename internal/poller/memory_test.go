package poller

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// memory is a queue in memory.
type memory struct {
	mu       sync.Mutex
	runs     map[run.ID]run.Run
	due      map[run.ID]time.Time
	answers  map[run.ID]run.Answer
	provenBy map[string]bool
	samples  map[string][]run.Sample
	forgets  bool // there are no samples
	verdicts map[run.ID][]run.Verdict
	log      []string // "save" and "answered" in order
	fail     func(method string, id run.ID) error
}

func newMemory() *memory {
	return &memory{
		runs: map[run.ID]run.Run{}, due: map[run.ID]time.Time{}, answers: map[run.ID]run.Answer{},
		provenBy: map[string]bool{}, samples: map[string][]run.Sample{}, verdicts: map[run.ID][]run.Verdict{},
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

func (q *memory) Due(ctx context.Context, now time.Time, _ run.Turns, limit int) (due []run.Due, next time.Time, err error) {
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
			due = append(due, run.Due{Run: q.runs[id]})
		}
	}
	return due, time.Time{}, nil
}

func (q *memory) Get(ctx context.Context, id run.ID) (run.Run, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fail("Get", id)); err != nil {
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

func (q *memory) Answered(ctx context.Context, id run.ID, v run.Verdict) (run.Change, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fail("Answered", id)); err != nil {
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
		r.App = cmp.Or(r.App, v.Answer.App)
		r.StartedAt = cmp.Or(v.Answer.StartedAt, r.StartedAt)
		r.Assets = max(r.Assets, len(v.Answer.Assets))
		if !r.Status.Terminal() {
			r.Status = v.Answer.Status
		}
	}
	if !was && (v.Terminal || v.GiveUp != "") {
		r.EndedAt, r.GaveUp, r.State = v.At, v.GiveUp, run.Downloading
		if v.Sample.Took > 0 {
			known := append(slices.Clone(q.samples[r.App]), v.Sample)
			q.samples[r.App] = known[max(0, len(known)-64):]
		}
	}
	q.runs[id] = r
	delete(q.due, id)
	if !v.Next.IsZero() {
		q.due[id] = v.Next
	}
	return run.Change{Run: r, Ended: r.Ended() && !was}, nil
}

func (q *memory) Samples(app string) ([]run.Sample, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.forgets {
		return nil, q.fail("Samples", "")
	}
	return q.samples[app], q.fail("Samples", "")
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
