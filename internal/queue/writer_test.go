package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// commits is how many there were since the queue was opened.
func commits(t *testing.T, q *Queue) int64 {
	t.Helper()
	return must(q.store.Stats(t.Context()))(t).Commits
}

// hold keeps the writer in an operation until the returned function is called.
func hold(q *Queue) (release func()) {
	held, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = q.update(context.Background(), 1, func(*txn) error {
			<-held
			return errors.New("held")
		})
	}()
	synctest.Wait()
	return func() {
		close(held)
		<-done
	}
}

func TestOneOperationIsOneCommitAndNothingNewIsNone(t *testing.T) {
	q := fresh(t)
	before := commits(t, q)
	add(t, q, "abcd", "abce")
	if n := commits(t, q) - before; n != 1 {
		t.Errorf("%d commits for one call", n)
	}
	add(t, q, "abcd", "abce")
	if err := q.Reschedule(t.Context(), "abcd", noon()); err != nil {
		t.Error(err)
	}
	if n := commits(t, q) - before; n != 1 {
		t.Errorf("%d commits for what was known", n-1)
	}
}

func TestARefusedOperationDisturbsNoneOfItsNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		add(t, q, "first")
		before := commits(t, q)
		release := hold(q)
		half := errors.New("refused half way")
		results := make([]error, 4)
		var wg sync.WaitGroup
		for i, operation := range []func() error{
			func() error { return q.Reschedule(t.Context(), "first", noon().Add(time.Hour)) },
			func() error { return q.Reschedule(t.Context(), "nobody", noon()) },
			func() error {
				return q.update(t.Context(), 1, func(t *txn) error {
					e, err := t.edit("first")
					if err != nil {
						return err
					}
					e.rec.App, e.rec.Dir, e.rec.due = "half", "half", 1
					if err := e.save(); err != nil {
						return err
					}
					if err := t.create(record{Run: run.Run{ID: "half-made", State: run.Waiting}, due: 5}).save(); err != nil {
						return err
					}
					return half
				})
			},
			func() error {
				_, err := q.Add(t.Context(), []run.HandIn{{ID: "second"}})
				return err
			},
		} {
			wg.Go(func() { results[i] = operation() })
			synctest.Wait() // so that they come in this order
		}
		release()
		wg.Wait()
		if results[0] != nil || !errors.Is(results[1], run.ErrUnknown) || !errors.Is(results[2], half) || results[3] != nil {
			t.Fatalf("%v", results)
		}
		if n := commits(t, q) - before; n != 1 {
			t.Errorf("%d commits", n)
		}
		r := must(q.Get(t.Context(), "first"))(t)
		due, _, err := q.Due(t.Context(), noon().Add(2*time.Hour), run.Turns{}, 9)
		if err != nil || len(due) != 2 || r.App != "" || r.Dir != "" {
			t.Errorf("%+v, due %+v, %v", r, due, err)
		}
	})
}

func TestWhoStopsWaitingIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		release := hold(q)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := q.Add(ctx, []run.HandIn{{ID: "late"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := q.Alive(ctx); err == nil {
			t.Error("a hanging writer is alive")
		}
		release()
		if err := q.Alive(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := q.Get(t.Context(), "late"); !errors.Is(err, run.ErrUnknown) {
			t.Errorf("%v", err)
		}
		if _, err := q.Add(ctx, []run.HandIn{{ID: "later"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		release := hold(q)
		results := make(chan error, 2)
		go func() { results <- q.Close() }()
		synctest.Wait()
		go func() {
			_, err := q.Add(context.Background(), []run.HandIn{{ID: "late"}})
			results <- err
		}()
		synctest.Wait()
		release()
		for range 2 {
			// Which of the two the writer hears first is its choice.
			if err := <-results; err != nil && !errors.Is(err, kv.ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := q.Get(t.Context(), "late"); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if err := q.Reschedule(t.Context(), "late", noon()); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		if err := q.Alive(t.Context()); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("alive: %v", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestManyUseTheQueueAtOnce(t *testing.T) {
	q := opened(t, quick(t), Options{})
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range 8 {
		id := run.ID(fmt.Sprintf("run-%d", w))
		wg.Go(func() {
			add(t, q, id, "shared")
			for i := range 20 {
				v := run.Verdict{Answer: answerOf(id, i%3+1), Terminal: true, At: noon()}
				if err := q.SaveAnswer(id, *v.Answer); err != nil {
					t.Error(err)
				}
				c, err := q.Answered(ctx, id, v)
				if err != nil {
					t.Error(err)
				}
				for _, a := range c.Assets {
					refused, err := q.Verified(ctx, []run.Named{named(a.Key)})
					if err != nil || refused[0] != nil {
						t.Error(refused, err)
					}
				}
				for _, a := range c.Assets {
					if _, err := q.Stored(ctx, []run.Key{a.Key}); err != nil {
						t.Error(err)
					}
				}
				if err := q.Settle(ctx, []run.Settlement{{Run: id, Outcome: run.OutcomeStored, At: noon()}}); err != nil {
					t.Error(err)
				}
				if err := q.Retry(ctx, id, nil); err != nil {
					t.Error(err)
				}
				if _, _, err := q.Due(ctx, noon(), run.Turns{}, 9); err != nil {
					t.Error(err)
				}
				if _, err := q.Place(ctx, id, "the/same"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := q.Audit(context.Background()); err != nil {
		t.Error(err)
	}
}

func answerOf(id run.ID, images int) *run.Answer {
	a := &run.Answer{Run: id, Status: run.Completed}
	for i := range images {
		url := fmt.Sprintf("https://cdn.example/%s/%d.png", id, i)
		a.Assets = append(a.Assets, run.Listed{Kind: run.Images, ID: fmt.Sprint(i), URL: url + "?token=SECRET", Source: url})
	}
	return a
}

func named(k run.Key) run.Named {
	return run.Named{Whole: run.Whole{Key: k, Size: 7, SHA256: "abc", At: noon()}, File: string(k.Kind) + "/" + k.ID + ".png"}
}
