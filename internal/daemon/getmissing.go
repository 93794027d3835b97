package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// missingEvery is how long Get waits at most before it asks again for a run that the
// API does not know.
const missingEvery = 5 * time.Second

// missing ends runs that the API does not know: a person waits, who may have mistyped
// an ID. Unlike the poller, which counts only time between answers, it counts from the
// first such answer, whatever else comes in between, but for a usable one. It is safe
// for concurrent use.
type missing struct {
	after time.Duration

	mu   sync.Mutex
	runs map[run.ID]*gone
}

type gone struct {
	since time.Time
	count int // Polls.NotFound of the last verdict
}

func newMissing(after time.Duration) *missing {
	return &missing{after: after, runs: map[run.ID]*gone{}}
}

// judge has the verdict end the run where it is time.
func (m *missing) judge(id run.ID, v *run.Verdict, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.runs[id]
	switch {
	case v.Answer != nil:
		delete(m.runs, id)
		return
	case g == nil && v.Polls.NotFound == 0:
		return
	case g == nil:
		g = &gone{since: now}
		m.runs[id] = g
	}
	again := v.Polls.NotFound > g.count // and not a failure in between
	g.count = v.Polls.NotFound
	if !again || v.GiveUp != "" || v.Next.IsZero() {
		return
	}
	if now.Sub(g.since) >= m.after {
		v.GiveUp, v.Next = fmt.Sprintf("%s, for %v", v.Polls.LastError, m.after), time.Time{}
		return
	}
	for _, soon := range []time.Time{now.Add(missingEvery), g.since.Add(m.after)} {
		if soon.Before(v.Next) {
			v.Next = soon
		}
	}
}
