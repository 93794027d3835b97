package boltkv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	bolterrors "go.etcd.io/bbolt/errors"
)

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
			q, store := stored(t, t.TempDir(), queue.Options{})
			next := store.LastID() + 1
			if err := store.Judge(c.err, next); errors.Is(err, kv.ErrFull) != c.full || (q.Err() == nil) != c.full {
				t.Errorf("not committed: %v, dead: %v", err, q.Err())
			}
			q, store = stored(t, t.TempDir(), queue.Options{})
			// The same error from the sync after the commit's last write: it stands.
			if err := store.Judge(c.err, next-1); errors.Is(err, kv.ErrFull) || q.Err() == nil {
				t.Errorf("committed: %v, dead: %v", err, q.Err())
			}
		})
	}
}

func TestACommitOfUnknownOutcomeEndsTheQueue(t *testing.T) {
	q, store := stored(t, t.TempDir(), queue.Options{})
	add(t, q, "before")
	watched := make(chan error)
	go func() { watched <- q.Watch(context.Background()) }()
	store.File().Close() // every write from now on fails, and not for want of room
	_, err := q.Add(t.Context(), []run.HandIn{{ID: "unknown"}})
	if err == nil || errors.Is(err, kv.ErrFull) || !strings.Contains(err.Error(), "unknown") {
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
	q := opened(t, t.TempDir(), queue.Options{MaxSize: 256 << 10, Tell: func(e run.Event) {
		if e.Kind == run.QueueTrouble && errors.Is(e.Err, kv.ErrFull) {
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
		case !errors.Is(err, kv.ErrFull):
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
	dir := t.TempDir()
	q, store := stored(t, dir, queue.Options{})
	err := store.Update(t.Context(), func(tx kv.Tx) error {
		if _, err := tx.Put(bMeta, []byte("never"), []byte{1}); err != nil {
			return err
		}
		panic("page 7 already freed")
	})
	damage := (*kv.DamageError)(nil)
	if !errors.As(err, &damage) || damage.File != boltkv.Path(dir) || !strings.Contains(err.Error(), "page 7 already freed") {
		t.Fatalf("%v", err)
	}
	if q.Err() == nil {
		t.Error("not dead")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	_, again := stored(t, dir, queue.Options{})
	err = again.View(t.Context(), func(tx kv.Tx) error {
		if tx.Get(bMeta, []byte("never")) != nil {
			t.Error("half an operation is in the file")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEveryCommitTellsWhatItTook(t *testing.T) {
	var mu sync.Mutex
	var commits, disk []time.Duration
	q := opened(t, t.TempDir(), queue.Options{Timed: func(c, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		commits, disk = append(commits, c), append(disk, d)
	}})
	add(t, q, "aaaa")
	add(t, q, "aaaa") // nothing new is no commit
	add(t, q, "bbbb")
	mu.Lock()
	defer mu.Unlock()
	if len(commits) != 2 || disk[0] <= 0 || disk[0] > commits[0] || disk[1] > commits[1] {
		t.Errorf("commits took %v, of it on disk %v", commits, disk)
	}
}

// Freed pages keep what they held, so one look at the file says what was ever in it.
func TestNoTokenReachesTheFile(t *testing.T) {
	const secret = "S3CR3TT0K3N"
	url := "https://cdn.example/a.png?token=exp=1~hmac=" + secret
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	ctx := t.Context()
	if _, err := q.Add(ctx, []run.HandIn{{ID: "abcd", Labels: map[string]string{"from": url}}}); err != nil {
		t.Fatal(err)
	}
	answer := run.Answer{
		Run: "abcd", App: url, Status: run.Status(url), StartedAt: url, CompletedAt: url, ErrorMessage: url,
		Assets: []run.Listed{
			{Kind: run.Images, ID: "1", URL: url, Source: url, Tool: url, CreatedAt: url},
			{Kind: run.Images, ID: "2", URL: url, Source: "https://cdn.example/a.png"},
		},
	}
	if err := q.SaveAnswer("abcd", answer); err != nil {
		t.Fatal(err)
	}
	c, err := q.Answered(ctx, "abcd", run.Verdict{Answer: &answer, Terminal: true, At: noon(), GiveUp: url, Polls: run.Polls{LastError: url}})
	if err != nil || strings.Contains(fmt.Sprintf("%+v", c), secret) {
		t.Errorf("%+v, %v", c, err)
	}
	one, two := c.Assets[0].Key, c.Assets[1].Key
	whole := named(one)
	whole.ContentType, whole.Warnings = url, []string{url}
	_, err = q.Tried(ctx, one, run.Trial{Error: url})
	_, err2 := q.Verified(ctx, []run.Named{whole})
	_, err3 := q.Again(ctx, one, url)
	_, err4 := q.Lose(ctx, two, run.Loss{Rule: run.LossTime, Reason: url, At: noon()})
	_, err5 := q.Adopt(ctx, "abcd", []run.Adopted{{Key: one, Stored: run.Stored{File: "f", ContentType: url, Warnings: []string{url}}}})
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(boltkv.Path(dir))
	if err != nil || bytes.Contains(file, []byte(secret)) || !bytes.Contains(file, []byte("https://cdn.example/a.png")) {
		t.Errorf("a token is in the file, or not even its URL is: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(answers.Dir(dir), "abcd.json")); err != nil || !bytes.Contains(b, []byte(secret)) {
		t.Errorf("the answer has no URL: %v", err)
	}
	if err := q.Settle(ctx, []run.Settlement{{Run: "abcd", Outcome: run.OutcomePartial, At: noon()}}); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("a token is in %s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
