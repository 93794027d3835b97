package poller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/run"
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
		ignored := w.told(run.ListIgnored)
		if len(ignored) != 2 || ignored[1].Note != `"models"` || strings.Contains(ignored[0].Note, "s3cret") {
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
		if e := w.told(run.RunGivenUp); len(e) != 2 || e[1].Hint != "assetd retry gone-2 tries it once more" || !strings.Contains(e[1].Note, "404") {
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
		budget := rate.NewLimiter(perSecond, burst)
		w.api.wait = budget.Wait
		w.api.latency = 300 * time.Millisecond
		for i := range 3000 {
			w.queue.add(run.ID(fmt.Sprintf("run-%04d", i)))
		}
		w.begin()
		w.pass(10 * time.Minute)
		w.stop()
		w.again()
		w.begin()
		w.pass(12 * time.Minute)
		at := w.api.times()
		if got := len(at); got < 22*60*perSecond*95/100 {
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
		if len(seen) != 3000 {
			t.Errorf("only %d runs were asked", len(seen))
		}
		for id, n := range seen {
			if n > 4 {
				t.Errorf("%s was asked %d times while others waited", id, n)
			}
		}
	})
}

func TestRenewalsComeBeforeDueRunsNearestDeathFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		tokens := make(chan struct{})
		w.api.wait = func(ctx context.Context) error {
			select {
			case <-tokens:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.queue.add("due-1", "due-2")
		w.queue.addEnded("end-1", "end-2", "end-3")
		w.begin()
		w.pass(time.Second) // the poller waits for a token, with a due run in mind
		w.Renew("end-1", time.Now().Add(3*time.Hour), 30*time.Second)
		w.Renew("end-2", time.Now().Add(time.Hour), 30*time.Second)
		w.Renew("end-3", time.Now().Add(2*time.Hour), 30*time.Second)
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		for range 5 {
			tokens <- struct{}{}
			w.pass(0)
		}
		if diff := cmp.Diff([]run.ID{"end-2", "end-3", "end-1", "due-1", "due-2"}, w.api.order()); diff != "" {
			t.Error(diff)
		}
		if len(w.changed()) != 5 {
			t.Errorf("%d changes told", len(w.changed()))
		}
	})
}

func TestARenewalIsAskedOnceASpacing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.addEnded("end-1")
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.begin()
		for range 100 {
			w.Renew("end-1", time.Now().Add(time.Hour), 30*time.Second)
			w.pass(time.Second)
		}
		if diff := cmp.Diff(seconds(0, 30, 60, 90), w.api.times()); diff != "" {
			t.Error(diff)
		}
		w.pass(time.Hour)
		if n := len(w.api.times()); n != 5 { // the one still wanted at the end
			t.Errorf("asked %d times, though nobody wanted", n)
		}
	})
}

func TestAFailedRenewalIsTriedUntilItIsAnswered(t *testing.T) {
	for name, failing := range map[string]reply{"5xx": down, "network": netDown, "garbled": htmlPage, "429": tooMany} {
		inBubble(t, func(w *world) {
			w.queue.addEnded("end-1")
			w.Poller.roll = func() float64 { return 0.5 }
			w.api.answerWith(func(_ run.ID, n int) reply {
				if n < 3 {
					return failing
				}
				return proven(notFound)
			})
			w.begin()
			w.Renew("end-1", time.Now().Add(time.Hour), time.Hour)
			w.pass(time.Hour)
			if n := len(w.api.times()); n != 4 {
				t.Errorf("%s: asked %d times", name, n)
			}
			if len(w.changed()) != 1 || !w.queue.last("end-1").Unlisted {
				t.Errorf("%s: %+v", name, w.changed())
			}
		})
	}
}

func TestAFailedRenewalSurvivesARestart(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.addEnded("end-1")
		w.api.answerWith(func(run.ID, int) reply { return retryAfter(down, time.Minute) })
		w.begin()
		w.Renew("end-1", time.Now().Add(time.Hour), time.Hour)
		w.pass(time.Second)
		w.stop()
		w.again()
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.begin()
		w.pass(2 * time.Minute)
		if diff := cmp.Diff(seconds(0, 60), w.api.times()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAResultForARunThatIsGoneIsDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = 10 * time.Second
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.queue.add("removed", "settled")
		w.begin()
		w.pass(5 * time.Second)
		w.queue.remove("removed")
		w.queue.mu.Lock()
		r := w.queue.runs["settled"]
		r.State = run.StoredRun
		w.queue.runs["settled"] = r
		delete(w.queue.due, "settled")
		w.queue.mu.Unlock()
		w.pass(time.Hour)
		if len(w.queue.written())+len(w.changed()) != 0 || len(w.told(run.QueueTrouble))+len(w.told(run.RunEnded)) != 0 {
			t.Errorf("%v, %+v", w.queue.written(), w.changed())
		}
		if n := len(w.api.times()); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAPanicStaysWithItsRun(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return status(run.Running) })
		w.queue.fail = func(method string, id run.ID) error {
			if method == "Answered" && id == "bad" {
				panic("index out of range, at https://h/x?token=s3cret")
			}
			return nil
		}
		w.queue.add("bad", "good")
		w.queue.addEnded("ended")
		w.begin()
		w.pass(10 * time.Minute)
		if n := w.queue.count("good"); n < 20 {
			t.Errorf("the other run was asked %d times", n)
		}
		told := w.told(run.StageRecovered)
		if len(told) != 10 && len(told) != 11 || told[0].Run != "bad" || strings.Contains(told[0].Err.Error(), "s3cret") || !strings.Contains(told[0].Note, "poll.go") {
			t.Errorf("%d: %+v", len(told), told[0])
		}
	})
}

func TestTheTroubleOfOneRunIsNotEverybodys(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.fail = func(method string, id run.ID) error {
			if id == "bad" && method == "SaveAnswer" {
				return errors.New("no room")
			}
			return nil
		}
		w.api.answerWith(func(run.ID, int) reply { return status(run.Running, "x") })
		w.queue.add("bad", "good")
		w.begin()
		w.pass(10 * time.Minute)
		if n := w.queue.count("good"); n < 20 {
			t.Errorf("the other run was asked %d times", n)
		}
		if n := len(w.told(run.QueueTrouble)); n < 10 || n > 11 {
			t.Errorf("told %d times", n)
		}
		if w.queue.count("bad") != 0 {
			t.Error("a verdict was recorded without its answer")
		}
	})
}

func TestAQueueThatCannotBeReadOrWrittenIsTriedWithBackoff(t *testing.T) {
	for _, method := range []string{"Due", "Get", "Answered", "Answer", "Proven", "Prove"} {
		inBubble(t, func(w *world) {
			failures := 0
			sick := true
			w.queue.fail = func(m string, _ run.ID) error {
				if sick && (m == method || method == "Answered" && m == "Reschedule") {
					failures++
					return errors.New("no room")
				}
				return nil
			}
			w.queue.add("run-a", "run-b")
			w.begin()
			w.pass(30 * time.Minute)
			if failures == 0 || len(w.told(run.QueueTrouble)) == 0 {
				t.Fatalf("%s: the fault did not fire (%d) or was not told", method, failures)
			}
			if n := len(w.api.times()); n > 150 {
				t.Errorf("%s: %d requests while the queue was sick", method, n)
			}
			w.queue.mu.Lock()
			sick = false
			w.queue.mu.Unlock()
			before := w.queue.count("run-a")
			w.pass(5 * time.Minute)
			if w.queue.count("run-a") < before+3 {
				t.Errorf("%s: not polled any more after it was well again", method)
			}
		})
	}
}

func TestABrokenQueueEndsRun(t *testing.T) {
	for _, method := range []string{"Due", "Get", "Answered"} {
		inBubble(t, func(w *world) {
			w.queue.fail = func(m string, _ run.ID) error {
				if m == method {
					return fmt.Errorf("commit: %w", errBroken)
				}
				return nil
			}
			w.queue.add("run-a")
			done := make(chan error)
			go func() { done <- w.Poller.Run(w.Context()) }()
			if err := <-done; !errors.Is(err, errBroken) {
				t.Errorf("%s: %v", method, err)
			}
		})
	}
}

func TestStoppingWaitsForWhatIsInFlightAndRecordsWhatWasAnswered(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = 2 * time.Second
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Second)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if w.api.finished != 1 || w.queue.count("run-a") != 0 {
			t.Errorf("%d calls finished, %+v", w.api.finished, w.queue.written())
		}
		// An answer in hand when the stop comes is not thrown away.
		w.again()
		w.api.latency = 0
		ctx, cancel := context.WithCancel(w.Context())
		w.api.answerWith(func(run.ID, int) reply { cancel(); return status(run.Completed, "x") })
		if err := w.Poller.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if !w.queue.got("run-a").Ended() {
			t.Error("the answer was thrown away")
		}
	})
}

func TestAClockSetBackPutsNothingOff(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a", "run-b")
		w.queue.mu.Lock()
		w.queue.due["run-a"] = time.Now().Add(8 * time.Hour) // scheduled before the clock was set back
		w.queue.mu.Unlock()
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "run-b" {
				return status(run.Completed, "x")
			}
			return status(run.Running)
		})
		w.begin()
		w.pass(time.Minute)
		if n := len(w.api.times("run-a")); n < 5 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

func TestAnIdlePollerSleeps(t *testing.T) {
	inBubble(t, func(w *world) {
		reads := 0
		w.queue.fail = func(m string, _ run.ID) error {
			if m == "Due" {
				reads++
			}
			return nil
		}
		w.queue.addEnded("end-1")
		w.begin()
		w.pass(time.Hour)
		if reads > 130 || len(w.api.times()) != 0 {
			t.Errorf("%d reads and %d requests in an idle hour", reads, len(w.api.times()))
		}
	})
}

func TestABlockedAPIHoldsNothingButItsOwnPolls(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = 30 * time.Second
		for i := range 100 {
			w.queue.add(run.ID(fmt.Sprintf("run-%03d", i)))
		}
		w.begin()
		w.pass(time.Second)
		if n := len(w.api.times()); n != inFlight {
			t.Errorf("%d polls in flight", n)
		}
		w.pass(5 * time.Minute)
		if n := len(w.api.times()); n < 10*inFlight {
			t.Errorf("%d polls", n)
		}
	})
}

func TestConfigureIsUsedFromTheNextAnswerOn(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Second)
		c := config
		c.MinInterval = 10 * time.Second
		w.Configure(c)
		w.pass(30 * time.Second)
		if diff := cmp.Diff(seconds(0, 3, 13, 23), w.api.times()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAllMethodsMayBeCalledTogether(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = 10 * time.Millisecond
		w.queue.add("run-a", "run-b", "run-c")
		w.queue.addEnded("end-1")
		w.api.answerWith(func(_ run.ID, n int) reply {
			return []reply{status(run.Running), badKey, down, tooMany, notFound, htmlPage, forbidden}[n%7]
		})
		w.begin()
		for i := range 8 {
			go func() {
				for range 100 {
					switch i % 5 {
					case 0:
						w.Wake()
					case 1:
						w.Tick()
					case 2:
						w.Probe()
					case 3:
						w.Renew("end-1", time.Now(), time.Second)
					case 4:
						w.Configure(config)
					}
					time.Sleep(time.Millisecond)
				}
			}()
		}
		w.pass(time.Minute)
		synctest.Wait()
		if len(w.api.times()) < 10 {
			t.Errorf("%d polls", len(w.api.times()))
		}
	})
}
