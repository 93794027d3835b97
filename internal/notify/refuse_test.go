package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Whose failure a status is.
func TestCase_A22_AStatusSaysWhoseFailureItIs(t *testing.T) {
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(status)
	}))
	defer server.Close()
	p := poster(t, server.URL, "")
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	for status = 200; status < 600; status++ {
		want := "hook"
		switch {
		case status < 300:
			want = "taken"
		case status == 410:
			want = "gone"
		case status == 408, status == 425, status == 429:
		case status >= 400 && status < 500:
			want = "notice"
		}
		got, re := "hook", (*refusal)(nil)
		switch err := p.send(t.Context(), m); {
		case err == nil:
			got = "taken"
		case errors.As(err, &re) && re.own:
			got = "notice"
		case errors.As(err, &re) && re.gone:
			got = "gone"
		}
		if got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestCase_A22_AnExitCodeSaysWhoseFailureItIs(t *testing.T) {
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	for _, code := range []int{0, 1, 2, 64, 65, 69, 70, 75, 77, 78, 100, 125, 126, 127, 128, 137, 255} {
		err := shell(t, fmt.Sprintf("exit %d", code), &events{}).send(t.Context(), m)
		re := (*refusal)(nil)
		own := errors.As(err, &re) && re.own
		hooks := code == 69 || code == 75 || code == 126 || code == 127
		if (err == nil) != (code == 0) || own != (code != 0 && !hooks) {
			t.Errorf("exit %d: %v, its own: %v", code, err, own)
		}
	}
	for name, c := range map[string]struct {
		hook *command
		own  bool
		says string
	}{
		"a signal":            {shell(t, "kill -SEGV $$", &events{}), true, "exit status 139"},
		"the time limit":      {newCommand([]string{"/bin/sleep", "600"}, 100*time.Millisecond, deps(newBox(), &events{})), true, "hook.timeout, 100ms"},
		"no program":          {newCommand([]string{"/no/such/program"}, time.Minute, deps(newBox(), &events{})), false, "/no/such/program"},
		"no program, by name": {newCommand([]string{"no-such-program"}, time.Minute, deps(newBox(), &events{})), false, "not found"},
		"a directory":         {newCommand([]string{"/"}, time.Minute, deps(newBox(), &events{})), false, "is a directory"},
	} {
		err := c.hook.send(t.Context(), m)
		re := (*refusal)(nil)
		if own := errors.As(err, &re) && re.own; err == nil || own != c.own || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, its own: %v", name, err, own)
		}
	}
}

// The case as it was found, for each way to fail: 400 notices of one kind fail for ever, and
// then another run settles.
func TestCase_A22_FailuresOfOneKindHoldUpNoOtherKind(t *testing.T) {
	for name, c := range map[string]struct {
		fail error
		max  time.Duration
	}{
		"HTTP 400": {&refusal{own: true, err: errors.New("HTTP 400")}, 0},
		"exit 1":   {&refusal{own: true, err: errors.New("exit status 1")}, 0},
		"HTTP 422": {&refusal{own: true, wait: time.Hour, err: errors.New("HTTP 422")}, 0},
		// The hook's failures: it is probed with what it did not fail at.
		"HTTP 500": {errors.New("HTTP 500"), maxProbeDelay},
		"HTTP 429": {&refusal{wait: time.Hour, err: errors.New("HTTP 429")}, maxProbeDelay},
		"network":  {errors.New("connection reset by peer"), maxProbeDelay},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, newBox(), func(_ context.Context, m message) error {
				if m.Kind == run.LostAsset {
					return c.fail
				}
				return nil
			})
			defer d.stop()
			for i := range 400 {
				id := run.ID(fmt.Sprintf("lost-%03d", i))
				d.tell(run.Notice{Kind: run.LostAsset, Run: id, Asset: run.Key{Run: id, Kind: run.Images, ID: "a"}})
			}
			for round := range 5 {
				time.Sleep(time.Duration(round) * 5 * time.Minute)
				d.tell(settled("good"))
				time.Sleep(c.max)
				synctest.Wait()
				if n := len(d.hook.taken()); n != round+1 {
					t.Errorf("%s, round %d: %d delivered", name, round, n)
				}
			}
			if own := c.max == 0; own && len(d.told.of(Back)) > 0 {
				t.Errorf("%s: it was said to be back, as if it had been down", name)
			}
		})
	}
}

// A hook that takes an hour for some runs holds up none of the others.
func TestCase_D4_AHookThatTakesAnHourHoldsUpNoOtherRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := open(t, newBox(), func(_ context.Context, m message) error {
			if strings.HasPrefix(string(m.Run), "large") {
				time.Sleep(time.Hour)
			}
			return nil
		})
		defer d.stop()
		for i := range mostRunning - 1 {
			d.tell(settled(run.ID(fmt.Sprintf("large-%d", i))))
		}
		d.tell(settled("small"))
		time.Sleep(time.Minute)
		if got := d.hook.taken(); fmt.Sprint(got) != "[small run.stored]" {
			t.Errorf("within a minute: %q", got)
		}
		time.Sleep(2 * time.Hour)
		if d.box.left() != 0 || d.hook.up > mostRunning || len(d.told.of(Failed)) > 0 || time.Since(start) > 3*time.Hour {
			t.Errorf("%d left, %d at a time, failed %v", d.box.left(), d.hook.up, d.told.of(Failed))
		}
	})
}

// However many are refused, they are tried again at a bounded rate, and in memory is a
// bounded number of them; once the hook takes what it refused, all are delivered at once.
func TestCase_A22_RefusedNoticesAreBoundedInRateAndMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const held = 5 * mostRead
		b := newBox()
		for i := range held + mostRead {
			b.put(run.URLHook, settled(run.ID(fmt.Sprintf("run-%06d", i))))
		}
		var tries atomic.Int64
		d := openHolding(t, b, func(context.Context, message) error {
			tries.Add(1)
			return &refusal{own: true, err: errors.New("HTTP 404")}
		}, held)
		defer d.stop()
		time.Sleep(time.Second)
		if n := int(tries.Swap(0)); n < held || n > held+10 || len(d.all) > held {
			t.Errorf("%d tries at first, %d in memory", n, len(d.all))
		}
		time.Sleep(time.Minute)
		if n, most := int(tries.Load()), int(time.Minute/retryPace)+parallel; n > most || n < most/2 {
			t.Errorf("%d tries in a minute, want at most %d", n, most)
		}
		d.hook.does(takes)
		time.Sleep(2 * retryPace)
		if b.left() != 0 {
			t.Errorf("%d left after the hook was fixed", b.left())
		}
	})
}

// A probe of a hook that was down is refused for itself: what else had failed is due at
// once, and does not wait behind it.
func TestCase_A22_AProbeThatIsRefusedSetsTheOthersFree(t *testing.T) {
	d := newTarget(run.URLHook, deps(newBox(), &events{}))
	d.settings = settings{sender: &hook{do: takes}, giveUpAfter: time.Hour}
	d.answers = 2
	for _, id := range []run.ID{"run-1", "run-2", "run-3", "run-4"} {
		n := settled(id)
		n.Seq, n.At = d.read+1, time.Now()
		d.add([]run.Notice{n})
		e := d.all[n.Seq]
		d.take(e)
		e.failedAt = 1 // the hook took others since
		d.running = append(d.running, e)
		if err := d.settle(t.Context(), result{entry: e, by: d.sender, err: errors.New("connection refused")}); err != nil {
			t.Fatal(err)
		}
	}
	d.failing = map[uint64]bool{5: true, 6: true, 7: true}
	probe := d.all[1]
	d.take(probe)
	d.running = append(d.running, probe)
	if err := d.settle(t.Context(), result{entry: probe, by: d.sender, err: &refusal{own: true, err: errors.New("HTTP 400")}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e, wait := d.pick(time.Now())
		if e == nil || e == probe {
			t.Fatalf("picked %v, else in %v", e, wait)
		}
		d.take(e)
	}
	if e, _ := d.pick(time.Now()); e != nil {
		t.Errorf("the refused one is tried again at once: %v", e)
	}
}
