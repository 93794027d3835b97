package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/run"
)

// commits is the number of the file's last commit.
func commits(t *testing.T, q *Queue) (n int) {
	t.Helper()
	err := q.view(t.Context(), func(t *txn) error {
		n = t.tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
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

func TestOperationsThatWaitShareOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		before := commits(t, q)
		release := hold(q)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { add(t, q, run.ID(fmt.Sprintf("run-%03d", i))) })
		}
		synctest.Wait()
		release()
		wg.Wait()
		if n := commits(t, q) - before; n != 1 {
			t.Errorf("%d commits for 100 operations", n)
		}
		if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != 100 {
			t.Errorf("%v", c)
		}
	})
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
			if err := <-results; err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := q.Get(t.Context(), "late"); !errors.Is(err, ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if err := q.Reschedule(t.Context(), "late", noon()); !errors.Is(err, ErrClosed) {
			t.Errorf("write: %v", err)
		}
		if err := q.Alive(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("alive: %v", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestManyUseTheQueueAtOnce(t *testing.T) {
	q := opened(t, quick(t), Options{})
	q.db.StrictMode = false // eight goroutines are slow enough
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
	if err := inconsistency(q); err != nil {
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

func TestACommitThatFailsIsJudged(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "queue.db", Err: syscall.ENOSPC}
	for name, c := range map[string]struct {
		err  error
		full bool
	}{
		"disk":            {full, true},
		"quota":           {&fs.PathError{Op: "write", Path: "queue.db", Err: syscall.EDQUOT}, true},
		"size":            {bolterrors.ErrMaxSizeReached, true},
		"growing, text":   {fmt.Errorf("file resize error: %s", full), true},
		"disk error":      {&fs.PathError{Op: "write", Path: "queue.db", Err: syscall.EIO}, false},
		"sync disk error": {syscall.EIO, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := fresh(t)
			next := commits(t, q) + 1
			if err := q.failed(c.err, next); errors.Is(err, ErrFull) != c.full || (q.Err() == nil) != c.full {
				t.Errorf("not committed: %v, dead: %v", err, q.Err())
			}
			q = fresh(t)
			// The same error from the sync after the commit's last write: it stands.
			if err := q.failed(c.err, next-1); errors.Is(err, ErrFull) || q.Err() == nil {
				t.Errorf("committed: %v, dead: %v", err, q.Err())
			}
		})
	}
}

func TestACommitOfUnknownOutcomeEndsTheQueue(t *testing.T) {
	q := fresh(t)
	add(t, q, "before")
	watched := make(chan error)
	go func() { watched <- q.Watch(context.Background()) }()
	q.file.Close() // every write from now on fails, and not for want of room
	_, err := q.Add(t.Context(), []run.HandIn{{ID: "unknown"}})
	if err == nil || errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "unknown") {
		t.Fatalf("%v", err)
	}
	if got := <-watched; got == nil || got.Error() != err.Error() {
		t.Errorf("watch: %v", got)
	}
	if _, got := q.Get(t.Context(), "before"); got == nil || got.Error() != err.Error() {
		t.Errorf("read: %v", got)
	}
	if got := q.Reschedule(t.Context(), "before", noon()); got == nil || got.Error() != err.Error() {
		t.Errorf("write: %v", got)
	}
	if got := q.Alive(t.Context()); got == nil {
		t.Error("alive")
	}
}

func TestAQueueThatReachedItsSizeGoesOn(t *testing.T) {
	told := 0
	q := opened(t, t.TempDir(), Options{MaxSize: 256 << 10, Tell: func(e run.Event) {
		if e.Kind == run.QueueTrouble && errors.Is(e.Err, ErrFull) {
			told++
		}
	}})
	taken, refused, began := 0, 0, 0 // began: a refusal after a success
	for i, was := 0, error(nil); i < 100; i++ {
		// A large one is refused where a small one may still do.
		label := labels(12_000 * (i % 2))
		_, err := q.Add(t.Context(), []run.HandIn{{ID: run.ID(fmt.Sprintf("run-%08d", i)), Labels: label}})
		switch {
		case err == nil:
			taken++
		case !errors.Is(err, ErrFull):
			t.Fatal(err)
		case was == nil:
			began++
			fallthrough
		default:
			refused++
		}
		was = err
	}
	if taken < 10 || refused < 10 || q.Err() != nil {
		t.Fatalf("%d taken, %d refused, dead: %v", taken, refused, q.Err())
	}
	if told != began {
		t.Errorf("told %d times, it began %d times", told, began)
	}
	if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != taken {
		t.Errorf("%v, want %d", c, taken)
	}
}

func TestAPanicInATransactionEndsTheQueue(t *testing.T) {
	q := fresh(t)
	err := q.update(t.Context(), 1, func(t *txn) error {
		if err := t.put(bMeta, []byte("never"), present()); err != nil {
			return err
		}
		panic("page 7 already freed")
	})
	damage := (*DamageError)(nil)
	if !errors.As(err, &damage) || damage.File != q.Path() || !strings.Contains(err.Error(), "page 7 already freed") {
		t.Fatalf("%v", err)
	}
	if q.Err() == nil {
		t.Error("not dead")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	again := opened(t, q.dir, Options{})
	_ = again.db.View(func(tx *bolt.Tx) error {
		if again.txn(tx).get(bMeta, []byte("never")) != nil {
			t.Error("half an operation stands")
		}
		return nil
	})
}
