package notify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

// within is how long after it happened, and after the hook answered, a notice may take.
const within = time.Minute

// shelfNotice is a notice of the property test: when it happens, and how the hook takes it.
type shelfNotice struct {
	run.Notice
	after  time.Duration // from the start
	answer func(context.Context) error
	bad    bool // it never succeeds
	way    string
}

// script is what a hook does in one example.
type script struct {
	notices []shelfNotice // by when they happen
	outages [][2]time.Duration
	latency time.Duration
}

// badAnswers are the ways to refuse a notice for ever.
var badAnswers = map[string]func(context.Context) error{
	"400": func(context.Context) error { return &refusal{own: true, err: errors.New("HTTP 400")} },
	"422 with Retry-After": func(context.Context) error {
		return &refusal{own: true, wait: time.Hour, err: errors.New("HTTP 422")}
	},
	"exit 1":  func(context.Context) error { return &refusal{own: true, err: errors.New("exit status 1")} },
	"timeout": func(ctx context.Context) error { return hang(ctx, 30*time.Second) },
	"an hour": func(ctx context.Context) error { return hang(ctx, time.Hour) },
	"500":     func(context.Context) error { return errors.New("HTTP 500") },
	"503 with Retry-After": func(context.Context) error {
		return &refusal{wait: time.Hour, err: errors.New("HTTP 503")}
	},
}

// hang is a command that is killed after d.
func hang(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return &refusal{own: true, err: errors.New("killed")}
	}
}

// drawScript draws notices of some runs and troubles, some of which are refused for ever, and
// times in which the hook does not answer.
func drawScript(t *rapid.T) script {
	var s script
	s.latency = time.Duration(rapid.IntRange(0, 100).Draw(t, "latency")) * time.Millisecond
	kinds := []run.NoticeKind{run.LostAsset, run.RunStored, run.RunPartial, run.RunFailed, run.AssetsAtRisk, run.NoRoomLeft, run.VolumeGone}
	runs := rapid.IntRange(1, 60).Draw(t, "runs")
	// Places are bounded; and a hook that fails at many in a row itself is a hook that is down.
	most := map[string]int{"timeout": 6, "an hour": 4, "500": 2, "503 with Retry-After": 1}
	ways := []string{"400", "422 with Retry-After", "exit 1", "timeout", "an hour", "500", "503 with Retry-After"}
	share := rapid.IntRange(0, 100).Draw(t, "refused of 100")
	badKind := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "refused kind")]
	for range rapid.IntRange(1, 200).Draw(t, "notices") {
		n := shelfNotice{Notice: run.Notice{Kind: kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]}}
		id := run.ID(fmt.Sprintf("run-%02d", rapid.IntRange(1, runs).Draw(t, "run")))
		switch n.Kind {
		case run.AssetsAtRisk:
			n.Runs = []run.ID{id}
		case run.NoRoomLeft, run.VolumeGone:
		default:
			n.Run = id
		}
		n.after = time.Duration(rapid.IntRange(0, 600).Draw(t, "after")) * time.Second
		if n.Kind == badKind || rapid.IntRange(0, 99).Draw(t, "luck") < share {
			way := rapid.SampledFrom(ways).Draw(t, "way")
			if left, limited := most[way]; limited && left == 0 {
				way = "400"
			}
			most[way]--
			n.bad, n.way, n.answer = true, way, badAnswers[way]
		}
		s.notices = append(s.notices, n)
	}
	for range rapid.IntRange(0, 3).Draw(t, "outages") {
		from := time.Duration(rapid.IntRange(0, 600).Draw(t, "from")) * time.Second
		s.outages = append(s.outages, [2]time.Duration{from, from + time.Duration(rapid.IntRange(1, 900).Draw(t, "long"))*time.Second})
	}
	return s
}

// down reports whether the hook does not answer then, and until when.
func (s script) down(at time.Duration) (until time.Duration, down bool) {
	until = at
	for range s.outages { // they may overlap
		for _, o := range s.outages {
			if o[0] <= until && until < o[1] {
				until, down = o[1], true
			}
		}
	}
	return until, down
}

// late are the notices that took too long, or were not delivered at all, and what was
// delivered out of its order.
func (s script) late(taken map[int]time.Duration, order []int) (faults []string) {
	blocked := map[run.ID]bool{}
	for i, n := range s.notices {
		at, delivered := taken[i]
		if !n.bad && !blocked[n.Lane()] {
			due := n.after
			if until, down := s.down(due); down {
				due = until
			}
			// An outage that begins before a minute is over: from its end on.
			for _, o := range s.outages {
				if o[0] < due+within && o[1] > due && !(delivered && at <= due+within) {
					due, _ = s.down(max(o[0], due))
				}
			}
			if !delivered || at > due+within {
				faults = append(faults, fmt.Sprintf("notice %d (%s %s) of %v: delivered %v at %v, due %v", i, n.Run, n.Kind, n.after, delivered, at, due))
			}
		}
		// One about many runs leaves the order once it is refused; until then it holds it.
		if n.bad && (n.Kind != run.AssetsAtRisk || n.way != "400" && n.way != "exit 1" && n.way != "422 with Retry-After") {
			blocked[n.Lane()] = true
		}
	}
	last := map[run.ID]int{}
	for _, i := range order {
		n := s.notices[i]
		if n.Run == "" {
			continue
		}
		if before, any := last[n.Run]; any && before > i {
			faults = append(faults, fmt.Sprintf("notice %d of %s came after notice %d", i, n.Run, before))
		}
		last[n.Run] = i
	}
	return faults
}

// Any notices may be refused for ever, in any way, at once or after an hour, and the hook
// may not answer at all for a while: each other notice is delivered within a minute of when
// it happened or the hook answered again, and those of a run in order.
func TestCase_A22_NoticesThatAreRefusedHoldUpNoOtherRun(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScript(rt)
		// In the order in which they happen, as the queue has them.
		for i := range s.notices {
			for j := i; j > 0 && s.notices[j].after < s.notices[j-1].after; j-- {
				s.notices[j], s.notices[j-1] = s.notices[j-1], s.notices[j]
			}
		}
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = s.play(t) })
		if len(faults) > 0 {
			rt.Fatalf("%d faults, the first: %s", len(faults), faults[0])
		}
	})
}

// play has a target send the notices, and returns what went wrong.
func (s script) play(t *testing.T) []string {
	start := time.Now()
	taken, order := map[int]time.Duration{}, []int{}
	b := newBox()
	d := open(t, b, func(ctx context.Context, m message) error {
		n := s.notices[m.Seq-1]
		if _, down := s.down(time.Since(start)); down {
			return errors.New("connection refused")
		}
		if n.bad {
			return n.answer(ctx)
		}
		time.Sleep(s.latency)
		b.mu.Lock() // tries are parallel
		defer b.mu.Unlock()
		taken[int(m.Seq-1)] = time.Since(start)
		order = append(order, int(m.Seq-1))
		return nil
	})
	for _, n := range s.notices {
		if wait := n.after - time.Since(start); wait > 0 {
			time.Sleep(wait)
		}
		d.tell(n.Notice)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	d.stop()
	return s.late(taken, order)
}
