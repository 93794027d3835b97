package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// seek goes once through all runs.
func seek(t *testing.T, q *Queue, runs int) {
	t.Helper()
	for range runs/oldestStep + 1 {
		if err := q.SeekOldest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFiguresTellWhatIsFirst(t *testing.T) {
	q := fresh(t)
	if f := must(q.Figures(t.Context()))(t); !f.Due.IsZero() || f.Nearest.Key.ID != "" || !f.Oldest.IsZero() || f.Size == 0 {
		t.Errorf("of an empty queue: %+v", f)
	}
	add(t, q, "aaaa", "bbbb")
	if err := q.Reschedule(t.Context(), "aaaa", noon().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	answer := answerOf("bbbb", 3)
	answer.Assets[0].Expiry = time.Time{} // not known: it comes first in the index
	answer.Assets[1].Expiry = noon().Add(2 * time.Hour)
	answer.Assets[2].Expiry = noon().Add(time.Hour)
	if _, err := q.Answered(t.Context(), "bbbb", run.Verdict{Answer: answer, Next: noon().Add(time.Second), At: noon()}); err != nil {
		t.Fatal(err)
	}
	f := must(q.Figures(t.Context()))(t)
	if f.Nearest.Key.ID != answer.Assets[2].ID || !f.Due.Equal(noon().Add(time.Second)) || f.Runs[run.Waiting] != 2 || f.Assets[run.AssetWaiting] != 3 {
		t.Errorf("%+v", f)
	}
}

func TestFiguresTellOfWhatOthersHaveNotTaken(t *testing.T) {
	q := fresh(t)
	q.SetHooks(run.AllHooks)
	for i := range 3 {
		n := run.Notice{Kind: run.AssetsAtRisk, At: noon().Add(time.Duration(i) * time.Minute)}
		if err := q.Post(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if f := must(q.Figures(t.Context()))(t); f.Outbox != 3 || !f.First.Equal(noon()) {
		t.Errorf("%d, the first of %v", f.Outbox, f.First)
	}
	all := must(q.Outbox(t.Context(), run.AllHooks, 0, 10))(t)
	if err := q.Told(t.Context(), run.AllHooks, []uint64{all[0].Seq}); err != nil {
		t.Fatal(err)
	}
	if f := must(q.Figures(t.Context()))(t); f.Outbox != 2 || !f.First.Equal(noon().Add(time.Minute)) {
		t.Errorf("%d, the first of %v", f.Outbox, f.First)
	}
}

func TestTheOldestOpenRunIsFoundAmongManyAndFollowedAsTheySettle(t *testing.T) {
	now := noon()
	q := opened(t, quick(t), Options{Now: func() time.Time { return now }})
	const old = 3 * oldestKept
	for i := range old { // the later ones have the smaller IDs
		now = noon().Add(time.Duration(i) * time.Second)
		add(t, q, run.ID(fmt.Sprintf("old-%04d", old-i)))
	}
	now = noon().Add(time.Hour)
	var young []run.ID
	for i := range oldestStep + 1000 {
		young = append(young, run.ID(fmt.Sprintf("new-%05d", i)))
	}
	add(t, q, young...)
	if f := must(q.Figures(t.Context()))(t); !f.Oldest.IsZero() {
		t.Errorf("known before anything was looked at: %v", f.Oldest)
	}
	seek(t, q, len(young)+old)
	settle := func(n int) {
		id := run.ID(fmt.Sprintf("old-%04d", old-n))
		if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 0), Terminal: true, At: now}); err != nil {
			t.Fatal(err)
		}
		if err := q.Settle(t.Context(), []run.Settlement{{Run: id, Outcome: run.OutcomeStored, At: now}}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range oldestKept + 20 {
		if n == oldestKept { // all that were kept have settled: the last stands for those that are younger
			if f := must(q.Figures(t.Context()))(t); !f.Oldest.Equal(noon().Add((oldestKept - 1) * time.Second)) {
				t.Errorf("when all known have settled: %v", f.Oldest)
			}
			seek(t, q, len(young)+old)
		}
		if f := must(q.Figures(t.Context()))(t); !f.Oldest.Equal(noon().Add(time.Duration(n) * time.Second)) {
			t.Fatalf("with %d settled: %v", n, f.Oldest.Sub(noon()))
		}
		settle(n)
	}
}

func TestWhatIsSoughtRestsOnceItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		seek(t, q, 0)
		add(t, q, "abcd")
		seek(t, q, 0) // it rests: nobody has asked
		if q.oldest.known != nil {
			t.Error("a step while it should rest")
		}
		if f := must(q.Figures(t.Context()))(t); !f.Oldest.IsZero() {
			t.Errorf("%v", f.Oldest)
		}
		seek(t, q, 0)
		if f := must(q.Figures(t.Context()))(t); !f.Oldest.Equal(noon()) {
			t.Errorf("%v", f.Oldest)
		}
	})
}

// asked is what Alive says after so long.
func asked(q *Queue) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return q.Alive(ctx)
}

func TestAWriterThatIsSlowIsAliveAndOneThatHangsIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fresh(t)
		release := hold(q)
		time.Sleep(commitHangs - 5*time.Second)
		if err := asked(q); err != nil {
			t.Errorf("slow: %v", err)
		}
		time.Sleep(5 * time.Second)
		if err := asked(q); err == nil || !strings.Contains(err.Error(), "one commit for") {
			t.Errorf("hanging: %v", err)
		}
		release()
		if err := asked(q); err != nil {
			t.Errorf("after it: %v", err)
		}
		time.Sleep(time.Hour) // nothing to do is no fault
		if err := asked(q); err != nil {
			t.Errorf("idle: %v", err)
		}
	})
}

func TestAWriterThatHasEndedIsNotAlive(t *testing.T) {
	q := fresh(t)
	dead := errors.New("the disk is gone")
	broken := q.store.View(t.Context(), func(kv.Tx) error { return kv.Damaged("the disk is gone", dead) })
	if !errors.Is(broken, dead) {
		t.Fatalf("%v", broken)
	}
	<-q.stopped
	if err := asked(q); !errors.Is(err, dead) {
		t.Errorf("%v", err)
	}
}
