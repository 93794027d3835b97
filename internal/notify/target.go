package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// How many notices a hook is told at a time, how many are in memory for it, and
// how long to wait before the queue is asked again that could not answer.
const (
	parallel   = 4
	mostHeld   = 1000
	queueAgain = 5 * time.Second
	idle       = time.Hour
)

// sender is one way to tell. An error is safe to print.
type sender interface {
	send(ctx context.Context, m message) error
	name() string
	close()
}

// refusal is an answer that says more than that it was none.
type refusal struct {
	gone bool          // for good
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
	wake chan struct{}

	mu   sync.Mutex
	next *settings // to go over to; nil: as they are

	// The loop's own.
	settings
	window
	health
	running int
	results chan result
}

// result is how one try ended.
type result struct {
	entry *entry
	by    sender
	err   error // of the hook
	queue error // of the queue, which then did not record that the hook took it
}

func newTarget(hook run.Hooks, d Deps) *target {
	return &target{Deps: d, hook: hook, wake: make(chan struct{}, 1), results: make(chan result, parallel)}
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
	for t.running > 0 {
		if r := <-t.results; err == nil {
			err = t.settle(context.Background(), r)
		} else {
			t.running--
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
	for t.running < t.most() && t.open(now) {
		e := t.pick(now, t.down())
		if e == nil {
			break
		}
		e.sending = true
		t.running++
		go t.try(hard, t.sender, e) // ends before run does: see drain
	}
	if t.running >= t.most() {
		return idle, nil // a result comes first
	}
	return t.sleep(now), nil
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
	t.health = health{}
	t.again()
	if t.sender == nil {
		t.window = window{}
	}
}

// refill reads on in the outbox where there is room.
func (t *target) refill(ctx context.Context) error {
	if t.drained || len(t.entries) > mostHeld/2 {
		return nil
	}
	room := mostHeld - len(t.entries)
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
		found, err := t.Outbox.Outbox(ctx, t.hook, 0, mostHeld)
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
			r.err = fmt.Errorf("panic: %v", p)
			t.Tell(run.Event{Kind: run.StageRecovered, Run: e.Run, Err: fmt.Errorf("notify: %v\n%s", p, debug.Stack())})
		}
		t.results <- r
	}()
	working := context.WithoutCancel(hard) // the queue's methods end by themselves
	if !e.taken {
		m, err := t.message(working, e.Notice)
		if err != nil {
			r.queue = err
			return
		}
		if r.err = by.send(hard, m); r.err != nil {
			return
		}
		e.taken = true
	}
	r.queue = t.Outbox.Told(working, t.hook, []uint64{e.Seq})
}

// message makes what the hook is told.
func (t *target) message(ctx context.Context, n run.Notice) (message, error) {
	var r run.Run
	if n.Run != "" {
		var err error
		if r, err = t.Outbox.Get(ctx, n.Run); err != nil && !errors.Is(err, run.ErrUnknown) {
			return message{}, err
		}
	}
	return compose(n, r, n.Key(t.Queue), t.Storage)
}

// settle takes the end of a try.
func (t *target) settle(ctx context.Context, r result) error {
	t.running--
	e := r.entry
	e.sending = false
	if r.queue != nil { // what the hook took is not told again, only recorded
		e.next = time.Now().Add(queueAgain)
		_, err := t.queueFailed(r.queue)
		return err
	}
	if r.err == nil {
		t.remove(e)
		t.Tell(t.event(Told, r))
		if r.by == t.sender {
			t.worked(r)
		}
		return nil
	}
	if r.by != t.sender || errors.Is(r.err, context.Canceled) { // another hook by now, or the stop
		return nil
	}
	return t.failed(ctx, r)
}
