package memkv_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/queue/memkv"
	"github.com/assetd/assetd/internal/queue/queuetest"
	"github.com/assetd/assetd/internal/run"
)

func TestStore_PassesTheSuite(t *testing.T) {
	var mu sync.Mutex
	stores := map[string]*memkv.Store{}
	queuetest.Run(t, func(_ testing.TB, dir string) kv.Store {
		mu.Lock()
		defer mu.Unlock()
		if s := stores[dir]; s != nil {
			stores[dir] = s.Reopen()
		} else {
			stores[dir] = memkv.New()
		}
		return stores[dir]
	})
}

func TestStore_FullRefusesAndGoesOnLater(t *testing.T) {
	s := memkv.New()
	q, err := queue.New(s, answers.New(t.TempDir()), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	add := func(id run.ID) error {
		_, err := q.Add(t.Context(), []run.HandIn{{ID: id}})
		return err
	}
	s.SetFull(true)
	if err := add("abcd"); !errors.Is(err, kv.ErrFull) || q.Err() != nil {
		t.Errorf("%v", err)
	}
	if _, err := q.Get(t.Context(), "abcd"); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("refused, and there: %v", err)
	}
	s.SetFull(false)
	if err := errors.Join(add("abcd"), q.Audit(t.Context())); err != nil {
		t.Error(err)
	}
}

// What a crash between two operations leaves is what was committed before it.
func TestStore_ReopensAtEachCommit(t *testing.T) {
	s := memkv.New()
	q, err := queue.New(s, answers.New(t.TempDir()), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ids := []run.ID{"run-1", "run-2", "run-3"}
	var crashed []*memkv.Store
	for _, id := range ids {
		if _, err := q.Add(t.Context(), []run.HandIn{{ID: id}}); err != nil {
			t.Fatal(err)
		}
		crashed = append(crashed, s.Reopen())
	}
	unknown := errors.New("the line is cut")
	s.Break(unknown)
	if _, err := q.Add(t.Context(), []run.HandIn{{ID: "run-4"}}); !errors.Is(err, unknown) || !errors.Is(q.Err(), unknown) {
		t.Errorf("%v", err)
	}
	_ = q.Close()
	for n, s := range crashed {
		q, err := queue.New(s, answers.New(t.TempDir()), queue.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := q.Counts(t.Context())
		if err := errors.Join(err, q.Audit(t.Context()), q.Close()); err != nil || c.Runs[run.Waiting] != n+1 {
			t.Errorf("after %d: %v, %v", n+1, c, err)
		}
	}
}
