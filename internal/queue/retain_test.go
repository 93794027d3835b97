package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// settled is a run with two stored assets, ended at the API and settled here at
// these times.
func settled(t *testing.T, q *Queue, id run.ID, ended, at time.Time) {
	t.Helper()
	add(t, q, id)
	c, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 2), Terminal: true, At: ended})
	if err != nil {
		t.Fatal(err)
	}
	var keys []run.Key
	for _, a := range c.Assets {
		keys = append(keys, a.Key)
		if _, err := q.Verified(t.Context(), []run.Named{named(a.Key)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Stored(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if err := q.Settle(t.Context(), []run.Settlement{{Run: id, Outcome: run.OutcomeStored, Revision: 1, At: at}}); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyRunsSettledLongAgoLeaveTheHistory(t *testing.T) {
	q := fresh(t)
	limit := noon()
	old, new := limit.Add(-time.Hour), limit.Add(time.Hour)
	settled(t, q, "old-1", old, old)
	settled(t, q, "old-2", old, old.Add(time.Minute))
	settled(t, q, "new-1", old, new)
	settled(t, q, "wrong-clock", new, time.Unix(1000, 0)) // settled in 1970, but the API knows better
	add(t, q, "open")
	ids := must(q.Expired(t.Context(), limit))(t)
	if !slices.Equal(ids, []run.ID{"old-1", "old-2"}) {
		t.Errorf("%v", ids)
	}
	if err := q.Retry(t.Context(), "old-2", nil); err != nil { // meanwhile
		t.Fatal(err)
	}
	n, err := q.Expire(t.Context(), append(ids, "new-1", "wrong-clock", "open", "gone"), limit)
	if err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := q.Get(t.Context(), "old-1"); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("%v", err)
	}
	for _, id := range []run.ID{"old-2", "new-1", "wrong-clock", "open"} {
		if _, err := q.Get(t.Context(), id); err != nil {
			t.Errorf("%v", err)
		}
	}
	if c := must(q.Counts(t.Context()))(t); c.Assets[run.AssetStored] != 6 {
		t.Errorf("%v", c)
	}
}

func TestALongHistoryLeavesInSmallSteps(t *testing.T) {
	q := opened(t, quick(t), Options{})
	for i := range 250 {
		settled(t, q, run.ID(fmt.Sprintf("run-%03d", i)), noon(), noon())
	}
	var steps []int
	for {
		ids := must(q.Expired(t.Context(), noon().Add(time.Second)))(t)
		if len(ids) == 0 {
			break
		}
		steps = append(steps, must(q.Expire(t.Context(), ids, noon().Add(time.Second)))(t))
	}
	if !slices.Equal(steps, []int{100, 100, 50}) {
		t.Errorf("%v", steps)
	}
}
