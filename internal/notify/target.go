package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// How many notices are read at a time, how many are in memory, each with a few hundred
// bytes, and how long to wait before the queue is asked again that could not answer.
const (
	mostRead   = 1000
	mostHeld   = 50_000
	queueAgain = 5 * time.Second
	idle       = time.Hour
)

// sender is one way to tell. An error is safe to print.
type sender interface {
	send(ctx context.Context, m message) error
	name() string
	close()
}

// refusal is a failure that says more than that there was one. A failure that is no
// refusal is the hook's: it does not answer, and would not take another notice either.
type refusal struct {
	own  bool          // the hook works, and does not take this notice
	gone bool          // the hook wants none any more
	wait time.Duration // as the receiver wishes; 0: it said nothing
	err  error
}

// Error is the cause's text.
func (r *refusal) Error() string { return r.err.Error() }

// Unwrap is the cause.
func (r *refusal) Unwrap() error { return r.err }

// settings are what can change of a target while it runs.
type settings struct {
	sender      sender // nil: the hook is not set
	giveUpAfter time.Duration
}

// target is one hook, and what it was not told yet.
type target struct {
	Deps
	hook run.Hooks
	held int // at most so many notices are in memory
	wake chan struct{}

	mu   sync.Mutex
	next *settings // to go over to; nil: as they are

	// The loop's own.
	settings
	window
	health
	running []*entry
	results chan result
}

// result is how one try ended.
type result struct {
	entry *entry
	by    sender
	err   error // of the hook
	lost  bool  // the queue has no such notice any more
	queue error // of the queue, which then did not record that the hook took it
}

func newTarget(hook run.Hooks, d Deps) *target {
	return &target{Deps: d, hook: hook, held: mostHeld, wake: make(chan struct{}, 1), window: newWindow(), results: make(chan result, mostRunning)}
}

func (t *target) configure(s settings) {
	t.mu.Lock()
	t.next = &s
	t.mu.Unlock()
	t.wakeUp()
}

func (t *target) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run tells until ctx ends. Tries that are under way then are waited for: they end
// by themselves, or with hard.
func (t *target) run(ctx, hard context.Context) error {
	defer t.release()
	for ctx.Err() == nil {
		again, err := t.step(ctx, hard)
		if err != nil {
			return t.drain(err)
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-t.wake:
			t.drained = false
		case r := <-t.results:
			err = t.settle(ctx, r)
		case <-timer.C:
		}
		timer.Stop()
		if err != nil {
			return t.drain(err)
		}
	}
	return t.drain(nil)
}

// drain waits for what is under way, and returns err or what else broke the queue.
func (t *target) drain(err error) error {
	for left := len(t.running); left > 0; left-- {
		if r := <-t.results; err == nil {
			err = t.settle(context.Background(), r)
		}
	}
	return err
}

func (t *target) release() {
	if t.sender != nil {
		t.sender.close()
	}
}

// step starts what can be started now, and returns how long nothing more can be.
// The error is a queue that cannot go on.
func (t *target) step(ctx, hard context.Context) (time.Duration, error) {
	t.adopt()
	read := t.refill
	if t.sender == nil {
		read = t.forget
	}
	if err := read(ctx); err != nil {
		return t.queueFailed(err)
	}
	if t.sender == nil {
		return idle, nil
	}
	now := time.Now()
	if t.gone && now.Sub(t.looked) >= idle { // nothing is tried, and what is too old goes all the same
		t.looked = now
		if err := t.expire(ctx); err != nil {
			return t.queueFailed(err)
		}
	}
	for {
		e, wait := t.pick(now)
		if e == nil {
			return min(wait, idle), nil
		}
		t.take(e)
		if e.refused() {
			t.retryAt = now.Add(retryPace)
		}
		e.began = now
		t.running = append(t.running, e)
		go t.try(hard, t.sender, e) // ends before run does: see drain
	}
}

// queueFailed is how long to wait for a queue that did not answer, or its error
// where it cannot go on.
func (t *target) queueFailed(err error) (time.Duration, error) {
	if t.Broken(err) {
		return 0, fmt.Errorf("telling others: %w", err)
	}
	return queueAgain, nil
}

// adopt takes new settings.
func (t *target) adopt() {
	t.mu.Lock()
	next := t.next
	t.next = nil
	t.mu.Unlock()
	if next == nil {
		return
	}
	t.release()
	t.settings = *next
	t.health = health{answers: 1}
	t.again(true)
	if t.sender == nil {
		t.window = newWindow()
	}
}

// refill reads on in the outbox where there is room.
func (t *target) refill(ctx context.Context) error {
	room := min(mostRead, t.held-len(t.all))
	if t.drained || t.fresh > mostRead/2 || room <= 0 {
		return nil
	}
	found, err := t.Outbox.Outbox(ctx, t.hook, t.read, room)
	if err != nil {
		return err
	}
	t.add(found)
	t.drained = len(found) < room
	return nil
}

// forget drops what waits for a hook that is not set.
func (t *target) forget(ctx context.Context) error {
	for dropped := 0; ; {
		found, err := t.Outbox.Outbox(ctx, t.hook, 0, mostRead)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if dropped > 0 {
				t.Tell(run.Event{Kind: Forgotten, Count: dropped, Note: t.hook.String()})
			}
			return nil
		}
		if err := t.Outbox.Told(ctx, t.hook, places(found)); err != nil {
			return err
		}
		dropped += len(found)
	}
}

func places(all []run.Notice) []uint64 {
	seqs := make([]uint64, len(all))
	for i, n := range all {
		seqs[i] = n.Seq
	}
	return seqs
}

// try tells the hook once, and records it where it took the notice.
func (t *target) try(hard context.Context, by sender, e *entry) {
	r := result{entry: e, by: by}
	defer func() {
		if p := recover(); p != nil {
			r.err = &refusal{own: true, err: fmt.Errorf("panic: %v", p)}
			t.Tell(run.Event{Kind: run.StageRecovered, Run: e.run, Err: fmt.Errorf("notify: %v\n%s", p, debug.Stack())})
		}
		t.results <- r
	}()
	working := context.WithoutCancel(hard) // the queue's methods end by themselves
	if !e.taken {
		m, found, err := t.message(working, e.seq)
		if err != nil || !found {
			r.queue, r.lost = err, err == nil
			return
		}
		if r.err = by.send(hard, m); r.err != nil {
			return
		}
		e.taken = true
	}
	r.queue = t.Outbox.Told(working, t.hook, []uint64{e.seq})
}

// message makes what the hook is told; found is false where the queue has no such notice.
func (t *target) message(ctx context.Context, seq uint64) (m message, found bool, err error) {
	all, err := t.Outbox.Outbox(ctx, t.hook, seq-1, 1)
	if err != nil || len(all) == 0 || all[0].Seq != seq {
		return message{}, false, err
	}
	n := all[0]
	var r run.Run
	if n.Run != "" {
		if r, err = t.Outbox.Get(ctx, n.Run); err != nil && !errors.Is(err, run.ErrUnknown) {
			return message{}, false, err
		}
	}
	m, err = compose(n, r, n.Key(t.Queue), t.Storage)
	return m, err == nil, err
}

// settle takes the end of a try.
func (t *target) settle(ctx context.Context, r result) error {
	e := r.entry
	t.running = slices.DeleteFunc(t.running, func(o *entry) bool { return o == e })
	e.began = time.Time{}
	if t.all[e.seq] != e { // the hook was not set for a while: all that waited was dropped
		return nil
	}
	switch {
	case r.queue != nil: // what the hook took is not told again, only recorded
		e.next = time.Now().Add(queueAgain)
		t.wait(e)
		_, err := t.queueFailed(r.queue)
		return err
	case r.lost:
		t.remove(e)
	case r.err == nil:
		t.remove(e)
		t.Tell(t.event(Told, r))
		if r.by == t.sender {
			t.took(r)
		}
	case r.by != t.sender, errors.Is(r.err, context.Canceled): // another hook by now, or the stop
		t.wait(e)
	default:
		return t.fail(ctx, r)
	}
	return nil
}
