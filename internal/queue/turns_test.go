package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

// submit adds runs of one submission.
func submit(t *testing.T, q *Queue, name string, n int) {
	t.Helper()
	handIns := make([]run.HandIn, n)
	for i := range handIns {
		handIns[i].ID = run.ID(fmt.Sprintf("%s-%06d", name, i))
	}
	if _, err := q.Add(t.Context(), handIns); err != nil {
		t.Fatal(err)
	}
}

// turn asks for what is due as the poller does, one run after another, and records
// what answer gives.
func turn(t *testing.T, q *Queue, turns *run.Turns, now time.Time, polls int, answer func(r run.Run, v *run.Verdict)) (order []run.ID) {
	t.Helper()
	for range polls {
		due, _, err := q.Due(t.Context(), now, *turns, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(due) == 0 {
			return order
		}
		r := due[0]
		for _, d := range due { // by turns the newest submission and all of them
			if d.Turn == run.Unasked && len(order)%2 == 1 {
				r = d
				break
			}
		}
		order = append(order, r.ID)
		turns[r.Turn] = r.Submission
		v := run.Verdict{Polls: r.Polls, At: now}
		v.Polls.Count++
		answer(r.Run, &v)
		if _, err := q.Answered(t.Context(), r.ID, v); err != nil {
			t.Fatal(err)
		}
	}
	return order
}

func later(d time.Duration) func(run.Run, *run.Verdict) {
	return func(_ run.Run, v *run.Verdict) { v.Next = v.At.Add(d) }
}

func TestCase_G6_SubmissionsTakeTurns(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	submit(t, q, "big", 3000)
	submit(t, q, "also", 3000)
	submit(t, q, "good", 1)
	var turns run.Turns
	order := turn(t, q, &turns, noon(), 4, later(time.Hour))
	if order[0] != "good-000000" {
		t.Errorf("the newest submission does not come first: %q", order)
	}
	// Two that are as large as each other share evenly, also after a restart.
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, Options{})
	got := map[string]int{}
	for _, id := range turn(t, q, &turns, noon(), 200, later(time.Hour)) {
		got[string(id[:3])]++
	}
	if got["big"]+got["als"] != 200 || got["big"] < 50 {
		t.Errorf("%v", got)
	}
	// Within one look ahead, too.
	due := must2(q.Due(t.Context(), noon(), turns, 100))(t)
	clear(got)
	for _, r := range due {
		if r.Turn == run.Unasked {
			got[string(r.ID[:3])]++
		}
	}
	if got["big"] < 25 || got["als"] < 25 {
		t.Errorf("%v", got)
	}
}

func must2[T any, U any](v T, _ U, err error) func(*testing.T) T { return must(v, err) }

func TestCase_G6_FilesOfOneCallAreSubmissionsOfTheirOwn(t *testing.T) {
	q := fresh(t)
	var handIns []run.HandIn
	for n := range 3 {
		for i := range 4 {
			handIns = append(handIns, run.HandIn{ID: run.ID(fmt.Sprintf("file%d-%d", n, i)), Submission: n})
		}
	}
	if _, err := q.Add(t.Context(), handIns); err != nil {
		t.Fatal(err)
	}
	submit(t, q, "next", 1)
	numbers := map[int64]int{}
	for _, h := range handIns {
		numbers[must(q.Get(t.Context(), h.ID))(t).Submission]++
	}
	if diff := cmp.Diff(map[int64]int{1: 4, 2: 4, 3: 4}, numbers); diff != "" {
		t.Error(diff)
	}
	if n := must(q.Get(t.Context(), "next-000000"))(t).Submission; n != 4 {
		t.Errorf("the next one is number %d", n)
	}
	submit(t, q, "next", 1) // known: no number is spent, and the run keeps its own
	if n := must(q.Get(t.Context(), "next-000000"))(t).Submission; n != 4 {
		t.Errorf("known, it became %d", n)
	}
}

func TestCase_G6_ClassesAreToldApart(t *testing.T) {
	q := fresh(t)
	submit(t, q, "unasked", 1)
	for _, c := range []struct {
		name  string
		polls run.Polls
	}{
		{"heard", run.Polls{Count: 1, Answered: noon()}},
		{"heard404", run.Polls{Count: 2, Answered: noon(), NotFound: 1}},
		{"missing", run.Polls{Count: 1, NotFound: 1}},
		{"failed", run.Polls{Count: 1, Failures: 1}},
		{"failed404", run.Polls{Count: 2, Failures: 1, NotFound: 1}},
	} {
		submit(t, q, c.name, 1)
		if _, err := q.Answered(t.Context(), run.ID(c.name+"-000000"), run.Verdict{Polls: c.polls, Next: noon().Add(time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]run.Class{}
	for _, r := range must2(q.Due(t.Context(), noon().Add(time.Second), run.Turns{}, 9))(t) {
		got[string(r.ID[:len(r.ID)-7])] = r.Turn
	}
	want := map[string]run.Class{
		"unasked": run.Newest, "heard": run.Heard, "heard404": run.Heard, "missing": run.Missing, "failed": run.Unheard, "failed404": run.Missing,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	due, next, err := q.Due(t.Context(), noon(), run.Turns{}, 9)
	if err != nil || len(due) != 1 || !next.Equal(noon().Add(time.Second)) {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	// Put off, a run that was never asked for waits like any other.
	if err := q.Reschedule(t.Context(), "unasked-000000", noon().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	due, next, err = q.Due(t.Context(), noon(), run.Turns{}, 9)
	if err != nil || len(due) != 0 || !next.Equal(noon().Add(time.Second)) {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	// Where more are due than are returned, the rest is due at once.
	submit(t, q, "more", 20)
	due, next, err = q.Due(t.Context(), noon().Add(time.Hour), run.Turns{}, 1)
	if err != nil || len(due) != 5 || next.After(noon().Add(time.Hour)) {
		t.Errorf("%d, %v, %v", len(due), next, err)
	}
}

// A run that was answered 404 once is not behind all others of its class.
func TestCase_G6_MissingRunsOfDifferentSubmissionsTakeTurns(t *testing.T) {
	q := fresh(t)
	submit(t, q, "big", 500)
	submit(t, q, "good", 1)
	var turns run.Turns
	missing := func(r run.Run, v *run.Verdict) {
		v.Polls.NotFound, v.Next = 1, v.At.Add(3*time.Second)
	}
	if n := len(turn(t, q, &turns, noon(), 1000, missing)); n != 501 {
		t.Fatalf("%d were asked", n)
	}
	order := turn(t, q, &turns, noon().Add(time.Minute), 2, missing)
	if order[0] != "good-000000" && order[1] != "good-000000" {
		t.Errorf("%q", order)
	}
}

// What is due next is found in the same time however many submissions there are.
func TestCase_G6_ManySubmissions(t *testing.T) {
	q := fresh(t)
	handIns := make([]run.HandIn, 20_000)
	for i := range handIns {
		handIns[i] = run.HandIn{ID: run.ID(fmt.Sprintf("one-%05d", i)), Submission: i}
	}
	if _, err := q.Add(t.Context(), handIns); err != nil {
		t.Fatal(err)
	}
	var turns run.Turns
	begin := time.Now()
	order := turn(t, q, &turns, noon(), 20, later(time.Hour))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("twenty polls took %v", took)
	}
	if order[0] != "one-19999" || len(order) != 20 {
		t.Errorf("%q", order)
	}
	due := must2(q.Due(t.Context(), noon(), turns, 100))(t)
	newest, oldest := false, false
	for _, r := range due {
		newest = newest || r.Submission > 19_900
		oldest = oldest || r.Submission < 100
	}
	if len(due) != 116 || !newest || !oldest {
		t.Errorf("%d due, newest %v, oldest %v", len(due), newest, oldest)
	}
}
