package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/run"
)

// downAfter is how many different notices in a row a hook has to fail at before
// the fault counts as the hook's own and not as one of a notice: then it is probed
// with one at a time, at growing distances.
const downAfter = 3

// health is how a hook has done lately.
type health struct {
	failing map[uint64]bool // the notices it failed at since it last worked, at most downAfter
	probes  int             // failures in a row since it is down
	until   time.Time       // nothing is tried before
	gone    bool            // it said that it does not want to be told any more
	looked  time.Time       // when it is gone: when what is too old was last dropped
}

func (h *health) down() bool { return len(h.failing) >= downAfter }

func (h *health) open(now time.Time) bool { return !h.gone && !now.Before(h.until) }

// most is how many notices may be under way at a time.
func (h *health) most() int {
	if h.down() {
		return 1
	}
	return parallel
}

// sleep is how long nothing can be started that cannot be now.
func (t *target) sleep(now time.Time) time.Duration {
	first, any := t.due()
	if t.gone || !any {
		return idle
	}
	if t.until.After(first) {
		first = t.until
	}
	return min(max(first.Sub(now), 0), idle)
}

// worked notes that the hook took something: what failed while it was down is
// tried at once.
func (t *target) worked(r result) {
	if t.down() {
		t.again()
		t.Tell(t.event(Back, r))
	}
	t.health = health{}
}

// failed notes that the hook did not take a notice, and drops what is too old for
// another try.
func (t *target) failed(ctx context.Context, r result) error {
	now, e := time.Now(), r.entry
	e.tries++
	e.next = now.Add(wait(e.tries, t.Random()))
	if t.failing == nil {
		t.failing = make(map[uint64]bool, downAfter)
	}
	if !t.down() {
		t.failing[e.Seq] = true
	}
	if t.down() {
		t.probes++
		t.until = now.Add(wait(t.probes, t.Random()))
	}
	if re := (*refusal)(nil); errors.As(r.err, &re) {
		if until := now.Add(re.wait); until.After(t.until) {
			t.until = until
		}
		if re.gone && !t.gone {
			t.gone, t.looked = true, now
			t.Tell(run.Event{
				Kind: Gone, Err: r.err, Note: r.by.name(),
				Hint: "what is to be told waits for hook.give_up_after: set hook.url anew or remove it, and reload; a reload alone tries again",
			})
			return nil
		}
	}
	if t.old(e) || t.down() {
		if err := t.expire(ctx); err != nil {
			_, err = t.queueFailed(err)
			return err
		}
	}
	if t.holds(e) {
		t.Tell(t.event(Failed, r))
	}
	return nil
}

// old reports whether a notice is not tried any more once it has failed.
func (t *target) old(e *entry) bool { return !e.taken && t.Now().Sub(e.At) >= t.giveUpAfter }

// expire drops what is too old: of a hook that is down or gone all of it, else what
// was tried and failed.
func (t *target) expire(ctx context.Context) error {
	all := t.down() || t.gone
	for {
		var dropped []*entry
		for _, e := range t.entries {
			if !e.sending && t.old(e) && (all || e.tries > 0) {
				dropped = append(dropped, e)
			}
		}
		if len(dropped) == 0 {
			return nil
		}
		var seqs []uint64
		for _, e := range dropped {
			seqs = append(seqs, e.Seq)
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
	note := fmt.Sprintf("%s to %s, key %s", e.Kind, r.by.name(), e.Key(t.Queue))
	if e.tries > 0 {
		note += ", failed " + english.Plural(e.tries, "time", "")
	}
	return run.Event{Kind: kind, Run: e.Run, Asset: e.Asset, Err: r.err, Note: note}
}
