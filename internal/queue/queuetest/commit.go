package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// gate is a store whose updates wait while it is held.
type gate struct {
	kv.Store
	held chan struct{} // nil: it is not
}

func (g *gate) Update(ctx context.Context, change func(kv.Tx) error) error {
	if held := g.held; held != nil {
		<-held
	}
	return g.Store.Update(ctx, change)
}

// hold keeps the queue's writer waiting until the returned function is called.
func (g *gate) hold(q *queue.Queue) (release func()) {
	g.held = make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = q.Reschedule(context.Background(), "nobody", Noon()) // is refused
	}()
	synctest.Wait()
	return func() {
		held := g.held
		g.held = nil
		close(held)
		<-done
	}
}

func (g *gate) commits(t *testing.T) int64 {
	t.Helper()
	stats, err := g.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats.Commits
}

func queued(t *testing.T, engine Engine) (*queue.Queue, *gate) {
	t.Helper()
	dir := t.TempDir()
	g := &gate{Store: engine(t, dir)}
	q, err := queue.New(g, answers.New(dir), queue.Options{Now: Noon})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(q.Audit(context.Background()), q.Close()); err != nil {
			t.Error(err)
		}
	})
	return q, g
}

func add(t *testing.T, q *queue.Queue, ids ...run.ID) {
	t.Helper()
	var in []run.HandIn
	for _, id := range ids {
		in = append(in, run.HandIn{ID: id})
	}
	if _, err := q.Add(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func groupCommits(t *testing.T, engine Engine) {
	synctest.Test(t, func(t *testing.T) {
		q, g := queued(t, engine)
		before := g.commits(t)
		release := g.hold(q)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { add(t, q, run.ID(fmt.Sprintf("run-%03d", i))) })
		}
		synctest.Wait()
		release()
		wg.Wait()
		if n := g.commits(t) - before; n != 1 {
			t.Errorf("%d commits for 100 operations", n)
		}
		if c, err := q.Counts(t.Context()); err != nil || c.Runs[run.Waiting] != 100 {
			t.Errorf("%v, %v", c, err)
		}
	})
}

// Of several operations in one commit, one fails after it has written something.
func refusals(t *testing.T, engine Engine) {
	synctest.Test(t, func(t *testing.T) {
		q, g := queued(t, engine)
		ctx := t.Context()
		add(t, q, "first")
		answer := &run.Answer{Run: "first", Status: run.Completed}
		for i := range 2 {
			answer.Assets = append(answer.Assets, run.Listed{Kind: run.Images, ID: fmt.Sprint(i), URL: "https://cdn.example/a.png"})
		}
		c, err := q.Answered(ctx, "first", run.Verdict{Answer: answer, Terminal: true, At: Noon()})
		if err != nil {
			t.Fatal(err)
		}
		good, lost := c.Assets[0].Key, c.Assets[1].Key
		if _, err := q.Lose(ctx, lost, run.Loss{Rule: run.LossTime, Reason: "gone", At: Noon()}); err != nil {
			t.Fatal(err)
		}
		before := g.commits(t)
		release := g.hold(q)
		results := make([]error, 3)
		var wg sync.WaitGroup
		for i, operation := range []func() error{
			func() error { return q.Reschedule(ctx, "first", Noon().Add(time.Hour)) },
			func() error {
				_, err := q.Adopt(ctx, "first", []run.Adopted{{Key: good, Stored: run.Stored{File: "a.png", Size: 1}}, {Key: lost}})
				return err
			},
			func() error {
				_, err := q.Add(ctx, []run.HandIn{{ID: "second"}})
				return err
			},
		} {
			wg.Go(func() { results[i] = operation() })
			synctest.Wait() // so that they come in this order
		}
		release()
		wg.Wait()
		if results[0] != nil || !errors.Is(results[1], run.ErrStale) || results[2] != nil {
			t.Fatalf("%v", results)
		}
		if n := g.commits(t) - before; n != 1 {
			t.Errorf("%d commits", n)
		}
		if a, err := q.Asset(ctx, good); err != nil || a.State != run.AssetWaiting || a.Stored != nil {
			t.Errorf("half of what was refused is recorded: %+v, %v", a, err)
		}
		due, _, err := q.Due(ctx, Noon().Add(2*time.Hour), run.Turns{}, 9)
		if err != nil || len(due) != 2 {
			t.Errorf("due %+v, %v", due, err)
		}
	})
}

func nothingNew(t *testing.T, engine Engine) {
	q, g := queued(t, engine)
	add(t, q, "abcd", "abce")
	before := g.commits(t)
	add(t, q, "abcd", "abce")
	if err := q.Reschedule(t.Context(), "abcd", Noon()); err != nil {
		t.Error(err)
	}
	if n := g.commits(t) - before; n != 0 {
		t.Errorf("%d commits for what was known", n)
	}
}

func secrets(t *testing.T, engine Engine) {
	q, g := queued(t, engine)
	q.SetHooks(run.AllHooks)
	const secret = "S3CR3TT0K3N"
	const url = "https://cdn.example/a.png?token=exp=1~hmac=" + secret
	ctx := t.Context()
	if _, err := q.Add(ctx, []run.HandIn{{ID: "abcd", Labels: map[string]string{"from": url}}}); err != nil {
		t.Fatal(err)
	}
	answer := &run.Answer{
		Run: "abcd", App: url, Status: run.Status(url), StartedAt: url, CompletedAt: url, ErrorMessage: url,
		Assets: []run.Listed{{Kind: run.Images, ID: url, URL: url, Source: url, Tool: url, CreatedAt: url}},
	}
	c, err := q.Answered(ctx, "abcd", run.Verdict{Answer: answer, Terminal: true, At: Noon(), Polls: run.Polls{LastError: url}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Lose(ctx, c.Assets[0].Key, run.Loss{Rule: run.LossTime, Reason: url, At: Noon()}); err != nil {
		t.Fatal(err)
	}
	values, named := 0, false
	err = g.View(ctx, func(tx kv.Tx) error {
		for b := range kv.Bucket(len(queue.Format().Buckets)) {
			cursor := tx.Cursor(b)
			for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
				values++
				named = named || bytes.Contains(v, []byte("https://cdn.example/a.png"))
				if bytes.Contains(v, []byte(secret)) {
					t.Errorf("bucket %d, %q: %q", b, k, v)
				}
			}
		}
		return nil
	})
	if err != nil || values < 5 || !named {
		t.Errorf("%d values, a URL among them: %v; %v", values, named, err)
	}
}
