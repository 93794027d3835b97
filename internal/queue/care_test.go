package queue

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// settledRun is a run of two stored images, with its manifest.
func settledRun(t *testing.T, q *Queue, id run.ID) []run.Key {
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

func TestAMarkStandsUntilTheFileIsFoundWhole(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	keys := settledRun(t, q, "abcd")
	mark := func(damage string) {
		t.Helper()
		if err := q.Mark(t.Context(), "abcd", 1, []run.Finding{{Key: keys[0], Damage: damage}, {Key: keys[1]}}); err != nil {
			t.Fatal(err)
		}
	}
	mark("missing")
	mark("other bytes")
	record := []run.Finding{{Key: run.Key{Run: "abcd"}, Damage: "manifest.json is missing"}}
	if err := q.Mark(t.Context(), "abcd", 1, record); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, Options{})
	a := must(q.Assets(t.Context(), "abcd"))(t)
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Marked != 1 || r.Stored != 2 || !a[0].Marked || a[0].LastError != "other bytes" || a[1].Marked {
		t.Errorf("%+v, %+v", r, a)
	}
	if r := must(q.Get(t.Context(), "abcd"))(t); r.BadRecord != record[0].Damage {
		t.Errorf("%+v", r)
	}
	mark("")
	if err := q.Mark(t.Context(), "abcd", 1, []run.Finding{{Key: run.Key{Run: "abcd"}}}); err != nil {
		t.Fatal(err)
	}
	a = must(q.Assets(t.Context(), "abcd"))(t)
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Marked != 0 || r.Repairable() || a[0].Marked || a[0].LastError != "" {
		t.Errorf("taken back: %+v, %+v", r, a[0])
	}
}

func TestAMarkOfAnEarlierTimeIsRefused(t *testing.T) {
	q := fresh(t)
	keys := settledRun(t, q, "abcd")
	found := []run.Finding{{Key: keys[0], Damage: "other bytes"}}
	if err := q.Mark(t.Context(), "abcd", 0, found); !errors.Is(err, run.ErrStale) {
		t.Errorf("another revision: %v", err)
	}
	if err := q.Mark(t.Context(), "nope", 1, nil); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("unknown run: %v", err)
	}
	both := append(slices.Clone(found), run.Finding{Key: run.Key{Run: "abcd", Kind: run.Audios, ID: "none"}, Damage: "x"})
	if err := q.Mark(t.Context(), "abcd", 1, both); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("unknown asset: %v", err)
	}
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Marked != 0 {
		t.Errorf("half of it was recorded: %+v", r)
	}
	if err := q.Retry(t.Context(), "abcd", nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Mark(t.Context(), "abcd", 1, found); !errors.Is(err, run.ErrStale) {
		t.Errorf("open run: %v", err)
	}
}

func TestARemovedRunComesBackOnlyByANewHandIn(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	add(t, q, "abcd", "efgh")
	if err := q.Remove(t.Context(), "abcd", true); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, Options{})
	again := []run.HandIn{{ID: "abcd", Again: true}, {ID: "efgh", Again: true}, {ID: "new1", Again: true}}
	taken, err := q.Add(t.Context(), again)
	if err != nil || taken.New != 1 || taken.Known != 2 {
		t.Errorf("read again: %+v, %v", taken, err)
	}
	if _, err := q.Get(t.Context(), "abcd"); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("it came back by itself: %v", err)
	}
	add(t, q, "abcd")
	if err := errors.Join(q.Remove(t.Context(), "efgh", true), q.Reschedule(t.Context(), "abcd", noon())); err != nil {
		t.Errorf("handed in anew: %v", err)
	}
	if taken, err := q.Add(t.Context(), again[:1]); err != nil || taken.Known != 1 {
		t.Errorf("%+v, %v", taken, err)
	}
}

func TestWhatWasRemovedLongAgoIsForgotten(t *testing.T) {
	now := noon()
	q := opened(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	add(t, q, "aaaa", "bbbb", "cccc")
	if err := errors.Join(q.Remove(t.Context(), "bbbb", true), q.Remove(t.Context(), "cccc", true)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(removedFor + time.Hour)
	if err := q.Remove(t.Context(), "aaaa", true); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"aaaa": true, "bbbb": false, "cccc": false} {
		if got := must(q.noted(keyRemoved + id))(t); got != want {
			t.Errorf("%s is remembered: %v", id, got)
		}
	}
}

func TestWhatARemovedRunLeavesOnTheVolumeIsNotedUntilItIsCleared(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	keys := settledRun(t, q, "done")
	add(t, q, "open")
	c, err := q.Answered(t.Context(), "open", run.Verdict{Answer: answerOf("open", 2), Terminal: true, At: noon()})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		q.Mark(t.Context(), "done", 1, []run.Finding{{Key: keys[0], Damage: "x"}}),
		q.Retry(t.Context(), "done", map[run.Key]string{keys[0]: "aside/x"}),
		q.Remove(t.Context(), "done", true), q.Remove(t.Context(), "open", true), q.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, Options{})
	want := []string{keys[0].Hash(), c.Assets[0].Key.Hash(), c.Assets[1].Key.Hash()}
	slices.Sort(want)
	got := must(q.Leftovers(t.Context(), 10))(t)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if few := must(q.Leftovers(t.Context(), 2))(t); len(few) != 2 {
		t.Errorf("%d, want 2", len(few))
	}
	add(t, q, "open") // and so are its assets
	if _, err := q.Answered(t.Context(), "open", run.Verdict{Answer: answerOf("open", 1), At: noon()}); err != nil {
		t.Fatal(err)
	}
	if got := must(q.Leftovers(t.Context(), 10))(t); len(got) != 2 || slices.Contains(got, c.Assets[0].Key.Hash()) {
		t.Errorf("known again: %v", got)
	}
	if err := q.Cleared(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got := must(q.Leftovers(t.Context(), 10))(t); len(got) != 0 {
		t.Errorf("cleared: %v", got)
	}
}

func TestAnAnswerThatComesAfterTheRemovalIsRemovedToo(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	add(t, q, "abcd")
	if err := q.Remove(t.Context(), "abcd", true); err != nil {
		t.Fatal(err)
	}
	if err := q.SaveAnswer("abcd", *answerOf("abcd", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Answered(t.Context(), "abcd", run.Verdict{Answer: answerOf("abcd", 1)}); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("error %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "answers", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
