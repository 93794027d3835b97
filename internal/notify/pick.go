package notify

import (
	"time"

	"github.com/assetd/assetd/internal/run"
)

// How many tries are under way. One that has run for longer than slow does not count
// among the parallel ones any more, so that hooks that take long hold up nothing that is
// quick; mostRunning bounds them all, and mostRefused those of notices that were refused
// before, which are started at most once in retryPace, however many wait.
const (
	parallel    = 4
	slow        = 5 * time.Second
	slowProbe   = 2 * time.Second // of a hook that is down
	mostRunning = 16
	mostRefused = mostRunning / 2
	retryPace   = 250 * time.Millisecond
)

// pick is the notice to send now, or nil and how long there is none. What was not tried
// comes first: of a hook that takes nothing it says more than what failed before, and of
// one that takes others it is not known to be refused. One try at a time is left to what
// failed.
func (t *target) pick(now time.Time) (*entry, time.Duration) {
	if t.gone || len(t.running) >= mostRunning {
		return nil, idle // until a reload, or a result
	}
	if now.Before(t.until) {
		return nil, t.until.Sub(now)
	}
	if wait := t.crowded(now); wait > 0 {
		return nil, wait
	}
	retrying, refused := 0, 0
	for _, e := range t.running {
		if e.tries > 0 {
			retrying++
		}
		if e.refused() {
			refused++
		}
	}
	fresh := t.untriedFirst()
	retry, wait := t.retry(now, refused < mostRefused)
	switch {
	case retry != nil && (fresh == nil || !t.down() && (retrying == 0 || !retry.refused() && retrying == refused)):
		return retry, 0
	case fresh != nil:
		return fresh, 0
	}
	return nil, wait
}

// crowded is how long it takes until one of the quick tries under way counts as a slow
// one; 0 where another try may be started.
func (t *target) crowded(now time.Time) time.Duration {
	limit, slow := parallel, slow
	if t.down() {
		limit, slow = 1, slowProbe
	}
	quick, first := 0, idle
	for _, e := range t.running {
		if left := e.began.Add(slow).Sub(now); left > 0 {
			quick++
			first = min(first, left)
		}
	}
	if quick < limit {
		return 0
	}
	return first
}

// untriedFirst is the first notice of the kind that is least under way and that the hook
// failed at least since it last answered: notices of one kind that fail, or take long,
// hold up no other kind.
func (t *target) untriedFirst() (first *entry) {
	cost := map[run.NoticeKind]int{}
	for _, e := range t.running {
		cost[e.kind]++
	}
	for kind, waiting := range t.untried {
		e := waiting.first()
		if e == nil {
			continue
		}
		cost[kind] += t.kinds[kind]
		if first == nil || cost[kind] < cost[first.kind] || cost[kind] == cost[first.kind] && e.seq < first.seq {
			first = e
		}
	}
	return first
}

// retry is what to try again now, or nil and how long there is nothing; of what was refused
// only where that may be.
func (t *target) retry(now time.Time, refused bool) (*entry, time.Duration) {
	wait := idle
	if e := t.failed.first(); e != nil {
		if !now.Before(e.next) {
			return e, 0
		}
		wait = min(wait, e.next.Sub(now))
	}
	if e := t.refused.first(); refused && e != nil {
		at := e.next
		if at.Before(t.retryAt) {
			at = t.retryAt
		}
		if !now.Before(at) {
			return e, 0
		}
		wait = min(wait, at.Sub(now))
	}
	return nil, wait
}
