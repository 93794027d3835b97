package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

func answerFile(q *Queue, id run.ID) string {
	return filepath.Join(q.dir, "answers", string(id)+".json")
}

func has(t *testing.T, q *Queue, id run.ID) bool {
	t.Helper()
	_, ok, err := q.Answer(id)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestAnswersAreUnitedAndFoundAgain(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	add(t, q, "abcd")
	if has(t, q, "abcd") {
		t.Error("an answer before the first")
	}
	if err := q.SaveAnswer("abcd", *answerOf("abcd", 2)); err != nil {
		t.Fatal(err)
	}
	second := answerOf("abcd", 1)
	second.Assets[0].URL += "&again"
	if err := q.SaveAnswer("abcd", *second); err != nil {
		t.Fatal(err)
	}
	want := answerOf("abcd", 2).Unite(*second)
	check := func(q *Queue) {
		t.Helper()
		got, ok, err := q.Answer("abcd")
		if err != nil || !ok || !cmp.Equal(got, want) {
			t.Errorf("%v, %v: %s", ok, err, cmp.Diff(want, got))
		}
		l, ok, err := q.Listed(run.Key{Run: "abcd", Kind: run.Images, ID: "1"})
		if err != nil || !ok || !cmp.Equal(l, want.Assets[1]) {
			t.Errorf("%+v, %v, %v", l, ok, err)
		}
		if _, ok, _ := q.Listed(run.Key{Run: "abcd", Kind: run.Videos, ID: "1"}); ok {
			t.Error("an asset that was not listed")
		}
	}
	check(q)
	for name, perm := range map[string]fs.FileMode{answerFile(q, "abcd"): 0o600, filepath.Dir(answerFile(q, "abcd")): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != perm {
			t.Errorf("%v, %v", info, err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	check(opened(t, dir, Options{}))
}

func TestADamagedAnswerIsNoneAndIsReplaced(t *testing.T) {
	whole := func(q *Queue) []byte {
		b, _ := os.ReadFile(answerFile(q, "abcd"))
		return b
	}
	for name, damage := range map[string]func(*Queue) []byte{
		"empty":       func(*Queue) []byte { return nil },
		"half":        func(q *Queue) []byte { return whole(q)[:50] },
		"garbage":     func(*Queue) []byte { return []byte("<html>") },
		"another's":   func(q *Queue) []byte { return []byte(strings.Replace(string(whole(q)), `"abcd"`, `"ABCD"`, 1)) },
		"wrong shape": func(*Queue) []byte { return []byte(`["abcd"]`) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := opened(t, dir, Options{})
			add(t, q, "abcd")
			if err := q.SaveAnswer("abcd", *answerOf("abcd", 2)); err != nil {
				t.Fatal(err)
			}
			b := damage(q)
			if err := errors.Join(q.Close(), os.WriteFile(answerFile(q, "abcd"), b, 0o600)); err != nil {
				t.Fatal(err)
			}
			q = opened(t, dir, Options{})
			if has(t, q, "abcd") {
				t.Error("taken for an answer")
			}
			if err := q.SaveAnswer("abcd", *answerOf("abcd", 1)); err != nil || !has(t, q, "abcd") {
				t.Errorf("not replaced: %v", err)
			}
		})
	}
}

func TestAnswersGoWithTheirRuns(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	ids := []run.ID{"open", "settled", "late-answer", "removed", "left-over"}
	add(t, q, ids...)
	for _, id := range ids {
		if err := q.SaveAnswer(id, *answerOf(id, 0)); err != nil {
			t.Fatal(err)
		}
	}
	end := func(id run.ID) {
		t.Helper()
		if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 0), Terminal: true, At: noon()}); err != nil {
			t.Fatal(err)
		}
		if err := q.Settle(t.Context(), []run.Settlement{{Run: id, Outcome: run.OutcomeStored, At: noon()}}); err != nil {
			t.Fatal(err)
		}
		if has(t, q, id) {
			t.Errorf("%q is settled and keeps its answer", id)
		}
	}
	end("settled")
	end("late-answer")
	if err := q.SaveAnswer("late-answer", *answerOf("late-answer", 1)); err != nil {
		t.Fatal(err)
	}
	c, err := q.Answered(t.Context(), "late-answer", run.Verdict{Answer: answerOf("late-answer", 1), Terminal: true, At: noon()})
	if err != nil || c.Run.State != run.StoredRun || c.Ended || len(c.Assets) != 0 || has(t, q, "late-answer") {
		t.Errorf("%+v, %v", c, err)
	}
	if err := q.Remove(t.Context(), "removed", true); err != nil || has(t, q, "removed") {
		t.Errorf("removed: %v", err)
	}
	end("left-over")

	// What a crash between a commit and the removal leaves is gone at the next start.
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"left-over.json", "unheard-of.json", ".123.tmp", "..json"} {
		if err := os.WriteFile(filepath.Join(dir, "answers", name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q = opened(t, dir, Options{})
	names, err := filepath.Glob(filepath.Join(dir, "answers", "*"))
	hidden, err2 := filepath.Glob(filepath.Join(dir, "answers", ".*"))
	if err != nil || err2 != nil || len(names) != 1 || len(hidden) != 0 || !has(t, q, "open") {
		t.Errorf("%q %q, %v", names, hidden, err)
	}
}

func TestParsedAnswersAreBounded(t *testing.T) {
	q := fresh(t)
	long := strings.Repeat("x", 300<<10)
	for i := range 30 {
		id := run.ID(fmt.Sprintf("run-%02d", i))
		if err := q.SaveAnswer(id, run.Answer{ErrorMessage: long}); err != nil {
			t.Fatal(err)
		}
		if b := q.answers.bytes; b > cacheBytes {
			t.Fatalf("%d bytes", b)
		}
	}
	if n := q.answers.order.Len(); n != len(q.answers.known) || n < 10 || n > 13 {
		t.Errorf("%d parsed, %d known", n, len(q.answers.known))
	}
	if !has(t, q, "run-00") || !has(t, q, "run-29") {
		t.Error("what is not parsed any more is in its file")
	}
	if err := q.SaveAnswer("huge", run.Answer{ErrorMessage: strings.Repeat("x", 2*cacheBytes)}); err != nil {
		t.Fatal(err)
	}
	if n := q.answers.order.Len(); n != 1 {
		t.Errorf("%d beside one that is larger than all may be", n)
	}
	for i := range 30 {
		q.answers.remove(run.ID(fmt.Sprintf("run-%02d", i)))
	}
	q.answers.remove("huge")
	if q.answers.bytes != 0 || q.answers.order.Len() != 0 || len(q.answers.known) != 0 {
		t.Errorf("%d bytes of %d", q.answers.bytes, q.answers.order.Len())
	}
}

func TestAFileThatHangsHoldsUpNoOtherRun(t *testing.T) {
	q := fresh(t)
	for _, id := range []run.ID{"parsed", "unread"} {
		if err := q.SaveAnswer(id, *answerOf(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	q.answers.mu.Lock()
	q.answers.drop("unread")
	q.answers.mu.Unlock()
	if err := unix.Mkfifo(answerFile(q, "slow"), 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	read := make(chan error, 1)
	go func() {
		_, _, err := q.Answer("slow")
		read <- err
	}()
	disk, err := os.OpenFile(answerFile(q, "slow"), os.O_WRONLY, 0) // waits until it is being read
	if err != nil {
		t.Fatal(err)
	}
	others := make(chan struct{})
	go func() {
		defer close(others)
		for _, id := range []run.ID{"parsed", "unread"} {
			if _, ok, err := q.Answer(id); !ok || err != nil {
				t.Errorf("%q: %v, %v", id, ok, err)
			}
		}
		if err := q.SaveAnswer("another", *answerOf("another", 1)); err != nil {
			t.Error(err)
		}
		q.answers.remove("parsed")
	}()
	select {
	case <-others:
	case <-time.After(10 * time.Second):
		t.Error("another run's answer waits for a file that hangs")
	}
	if err := errors.Join(disk.Close(), <-read); err != nil {
		t.Error(err)
	}
	<-others
}

func TestNoAnswerIsWrittenOutsideOfItsFolder(t *testing.T) {
	q := fresh(t)
	for _, id := range []run.ID{"", "../queue", "a/../../b", ".", "..", "abc", "nul\x00l", run.ID(strings.Repeat("x", 65))} {
		if err := q.SaveAnswer(id, run.Answer{}); err == nil {
			t.Errorf("%q: written", id)
		}
		if _, ok, err := q.Answer(id); ok || err != nil {
			t.Errorf("%q: %v, %v", id, ok, err)
		}
	}
}

// counter counts what is written, and how much at most at a time.
type counter struct{ bytes, largest int }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	c.largest = max(c.largest, len(p))
	return len(p), nil
}

func TestALargeAnswerIsWrittenInPieces(t *testing.T) {
	var c counter
	if err := newAnswers(t.TempDir()).encode(&c, *answerOf("abcd", 5000)); err != nil {
		t.Fatal(err)
	}
	if c.largest > 64<<10 || c.bytes < 5*c.largest {
		t.Errorf("%d bytes, %d of them at a time", c.bytes, c.largest)
	}
}
