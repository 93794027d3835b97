package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
)

// downAfter is how many different notices in a row a hook has to fail at before
// it counts as down: then it is probed with one at a time, at growing distances.
const downAfter = 3

// The retry delay of a notice that is refused is at most maxDelay, that of a hook that
// does not answer at most maxProbeDelay. A receiver's Retry-After holds for at most
// maxRetryAfter.
const (
	firstDelay    = time.Second
	maxProbeDelay = 10 * time.Second
	maxDelay      = 5 * time.Minute
	maxRetryAfter = time.Hour
)

// health is how a hook has done lately. Only failures of the hook itself count: see
// refusal.
type health struct {
	answers uint64                 // how often it answered: took a notice, or refused one
	failing map[uint64]bool        // the notices it failed at since it last answered, at most downAfter
	kinds   map[run.NoticeKind]int // and how often at each kind
	probes  int                    // failures in a row since it is down
	until   time.Time              // nothing is tried before
	retryAt time.Time              // nothing that was refused is tried before
	gone    bool                   // it said that it does not want to be told any more
	looked  time.Time              // when it is gone: when what is too old was last dropped
}

func (h *health) down() bool { return len(h.failing) >= downAfter }

// answered notes that the hook works, whether or not it took the notice: what failed
// because of it is tried at once.
func (t *target) answered(r result) {
	if t.down() {
		t.again(false)
		t.Tell(t.event(Back, result{entry: r.entry, by: r.by}))
	}
	t.health = health{answers: t.answers + 1, retryAt: t.retryAt}
}

// took notes that the hook took a notice. Where it had refused it before, the hook has
// been fixed: all it refused is tried again.
func (t *target) took(r result) {
	t.answered(r)
	if r.entry.refused() {
		t.retryAt = time.Time{}
		t.hurry()
	}
}

// fail notes that the hook did not take a notice, and drops what is too old for another
// try.
func (t *target) fail(ctx context.Context, r result) error {
	now, e := time.Now(), r.entry
	var why refusal
	if re := (*refusal)(nil); errors.As(r.err, &re) {
		why = *re
	}
	if why.own {
		t.answered(r)
		t.take(e) // it waits again once it is known for how long
	}
	limit := maxProbeDelay
	if why.own {
		limit = maxDelay
	}
	e.tries++
	e.own = why.own
	e.suspect = !why.own && (e.suspect || e.failedAt != 0 && e.failedAt < t.answers)
	e.failedAt = t.answers
	e.next = now.Add(max(backoff.HalfJitter(backoff.Delay(e.tries, firstDelay, limit), t.Random()), why.wait))
	switch {
	case why.gone && !t.gone:
		t.wait(e)
		t.gone, t.looked = true, now
		t.Tell(run.Event{
			Kind: Gone, Err: r.err, Note: r.by.name(),
			Hint: "what is to be told waits for hook.give_up_after: set hook.url anew or remove it, and reload; a reload alone tries again",
		})
		return nil
	case e.refused():
		if e.run == "" && e.kind.Ends() == "" && !e.kind.Begins() { // it says nothing that others must come after
			t.leave(e)
		}
	default:
		t.strained(now, e, why.wait)
	}
	t.wait(e)
	if t.old(e) || t.down() {
		if err := t.expire(ctx); err != nil {
			_, err = t.queueFailed(err)
			return err
		}
	}
	if t.all[e.seq] != nil {
		t.Tell(t.event(Failed, r))
	}
	return nil
}

// strained notes that the hook itself failed at a notice. A time that it asks for holds
// up the other notices for as long as a probe takes at most.
func (t *target) strained(now time.Time, e *entry, asked time.Duration) {
	if t.failing == nil {
		t.failing, t.kinds = map[uint64]bool{}, map[run.NoticeKind]int{}
	}
	t.kinds[e.kind]++
	if !t.down() {
		t.failing[e.seq] = true
	}
	pause := min(asked, maxProbeDelay)
	if t.down() {
		t.probes++
		pause = max(pause, backoff.HalfJitter(backoff.Delay(t.probes, firstDelay, maxProbeDelay), t.Random()))
	}
	if until := now.Add(pause); until.After(t.until) {
		t.until = until
	}
}

// old reports whether a notice is not tried any more once it has failed.
func (t *target) old(e *entry) bool { return !e.taken && t.Now().Sub(e.at) >= t.giveUpAfter }

// expire drops what is too old: of a hook that is down or gone all of it, else what
// was tried and failed.
func (t *target) expire(ctx context.Context) error {
	every := t.down() || t.gone
	for {
		var dropped []*entry
		var seqs []uint64
		for _, e := range t.entries() {
			if e.began.IsZero() && t.old(e) && (every || e.tries > 0) {
				dropped, seqs = append(dropped, e), append(seqs, e.seq)
			}
		}
		if len(dropped) == 0 {
			return nil
		}
		if err := t.Outbox.Told(ctx, t.hook, seqs); err != nil {
			return err
		}
		for _, e := range dropped {
			t.remove(e)
			ev := t.event(GivenUp, result{entry: e, by: t.sender})
			ev.Hint = "it was tried for hook.give_up_after: assetd show tells how the run stands"
			t.Tell(ev)
		}
		if err := t.refill(ctx); err != nil {
			return err
		}
	}
}

// event is one of the notifier's own about a try.
func (t *target) event(kind run.EventKind, r result) run.Event {
	e := r.entry
	key := run.Notice{Seq: e.seq, At: e.at}.Key(t.Queue)
	note := fmt.Sprintf("%s to %s, key %s", e.kind, r.by.name(), key)
	if e.tries > 0 {
		note += ", failed " + english.Plural(e.tries, "time", "")
	}
	return run.Event{Kind: kind, Run: e.run, Asset: e.asset, Err: r.err, Note: note}
}
