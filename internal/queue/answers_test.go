package queue

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func has(t *testing.T, q *Queue, id run.ID) bool {
	t.Helper()
	_, ok, err := q.Answer(id)
	if err != nil {
		t.Fatal(err)
	}
	return ok
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
