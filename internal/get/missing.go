package get

import (
	"fmt"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// missingInterval is the longest time between two polls of a run that the API does not
// know.
const missingInterval = 5 * time.Second

// missing ends runs that the API does not know: a person waits, who may have mistyped an ID.
// Unlike the poller, which counts only time between such answers, it counts from the first
// one, whatever comes in between, except for a usable answer. It is safe for concurrent use.
type missing struct {
	after time.Duration

	mu   sync.Mutex
	runs map[run.ID]*unknown
}

type unknown struct {
	since time.Time
	count int // Polls.NotFound of the last verdict
}

func newMissing(after time.Duration) *missing {
	return &missing{after: after, runs: map[run.ID]*unknown{}}
}

// judge makes the verdict end the run if it has been unknown for long enough.
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
		g = &unknown{since: now}
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
	for _, soon := range []time.Time{now.Add(missingInterval), g.since.Add(m.after)} {
		if soon.Before(v.Next) {
			v.Next = soon
		}
	}
}
