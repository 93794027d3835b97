package poller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestRenewalsComeBeforeDueRunsNearestDeathFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		tokens := w.byToken()
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

func TestAFailedRenewalKeepsItsPlaceBeforeDueRuns(t *testing.T) {
	inBubble(t, func(w *world) {
		tokens := w.byToken()
		w.queue.add("due-1", "due-2")
		w.queue.addEnded("end-1")
		w.api.answerWith(func(id run.ID, n int) reply {
			if id == "end-1" && n < 2 {
				return htmlPage
			}
			return status(run.Completed, "x")
		})
		w.begin()
		w.Renew("end-1", time.Now().Add(time.Hour), time.Hour)
		for range 5 {
			tokens <- struct{}{}
			w.pass(time.Millisecond)
		}
		if diff := cmp.Diff([]run.ID{"end-1", "end-1", "end-1", "due-1", "due-2"}, w.api.order()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestADueRunThatIsRenewedIsNotAskedTwice(t *testing.T) {
	inBubble(t, func(w *world) {
		tokens := w.byToken()
		w.queue.add("due-1", "due-2", "due-3")
		w.begin()
		w.pass(time.Millisecond) // all three are read ahead
		w.Renew("due-2", time.Now().Add(time.Hour), time.Hour)
		for range 4 {
			select {
			case tokens <- struct{}{}:
			case <-time.After(time.Second): // nothing more is due
			}
			w.pass(time.Millisecond)
		}
		if diff := cmp.Diff([]run.ID{"due-2", "due-1", "due-3"}, w.api.order()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestARenewalComesAsSoonAsItsSpacingIsOver(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.addEnded("end-1")
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.begin()
		w.Renew("end-1", time.Now().Add(time.Hour), 40*time.Second)
		w.pass(time.Second)
		w.Renew("end-1", time.Now().Add(time.Hour), 40*time.Second)
		w.pass(time.Hour)
		if diff := cmp.Diff(seconds(0, 40), w.api.times()); diff != "" {
			t.Error(diff)
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

func TestRenewalsWithoutEndLeaveAQuarterToDueRuns(t *testing.T) {
	inBubble(t, func(w *world) {
		tokens := w.byToken()
		var dead []run.ID
		for i := range 12 { // more than the budget has room for
			dead = append(dead, run.ID(fmt.Sprintf("end-%02d", i)))
		}
		w.queue.add("due-1", "due-2")
		w.queue.addEnded(dead...)
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.begin()
		for _, id := range dead {
			w.Renew(id, time.Now().Add(time.Hour), 30*time.Second)
		}
		for range 11 {
			tokens <- struct{}{}
			w.pass(0)
		}
		want := slices.Concat(dead[:3], []run.ID{"due-1"}, dead[3:6], []run.ID{"due-2"}, dead[6:9])
		if diff := cmp.Diff(want, w.api.order()); diff != "" {
			t.Error(diff)
		}
	})
}
