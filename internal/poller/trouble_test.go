package poller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

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

func TestAProbeThatPanicsIsAFailedProbe(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return badKey })
		w.queue.add("run-a") // of two, the second may or may not be out before the first is refused
		w.queue.fail = func(method string, _ run.ID) error {
			if method == "Proven" && time.Since(w.api.start) > 0 {
				panic("no")
			}
			return nil
		}
		w.begin()
		w.pass(time.Minute)
		if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 31), w.api.times()); diff != "" {
			t.Error(diff)
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
