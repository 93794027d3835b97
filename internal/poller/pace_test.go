package poller

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

func TestYoungRunsAreAskedOftenAndOldOnesSeldom(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		roll float64
		want time.Duration
	}{
		{-time.Hour, 0, 3 * time.Second},
		{0, 0, 3 * time.Second},
		{0, 1, 4500 * time.Millisecond},
		{30 * time.Second, 0, 3 * time.Second},
		{time.Minute, 0, 6 * time.Second},
		{time.Minute, 0.5, 7500 * time.Millisecond},
		{5 * time.Minute, 0, 30 * time.Second},
		{5 * time.Minute, 1, 45 * time.Second},
		{10 * time.Minute, 0, 40 * time.Second},
		{10 * time.Minute, 1, time.Minute},
		{1000 * time.Hour, 0.5, 50 * time.Second},
	} {
		if got := config.interval(c.age, c.roll); got != c.want {
			t.Errorf("%v old, roll %v: %v, want %v", c.age, c.roll, got, c.want)
		}
	}
}

func TestIntervalsAndBackoffsStayWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{MinInterval: time.Duration(rapid.Int64Range(int64(100*time.Millisecond), int64(time.Hour)).Draw(t, "min"))}
		c.MaxInterval = c.MinInterval + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "more"))
		roll := rapid.Float64Range(0, 0.999999999).Draw(t, "roll")
		age := time.Duration(rapid.Int64().Draw(t, "age"))
		if d := c.interval(age, roll); d < c.MinInterval || d > c.MaxInterval {
			t.Fatalf("interval %v outside of %v to %v", d, c.MinInterval, c.MaxInterval)
		}
		failures := rapid.IntRange(0, 1<<60).Draw(t, "failures")
		if d := c.backoff(failures, roll); d < 0 || d > c.MaxInterval {
			t.Fatalf("backoff %v, at most %v", d, c.MaxInterval)
		}
	})
}

func TestBackoffDoublesWithFullJitter(t *testing.T) {
	most := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
	for i, seconds := range most {
		for _, roll := range []float64{0, 0.25, 1} {
			if got, want := config.backoff(i+1, roll), time.Duration(roll*float64(seconds*time.Second)); got != want {
				t.Errorf("failure %d, roll %v: %v, want %v", i+1, roll, got, want)
			}
		}
	}
}

func TestTheClockNeverGoesBack(t *testing.T) {
	var s steady
	for i, c := range []struct{ wall, mono, want time.Duration }{
		{0, 0, 0},
		{time.Second, time.Second, time.Second},
		{-time.Hour, 2 * time.Second, 2 * time.Second}, // set back: goes on by the monotonic clock
		{-time.Hour + 5*time.Second, 7 * time.Second, 7 * time.Second},
		{8 * time.Hour, 8 * time.Second, 8 * time.Hour}, // woke from suspend, or set forward
		{8*time.Hour + time.Second, 9 * time.Second, 8*time.Hour + time.Second},
	} {
		if got := s.at(noon.Add(c.wall), c.mono); !got.Equal(noon.Add(c.want)) {
			t.Errorf("step %d: %v, want %v", i, got.Sub(noon), c.want)
		}
	}
}

func TestRenewalsGoByTheNearestDeath(t *testing.T) {
	rs := renewals{}
	rs.ask("late", noon.Add(3*time.Hour), 30*time.Second, noon)
	rs.ask("soon", noon.Add(time.Hour), 30*time.Second, noon)
	rs.ask("next", noon.Add(2*time.Hour), 30*time.Second, noon)
	rs.ask("late", noon.Add(30*time.Minute), 30*time.Second, noon) // another of its assets dies earlier
	rs.ask("soon", noon.Add(9*time.Hour), 30*time.Second, noon)    // and this one later: the nearest counts
	var order []run.ID
	for {
		id, _ := rs.next(noon, map[run.ID]bool{})
		if id == "" {
			break
		}
		rs.begin(id, noon)
		order = append(order, id)
	}
	if len(order) != 3 || order[0] != "late" || order[1] != "soon" || order[2] != "next" {
		t.Errorf("%v", order)
	}
}

func TestARenewalKeepsItsSpacing(t *testing.T) {
	rs := renewals{}
	none := map[run.ID]bool{}
	ready := func(after time.Duration) bool { id, _ := rs.next(noon.Add(after), none); return id != "" }
	rs.ask("r", noon, 30*time.Second, noon)
	if !ready(0) || !rs.begin("r", noon) {
		t.Fatal("the first is not at once")
	}
	if rs.begin("r", noon) {
		t.Error("a poll that nobody wanted counts as a renewal")
	}
	rs.ask("r", noon, 30*time.Second, noon.Add(10*time.Second))
	rs.ask("r", noon, time.Hour, noon.Add(20*time.Second)) // who may come sooner decides
	if ready(29*time.Second) || !ready(30*time.Second) {
		t.Error("not 30 s after the first")
	}
	if id, later := rs.next(noon.Add(10*time.Second), none); id != "" || !later.Equal(noon.Add(30*time.Second)) {
		t.Errorf("%q, %v", id, later)
	}
	rs.begin("r", noon.Add(30*time.Second))
	rs.failed("r", noon.Add(100*time.Second))
	rs.ask("r", noon, 30*time.Second, noon.Add(70*time.Second))
	if ready(99*time.Second) || !ready(100*time.Second) {
		t.Error("backoff after a failure is not kept")
	}
	if id, _ := rs.next(noon.Add(100*time.Second), map[run.ID]bool{"r": true}); id != "" {
		t.Error("asked while it is being asked")
	}
	rs.begin("r", noon.Add(100*time.Second))
	rs.ask("r", noon, time.Hour, noon.Add(200*time.Second))
	if ready(time.Hour) || !ready(time.Hour+100*time.Second) {
		t.Error("not an hour after the last")
	}
	rs.failed("other", noon)
	if len(rs) != 1 {
		t.Error("a run that nobody asked for is remembered")
	}
}

func TestRenewalsOfOldAreForgotten(t *testing.T) {
	rs := renewals{}
	for i := range 5 * renewalsMost {
		id := run.ID(rune('a'+i%26)) + run.ID(time.Duration(i).String())
		now := noon.Add(time.Duration(i) * 10 * time.Second)
		rs.ask(id, now, time.Second, now)
		rs.begin(id, now)
	}
	if len(rs) > renewalsMost+1 {
		t.Errorf("%d remembered", len(rs))
	}
}

func TestTroubleDoublesItsWaitOncePerWait(t *testing.T) {
	var tr trouble
	now := noon
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		for range inFlight { // all that were under way fail together
			tr.failed(now)
		}
		if got := tr.until.Sub(now); got != want*time.Second {
			t.Errorf("%v, want %v", got, want*time.Second)
		}
		now = tr.until
	}
}
