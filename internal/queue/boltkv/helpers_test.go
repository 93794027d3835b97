package boltkv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if child() { // one that a test of these started
		return
	}
	goleak.VerifyTestMain(m)
}

// stored is a queue and the store that it is in, checked by bbolt after every commit,
// and by the rules of the queue at the end.
func stored(t *testing.T, dir string, options queue.Options) (*queue.Queue, *boltkv.Store) {
	t.Helper()
	if options.Now == nil {
		options.Now = noon
	}
	store, err := boltkv.Open(dir, queue.Format(), boltkv.Options{
		Tell: options.Tell, ReadOnly: options.ReadOnly, LockWait: options.LockWait,
		MaxSize: options.MaxSize, Timed: options.Timed, CompactFrom: options.CompactFrom,
	})
	if err != nil {
		t.Fatal(err)
	}
	store.Strict()
	q, err := queue.New(store, answers.New(dir), options)
	if err != nil {
		t.Fatal(errors.Join(err, store.Close()))
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
	return q, store
}

func opened(t *testing.T, dir string, options queue.Options) *queue.Queue {
	t.Helper()
	q, _ := stored(t, dir, options)
	return q
}

func name(b kv.Bucket) []byte { return []byte(queue.Format().Buckets[b].Name) }

// compactEvery is how often the queue's writer calls Maintain.
const compactEvery = time.Minute

// Some of the buckets and keys of the queue.
const (
	bMeta   = kv.Bucket(0)
	bRuns   = kv.Bucket(1)
	bAssets = kv.Bucket(2)
	bOutbox = kv.Bucket(10)
	buckets = kv.Bucket(11)

	keySchema  = "schema"
	keyID      = "id"
	keyService = "service"
	keyVolume  = "volume/"
	keyProof   = "proof/"
	keyDamaged = "damaged/"
	keyCounts  = "counts"
)

// The states in the counts of the first version, and the numbers before that of notices.
const (
	firstStates   = 9
	beforeNotices = firstStates + int(buckets)
)

// noon is when these tests begin.
func noon() time.Time { return time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC) }

func fresh(t *testing.T) *queue.Queue {
	t.Helper()
	return opened(t, t.TempDir(), queue.Options{})
}

func add(t *testing.T, q *queue.Queue, ids ...run.ID) {
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

// labels is labels of so many bytes in all; up to run.MaxLabels+1, of so many labels.
func labels(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("%04d", i)
		if n <= run.MaxLabels+1 {
			all[name] = "v"
			continue
		}
		left := n - i*1000
		if left <= 0 {
			break
		}
		all[name] = strings.Repeat("x", min(1000, left)-len(name))
	}
	return all
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

// quick is a directory in memory where there is one: these tests are about what
// is recorded, not about disks.
func quick(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "queue")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// settledRun is a run of two stored images, with its manifest.
func settledRun(t *testing.T, q *queue.Queue, id run.ID) []run.Key {
	t.Helper()
	add(t, q, id)
	c, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 2), Terminal: true, At: noon()})
	if err != nil {
		t.Fatal(err)
	}
	keys := []run.Key{c.Assets[0].Key, c.Assets[1].Key}
	_, err = q.Verified(t.Context(), []run.Named{named(keys[0]), named(keys[1])})
	_, err2 := q.Stored(t.Context(), keys)
	err3 := q.Settle(t.Context(), []run.Settlement{{Run: id, Outcome: run.OutcomeStored, Revision: 1, At: noon()}})
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	return keys
}

// settle brings a run with two assets to its end.
func settle(t *testing.T, q *queue.Queue, id run.ID) {
	t.Helper()
	if err := live(t.Context(), q, id, func(string, run.ID) {}); err != nil {
		t.Fatal(err)
	}
}
