package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) {
	if child() { // one that a test of these started
		return
	}
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
	q.db.StrictMode = true
	t.Cleanup(func() {
		if q.Err() == nil {
			if err := inconsistency(q); err != nil && !errors.Is(err, ErrClosed) {
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
	if !q.Fresh() || len(id) != 32 {
		t.Fatalf("fresh %v, id %q", q.Fresh(), id)
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
	if q.Fresh() || q.ID() != id || q.Service() != 42*time.Second {
		t.Fatalf("fresh %v, id %q, service %v", q.Fresh(), q.ID(), q.Service())
	}
	r := must(q.Get(ctx, "omps2OH829"))(t)
	if r.State != run.Waiting || !r.HandedIn.Equal(noon()) || r.Labels["shot"] != "7" {
		t.Fatalf("%+v", r)
	}
}

func TestStatsTellOfCommits(t *testing.T) {
	q := fresh(t)
	before := must(q.Stats(t.Context()))(t)
	if before.Commits != 0 || !before.LastCommit.IsZero() || before.Size == 0 || before.Free >= before.Size {
		t.Errorf("%+v", before)
	}
	add(t, q, "abcd")
	if s := must(q.Stats(t.Context()))(t); s.Commits != 1 || !s.LastCommit.Equal(noon()) {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Watch(ctx); err != nil {
		t.Errorf("a sound queue: %v", err)
	}
}
