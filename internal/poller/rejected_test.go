package poller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// One run is answered with a status of its own, others with 200, or nothing else is
// asked about any more.
func TestCase_A12_ARefusedRunEndsLikeA404AndTouchesNoOther(t *testing.T) {
	for _, code := range []int{400, 402, 405, 406, 409, 410, 411, 418, 422, 426, 451, 499} {
		for _, alone := range []bool{false, true} {
			inBubble(t, func(w *world) {
				refused := refuse(run.Rejected, code)
				w.api.answerWith(func(id run.ID, _ int) reply {
					switch {
					case id == "bad":
						return refused
					case alone:
						return status(run.Completed, "x")
					}
					return status(run.Running)
				})
				w.queue.add("bad", "good")
				w.begin()
				w.pass(50 * time.Minute)
				if len(w.told(run.RunGivenUp)) != 0 {
					t.Errorf("%d: given up before poll.not_found_after", code)
				}
				w.pass(15 * time.Minute)
				gone := w.told(run.RunGivenUp)
				if len(gone) != 1 || gone[0].Run != "bad" {
					t.Fatalf("%d, others done: %v: given up: %+v", code, alone, gone)
				}
				for _, part := range []string{fmt.Sprintf("HTTP %d", code), "said so"} {
					if got := w.queue.got("bad").GaveUp; !strings.Contains(got, part) {
						t.Errorf("%d: the reason does not name %q: %s", code, part, got)
					}
				}
				if n := len(w.told(run.APIDown)) + len(w.told(run.APIRefused)); n != 0 {
					t.Errorf("%d: the API was reported as down or refusing the key, %d times", code, n)
				}
				if got := w.service.Now(); got < 64*time.Minute || len(w.service.Paused()) != 0 {
					t.Errorf("%d: the service clock stopped: %v of 65 min", code, got)
				}
			})
		}
	}
}

func TestCase_A12_ARefusedRunEndsNothingWhileNothingWasEverAnswered(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(run.ID, int) reply { return gone })
		w.queue.add("run-a", "run-b")
		w.begin()
		w.pass(24 * time.Hour)
		if n := len(w.told(run.RunGivenUp)); n != 0 {
			t.Errorf("%d runs were given up by a path that may be wrong", n)
		}
	})
}

// A gateway that judges the run before the key says nothing of the key.
func TestCase_A12_ARefusedRunDoesNotSayThatTheKeyIsAccepted(t *testing.T) {
	inBubble(t, func(w *world) {
		w.api.answerWith(func(id run.ID, _ int) reply {
			if id == "bad" {
				return proven(gone)
			}
			return badKey
		})
		w.queue.add("bad", "good")
		w.begin()
		w.pass(10 * time.Minute)
		if n := len(w.told(run.APIBack)); n != 0 {
			t.Errorf("the key was taken as accepted %d times", n)
		}
	})
}
