package poller

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestA401StopsAllAndProbesGoRound(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return badKey })
		w.api.latency = time.Millisecond // so that all three are out before the first is refused
		w.queue.add("run-a", "run-b", "run-c")
		w.begin()
		w.pass(5 * time.Minute)
		want := seconds(0, 0, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243)
		if diff := cmp.Diff(want, whole(w.api.times())); diff != "" {
			t.Errorf("when: %s", diff)
		}
		order := w.api.order()
		for i := 5; i < len(order); i++ {
			if order[i] == order[i-1] || order[i] == order[i-2] {
				t.Errorf("probes do not go round: %v", order)
				break
			}
		}
		if n := len(w.told(run.APIRefused)); n != 10 { // once at the stop, once a probe: loud
			t.Errorf("told %d times", n)
		}
		if e := w.told(run.APIRefused)[0]; e.Hint == "" || e.Err == nil || e.Host != "api.test" {
			t.Errorf("%+v", e)
		}
		if diff := cmp.Diff([]string{"api"}, w.service.Paused()); diff != "" {
			t.Error(diff)
		}
		if got := w.service.Now(); got > time.Second {
			t.Errorf("%v count against the runs", got)
		}

		w.api.answerWith(func(run.ID, int) reply { return status(run.Running) })
		w.pass(4 * time.Second) // the next probe is due at 303 s
		if n := len(w.told(run.APIBack)); n != 1 || len(w.service.Paused()) != 0 {
			t.Errorf("back told %d times, paused by %v", n, w.service.Paused())
		}
		got := w.api.times()[len(want):]
		if diff := cmp.Diff(seconds(303, 303, 303), whole(got)); diff != "" {
			t.Errorf("one success does not resume all at once: %s", diff)
		}
	})
}

func TestANewRunIsProbedWithinASecondAndFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return badKey })
		w.queue.add("run-a")
		w.begin()
		w.pass(200 * time.Second) // the next probe would be at 243 s
		before := len(w.api.times())
		w.queue.add("run-c")
		w.Wake()
		w.pass(10 * time.Second)
		if diff := cmp.Diff(seconds(201, 203, 207), w.api.times()[before:]); diff != "" {
			t.Error(diff)
		}
		if got := w.api.order()[before]; got != "run-c" {
			t.Errorf("%s was probed first", got)
		}
	})
}

func TestProbeAsksAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return badKey })
		w.queue.add("run-a")
		w.begin()
		w.pass(200 * time.Second)
		before := len(w.api.times())
		w.Probe()
		w.pass(4 * time.Second)
		if diff := cmp.Diff(seconds(200, 201, 203), w.api.times()[before:]); diff != "" {
			t.Error(diff)
		}
		w.api.setKey("another")
		w.api.answerWith(func(run.ID, int) reply { return status(run.Running) })
		w.Probe()
		w.pass(0)
		if len(w.told(run.APIBack)) != 1 {
			t.Error("not back at once with another key")
		}
	})
}

func TestThoseNeverAnsweredAreProbedFirstAndNobodyIsLeftOut(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("old-1", "old-2", "old-3")
		w.begin()
		w.pass(time.Second)
		w.stop()
		w.pass(time.Minute) // the old ones are due longest
		w.queue.add("new-1", "new-2")
		w.queue.addEnded("ended")
		w.Renew("ended", time.Now(), time.Second)
		w.api.answerWith(func(run.ID, int) reply { return badKey })
		// Refused before anything else is asked.
		w.Poller.gate.refuse("old-1", "salt-key", time.Now())
		before := len(w.api.times())
		w.begin()
		w.pass(10 * time.Minute)
		got := w.api.order()[before:]
		want := []run.ID{"new-1", "new-2", "old-2", "old-3", "ended"} // old-1 was asked when the gate closed
		if diff := cmp.Diff(want, got[:5]); diff != "" {
			t.Error(diff)
		}
		round := map[run.ID]bool{}
		for _, id := range got[5:11] {
			round[id] = true
		}
		if len(round) != 6 {
			t.Errorf("the second round leaves some out: %v", got[5:11])
		}
	})
}

func TestA403Without200StopsAllAndA403AmongAnswersIsTheRunsOwn(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "private" {
				return forbidden
			}
			return status(run.Running)
		})
		w.queue.add("private")
		w.begin()
		w.pass(500 * time.Millisecond)
		if len(w.told(run.APIRefused)) != 1 {
			t.Fatal("a 403 with no 200 ever is not taken for the key's")
		}
		w.queue.add("public")
		w.Wake()
		w.pass(30 * time.Second)
		if len(w.told(run.APIBack)) != 1 || len(w.told(run.APIRefused)) != 1 {
			t.Fatalf("%d back, %d refused", len(w.told(run.APIBack)), len(w.told(run.APIRefused)))
		}
		if r := w.queue.got("private"); !r.Polls.NoAccess || r.Polls.NotFound == 0 {
			t.Errorf("no access is not shown: %+v", r.Polls)
		}
		at := w.api.times("private")
		w.pass(3 * time.Minute)
		more := w.api.times("private")[len(at):]
		for i := 1; i < len(more); i++ {
			if more[i]-more[i-1] != config.MaxInterval {
				t.Errorf("asked after %v, not at max_interval", more[i]-more[i-1])
			}
		}
		w.pass(time.Hour)
		if r := w.queue.got("private"); r.GaveUp == "" {
			t.Errorf("not ended like a 404: %+v", r.Polls)
		}
		if len(w.told(run.RunGivenUp)) != 1 {
			t.Error("its end is not told")
		}
	})
}

func TestA403LongAfterTheLast200StopsAll(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a", "run-b")
		w.api.answerWith(func(id run.ID, n int) reply {
			if id == "run-a" && n == 0 {
				return status(run.Completed, "x")
			}
			if n == 0 {
				return retryAfter(tooMany, othersFor+time.Second)
			}
			return forbidden
		})
		w.begin()
		w.pass(othersFor)
		if len(w.told(run.APIRefused)) != 0 {
			t.Fatal("stopped too early")
		}
		w.pass(1500 * time.Millisecond)
		if len(w.told(run.APIRefused)) != 1 {
			t.Error("a 403 more than 5 min after the last 200 is taken for the run's own")
		}
	})
}

func TestA403AfterAChangeOfKeyStopsAll(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Second)
		w.api.setKey("another")
		w.api.answerWith(func(run.ID, int) reply { return forbidden })
		w.pass(5 * time.Second)
		if len(w.told(run.APIRefused)) == 0 {
			t.Error("a 403 with no 200 since the change of key is taken for the run's own")
		}
	})
}

func TestWhatIsSaidOfAKeyNoLongerInUseChangesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = time.Second
		w.api.answerWith(func(_ run.ID, n int) reply {
			if n == 0 {
				return badKey
			}
			return status(run.Running)
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(500 * time.Millisecond)
		w.api.setKey("another")
		w.Probe()
		w.pass(time.Minute)
		if n := len(w.told(run.APIRefused)); n != 0 {
			t.Errorf("stopped %d times by an answer about the old key", n)
		}
		if at := w.api.times(); at[1] != time.Second {
			t.Errorf("asked again at %v with the new key", at[1])
		}
	})
}

func TestA200ForAKeyThatChangedMeanwhileProvesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.latency = time.Second
		w.queue.add("run-a")
		w.begin()
		w.pass(500 * time.Millisecond)
		w.api.setKey("another")
		w.pass(time.Second)
		if w.queue.isProven("salt-key") || w.queue.isProven("salt-another") {
			t.Error("proven by it")
		}
		w.pass(10 * time.Second)
		if !w.queue.isProven("salt-another") {
			t.Error("not proven by a later one")
		}
	})
}

func TestA404ShowsThatAKeyIsTakenOnlyWhereItHasWorked(t *testing.T) {
	for _, before := range []bool{false, true} {
		inBubble(t, func(w *world) {
			w.queue.provenBy["salt-key"] = before
			w.api.answerWith(func(_ run.ID, n int) reply {
				if n == 0 {
					return badKey
				}
				return notFound
			})
			w.queue.add("run-a")
			w.begin()
			w.pass(10 * time.Second)
			if back := len(w.told(run.APIBack)) == 1; back != before {
				t.Errorf("proven %v: back %v", before, back)
			}
		})
	}
}

func TestWhereOnlySomeCallsAreRefusedProbesStaySeldom(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.provenBy["salt-key"] = true
		w.queue.add("missing")
		for i := range 20 {
			w.queue.add(run.ID(fmt.Sprintf("refused-%d", i)))
		}
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "missing" {
				return notFound
			}
			return badKey
		})
		w.begin()
		w.pass(time.Hour)
		if n := len(w.api.times()); n > 1000 { // a flap a second would be tens of thousands
			t.Errorf("%d requests in an hour", n)
		}
	})
}

func TestAProbeThatIsNotAnsweredIsAFailedProbe(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(_ run.ID, n int) reply {
			if n == 0 {
				return badKey
			}
			return []reply{netDown, down, tooMany, htmlPage}[n%4]
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Minute)
		if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 31), w.api.times()); diff != "" {
			t.Error(diff)
		}
		if len(w.told(run.APIBack)) != 0 {
			t.Error("back without an answer")
		}
	})
}

func TestAnOutageIsToldOnceAndItsTimeDoesNotCount(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Second)
		w.api.answerWith(func(_ run.ID, n int) reply { return []reply{netDown, down, moved}[n%3] })
		w.Poller.mu.Lock()
		w.Poller.roll = func() float64 { return 0.999 }
		w.Poller.mu.Unlock()
		w.pass(time.Hour)
		if n := len(w.told(run.APIDown)); n != 1 {
			t.Errorf("down told %d times", n)
		}
		if got := w.service.Now(); got > 5*time.Second { // from the first failed poll on
			t.Errorf("%v of the outage count", got)
		}
		if n := len(w.api.times()); n > 80 || n < 60 {
			t.Errorf("asked %d times in an hour", n)
		}
		w.api.answerWith(func(run.ID, int) reply { return status(run.Running) })
		w.pass(time.Minute)
		if len(w.told(run.APIBack)) != 1 || len(w.service.Paused()) != 0 {
			t.Errorf("back %d times, paused by %v", len(w.told(run.APIBack)), w.service.Paused())
		}
	})
}

func TestASingleFailureIsNoOutage(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(_ run.ID, n int) reply {
			if n%2 == 0 {
				return down
			}
			return status(run.Running)
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Minute)
		if n := len(w.told(run.APIDown)); n != 0 {
			t.Errorf("told %d times", n)
		}
		if n := len(w.told(run.PollRefused)); n < 5 {
			t.Errorf("failures told %d times", n)
		}
	})
}

func TestTimeIn429DoesNotCountAndIsNoOutage(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.add("run-a")
		w.begin()
		w.pass(time.Second)
		w.api.answerWith(func(run.ID, int) reply { return tooMany })
		w.pass(time.Hour)
		if got := w.service.Now(); got > 5*time.Second {
			t.Errorf("%v of it count", got)
		}
		if len(w.told(run.APIDown))+len(w.told(run.APIRefused)) != 0 {
			t.Error("told as an outage")
		}
		w.api.answerWith(func(run.ID, int) reply { return status(run.Running) })
		w.pass(2 * time.Minute)
		if got := w.service.Now(); got < time.Minute {
			t.Errorf("only %v count after it", got)
		}
	})
}
