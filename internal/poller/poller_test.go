package poller

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func TestARunIsAskedAtOnceOnHandInAndThenMoreAndMoreSeldom(t *testing.T) {
	inBubble(t, func(w *world) {
		w.begin()
		w.pass(10 * time.Second)
		w.queue.add("run-a")
		w.Wake()
		w.pass(time.Hour)
		at := w.api.times()
		if diff := cmp.Diff(seconds(10, 13, 16, 19), at[:4]); diff != "" {
			t.Error(diff)
		}
		last := at[len(at)-1] - at[len(at)-2]
		if last != 40*time.Second { // two thirds of max_interval, as there is no jitter here
			t.Errorf("asked every %v after an hour", last)
		}
		for i := 2; i < len(at); i++ {
			if gap, before := at[i]-at[i-1], at[i-1]-at[i-2]; gap < before {
				t.Errorf("asked again after %v, then after %v", before, gap)
			}
		}
	})
}

func TestATerminalAnswerEndsThePollingAndIsTold(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(_ run.ID, n int) reply {
			switch n {
			case 0:
				return status(run.Pending)
			case 1:
				return status(run.Running, "x")
			}
			r := status(run.CompletedWithErrors, "x", "y")
			r.answer.Ignored = map[string]json.RawMessage{"models": nil, "https://h/?token=s3cret": nil}
			return r
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Hour)
		if n := len(w.api.times()); n != 3 {
			t.Errorf("asked %d times", n)
		}
		e := w.told(run.RunEnded)
		if len(e) != 1 || e[0].Run != "run-a" || e[0].Note != "completed_with_errors" || e[0].Count != 2 || e[0].State != run.Downloading {
			t.Errorf("%+v", e)
		}
		ignored := w.told(run.URLsKept) // once, for all of them
		if len(ignored) != 1 || ignored[0].Count != 2 || !strings.Contains(ignored[0].Note, `"models"`) || strings.Contains(ignored[0].Note, "s3cret") {
			t.Errorf("%+v", ignored)
		}
		if len(w.changed()) != 3 || !w.changed()[2].Ended || w.changed()[1].Ended {
			t.Errorf("%+v", w.changed())
		}
	})
}

func TestTheAnswerIsInItsFileBeforeTheQueueKnowsOfIt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(_ run.ID, n int) reply {
			switch n {
			case 0:
				return status(run.Pending) // nothing worth a file
			case 1, 2:
				return status(run.Running, "x") // the second says nothing new
			case 3:
				return status(run.Running, "y")
			}
			return status(run.Completed, "z")
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Minute)
		want := []string{
			"answered run-a", "save run-a", "answered run-a", "answered run-a",
			"save run-a", "answered run-a", "save run-a", "answered run-a",
		}
		if diff := cmp.Diff(want, w.queue.written()); diff != "" {
			t.Error(diff)
		}
		a := w.queue.saved("run-a")
		if len(a.Assets) != 3 || a.Status != run.Completed {
			t.Errorf("answers are not united: %+v", a)
		}
		if got := w.queue.last("run-a").Answer.Assets; len(got) != 1 {
			t.Errorf("the verdict holds more than was answered: %+v", got)
		}
		// Whatever a renewal says, a first terminal status stands.
		w.api.answerWith(func(run.ID, int) reply { return status(run.Failed, "z", "w") })
		w.Renew("run-a", time.Now(), time.Second)
		w.pass(time.Second)
		if a := w.queue.saved("run-a"); a.Status != run.Completed || len(a.Assets) != 4 {
			t.Errorf("%+v", a)
		}
	})
}

func TestCompletedWithoutAssetsIsBelievedTheThirdTime(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed) })
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Minute)
		if diff := cmp.Diff(seconds(0, 3, 6), w.api.times()); diff != "" {
			t.Error(diff)
		}
		if e := w.told(run.RunEnded); len(e) != 1 || e[0].Count != 0 {
			t.Errorf("%+v", e)
		}
	})
}

func TestA404EndsARunOnlyAfterItsTimeAndOnlyWhereOthersWereAnswered(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "known" {
				return status(run.Running)
			}
			return notFound
		})
		w.queue.add("gone")
		w.begin()
		w.pass(3 * time.Hour)
		if r := w.queue.got("gone"); r.Ended() || !strings.Contains(w.told(run.PollRefused)[0].Note, "api.base_url") {
			t.Fatalf("ended though nothing was ever answered: %+v", r)
		}
		w.queue.add("known", "gone-2")
		w.Wake()
		w.pass(59 * time.Minute)
		if r := w.queue.got("gone"); r.GaveUp == "" {
			t.Errorf("%+v", r)
		}
		if r := w.queue.got("gone-2"); r.Ended() {
			t.Errorf("ended too early: %+v", r)
		}
		w.pass(2 * time.Minute)
		r := w.queue.got("gone-2")
		if r.GaveUp == "" {
			t.Errorf("%+v", r)
		}
		if e := w.told(run.RunGivenUp); len(e) != 2 || !strings.Contains(e[1].Hint, "assetd show gone-2") || !strings.Contains(e[1].Note, "404") {
			t.Errorf("%+v", e)
		}
	})
}

func TestAnOutageIsNotCountedAgainstA404(t *testing.T) {
	inBubble(t, func(w *world) {
		w.Poller.roll = func() float64 { return 0.5 }
		w.queue.provenBy["salt-key"] = true
		w.api.answerWith(func(run.ID, int) reply { return notFound })
		w.queue.add("gone")
		w.begin()
		w.pass(30 * time.Minute)
		w.api.answerWith(func(run.ID, int) reply { return netDown })
		w.pass(5 * time.Hour)
		w.api.answerWith(func(run.ID, int) reply { return notFound })
		w.pass(25 * time.Minute)
		if r := w.queue.got("gone"); r.Ended() {
			t.Errorf("the outage counted: %+v", r.Polls)
		}
		w.pass(10 * time.Minute)
		if r := w.queue.got("gone"); !r.Ended() {
			t.Errorf("%+v", r.Polls)
		}
	})
}

func TestARestartGoesOnWhereItStood(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.provenBy["salt-key"] = true
		w.api.answerWith(func(run.ID, int) reply { return notFound })
		w.queue.add("gone")
		for range 7 { // ten minutes each, with pauses that do not count
			w.begin()
			w.pass(10 * time.Minute)
			if err := w.stop(); err != nil {
				t.Fatal(err)
			}
			w.service.Pause("not running")
			w.pass(3 * time.Hour)
			w.service.Resume("not running")
			w.again()
			if w.queue.got("gone").Ended() {
				break
			}
		}
		m := w.queue.got("gone").Polls.MissingFor
		if m.Total < time.Hour || m.Total > time.Hour+2*time.Minute {
			t.Errorf("ended after %v", m.Total)
		}
	})
}

func TestARunThatNeverEndsIsGivenUp(t *testing.T) {
	inBubble(t, func(w *world) {
		w.Poller.roll = func() float64 { return 0.9 }
		w.queue.add("endless", "garbled")
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "garbled" {
				return htmlPage
			}
			return status("odd")
		})
		w.begin()
		w.pass(72 * time.Hour)
		for _, id := range []run.ID{"endless", "garbled"} {
			if r := w.queue.got(id); r.Ended() {
				t.Errorf("%s: too early: %+v", id, r)
			}
		}
		w.pass(2 * time.Minute)
		for _, id := range []run.ID{"endless", "garbled"} {
			if r := w.queue.got(id); r.GaveUp == "" {
				t.Errorf("%s: %+v", id, r)
			}
		}
		if e := w.told(run.StatusUnknown); len(e) != 1 || e[0].Note != `"odd"` {
			t.Errorf("told %d times: %+v", len(e), e)
		}
	})
}

func TestUnknownStatusesAreToldOncePerValueWithBoundedMemory(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(_ run.ID, n int) reply { return status(run.Status(fmt.Sprintf("odd-%d", n/2))) })
		w.queue.add("run-a")
		w.begin()
		w.pass(24 * time.Hour)
		if n := len(w.told(run.StatusUnknown)); n != statusesMax || len(w.Poller.statuses) != statusesMax {
			t.Errorf("told %d, remembered %d", n, len(w.Poller.statuses))
		}
	})
}

func TestThePollsNeverGoFasterThanTheBudget(t *testing.T) {
	inBubble(t, func(w *world) {
		const perSecond, burst = 5, 10
		runs, minutes := testenv.Cases(900, 3000), testenv.Cases(3, 11)
		budget := rate.NewLimiter(perSecond, burst)
		w.api.wait = budget.Wait
		w.api.latency = 300 * time.Millisecond
		for i := range runs {
			w.queue.add(run.ID(fmt.Sprintf("run-%04d", i)))
		}
		w.begin()
		w.pass(time.Duration(minutes) * time.Minute)
		w.stop()
		w.again()
		w.begin()
		w.pass(time.Duration(minutes) * time.Minute)
		at := w.api.times()
		if got := len(at); got < 2*minutes*60*perSecond*95/100 {
			t.Errorf("only %d requests: the budget is not used", got)
		}
		first := 0
		for i := range at {
			for at[i]-at[first] >= 2*time.Minute {
				first++
			}
			if n := i - first + 1; n > 120*perSecond+burst {
				t.Fatalf("%d requests in two minutes", n)
			}
		}
		seen := map[run.ID]int{}
		for _, id := range w.api.order() {
			seen[id]++
		}
		if len(seen) != runs {
			t.Errorf("only %d runs were asked", len(seen))
		}
		for id, n := range seen {
			if n > 4 {
				t.Errorf("%s was asked %d times while others waited", id, n)
			}
		}
	})
}
