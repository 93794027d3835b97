package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// noon is when these tests begin.
func noon() time.Time { return time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC) }

// opened is a queue in a directory, checked by bbolt after every commit, and by
// the rules of this package at the end.
func opened(t *testing.T, dir string, options Options) *Queue {
	t.Helper()
	if options.Now == nil {
		options.Now = noon
	}
	q, err := Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if q.Err() == nil {
			if err := q.Audit(context.Background()); err != nil && !errors.Is(err, kv.ErrClosed) {
				t.Error(err)
			}
		}
		if err := q.Close(); err != nil && q.Err() == nil {
			t.Error(err)
		}
	})
	return q
}

func fresh(t *testing.T) *Queue {
	t.Helper()
	return opened(t, t.TempDir(), Options{})
}

func add(t *testing.T, q *Queue, ids ...run.ID) {
	t.Helper()
	var in []run.HandIn
	for _, id := range ids {
		in = append(in, run.HandIn{ID: id})
	}
	if _, err := q.Add(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestAQueueIsFoundAgainAsItWasLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	q, err := Open(dir, Options{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	id := q.ID()
	if len(id) != 32 {
		t.Fatalf("id %q", id)
	}
	ctx := context.Background()
	if _, err := q.Add(ctx, []run.HandIn{{ID: "omps2OH829", Labels: map[string]string{"shot": "7"}}}); err != nil {
		t.Fatal(err)
	}
	if err := q.SaveService(ctx, 42*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "queue.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	q = opened(t, dir, Options{})
	if q.ID() != id || q.Service() != 42*time.Second {
		t.Fatalf("id %q, service %v", q.ID(), q.Service())
	}
	r := must(q.Get(ctx, "omps2OH829"))(t)
	if r.State != run.Waiting || !r.HandedIn.Equal(noon()) || r.Labels["shot"] != "7" {
		t.Fatalf("%+v", r)
	}
}

func live(ctx context.Context, q *Queue, id run.ID, say func(string, run.ID)) error {
	if _, err := q.Add(ctx, []run.HandIn{{ID: id}}); err != nil {
		return err
	}
	say("added", id)
	answer := answerOf(id, 2)
	if err := q.SaveAnswer(id, *answer); err != nil {
		return err
	}
	c, err := q.Answered(ctx, id, run.Verdict{Answer: answer, Terminal: true, At: time.Now()})
	if err != nil {
		return err
	}
	var keys []run.Key
	for _, a := range c.Assets {
		keys = append(keys, a.Key)
		if _, err := q.Verified(ctx, []run.Named{named(a.Key)}); err != nil {
			return err
		}
	}
	if _, err := q.Stored(ctx, keys); err != nil {
		return err
	}
	say("stored", id)
	if err := q.Settle(ctx, []run.Settlement{{Run: id, Outcome: run.OutcomeStored, Revision: 1, At: time.Now()}}); err != nil {
		return err
	}
	say("settled", id)
	return nil
}

// quick is a directory in memory where there is one: these tests are about what is
// recorded, not about disks.
func quick(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "queue")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
