package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/download/backlog"
)

func TestUnknownHostGetsOneProbeUntilItAnswers(t *testing.T) {
	b := backlog.New(4)
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	probe, id := next(t, b, 0)
	if id != "a0" {
		t.Fatalf("%q first", id)
	}
	if _, id := next(t, b, 0); id != "" {
		t.Fatalf("%s started beside the probe", id)
	}
	if b.Answered(probe, 1) {
		t.Error("a host that was never closed was told to be back")
	}
	expectOrder(t, b, 1, "a1", "a2", "a3")
}

func TestClosedHostGetsOneProbeAtATimeAndTheFirstSuccessOpensIt(t *testing.T) {
	b := backlog.New(4)
	b.SetRateLimit(1e9) // what the host bears is another matter
	open(t, b, "cdn", "other")
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	first, _ := next(t, b, 0)
	second, _ := next(t, b, 0)
	if wait := b.Slow(first, 0, backlog.Pause{Random: 1}); wait != time.Second {
		t.Fatalf("first wait %v", wait)
	}
	b.Back(first, time.Hour)
	if wait := b.Slow(second, 0, backlog.Pause{Random: 1}); wait != time.Second {
		t.Errorf("a request from before the closing made the wait %v", wait)
	}
	b.Back(second, time.Hour)
	if _, id := next(t, b, time.Second-1); id != "" {
		t.Fatalf("%s started on a closed host", id)
	}
	probe, id := next(t, b, time.Second)
	if id != "a2" {
		t.Fatalf("probe %q", id)
	}
	if _, id := next(t, b, time.Second); id != "" {
		t.Fatalf("%s started beside the probe", id)
	}
	if wait := b.Slow(probe, time.Second, backlog.Pause{Random: 1}); wait != 2*time.Second {
		t.Errorf("second wait %v", wait)
	}
	b.Back(probe, time.Hour)
	probe, _ = next(t, b, 3*time.Second)
	if !b.Answered(probe, 3*time.Second) {
		t.Error("the host was not told to be back")
	}
	b.Drop(probe)
	b.Put(one, asset(7, "cdn", 7))
	b.Put(one, asset(8, "cdn", 8))
	expectOrder(t, b, 3*time.Second, "a7", "a8")
}

func TestAnswerToARequestFromBeforeTheClosingOpensNothing(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 3 {
		b.Put(one, asset(n, "cdn", n))
	}
	first, _ := next(t, b, 0)
	second, _ := next(t, b, 0)
	b.Slow(first, 0, backlog.Pause{Random: 1})
	if b.Answered(second, 0) {
		t.Error("it opened the host")
	}
	if _, id := next(t, b, 0); id != "" {
		t.Errorf("%s started", id)
	}
}

func TestRetryAfterOfAnyRequestIsWaitedFor(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 3 {
		b.Put(one, asset(n, "cdn", n))
	}
	first, _ := next(t, b, 0)
	second, _ := next(t, b, 0)
	if wait := b.Slow(first, 0, backlog.Pause{Least: 7 * time.Second, Random: 1}); wait != 7*time.Second {
		t.Errorf("wait %v", wait)
	}
	if wait := b.Slow(second, 0, backlog.Pause{Least: 20 * time.Second, Random: 1}); wait != 20*time.Second {
		t.Errorf("wait %v", wait)
	}
	if at, _ := b.NextAt(); at != 20*time.Second {
		t.Errorf("next at %v", at)
	}
}

func TestSilenceClosesAHostOnlyWhereNobodyWasAnswered(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 3 {
		b.Put(one, asset(n, "cdn", n))
	}
	first, _ := next(t, b, time.Second)
	second, _ := next(t, b, time.Second)
	b.Answered(second, 2*time.Second)
	if _, closed := b.Silent(first, 3*time.Second, backlog.Pause{Random: 1}); closed {
		t.Error("closed though another request was answered meanwhile")
	}
	b.Back(first, 0)
	first, _ = next(t, b, 3*time.Second)
	if wait, closed := b.Silent(first, 13*time.Second, backlog.Pause{Random: 1}); !closed || wait != time.Second {
		t.Errorf("closed %v for %v", closed, wait)
	}
}

func TestHurryHasAThrottledHostAskedInTimeForWhatHasJustCome(t *testing.T) {
	b := opened(t, 4, "cdn")
	b.Put(one, asset(1, "cdn", 1))
	b.Hurry(key("r001", 1), 0)
	b.Hurry(key("none", 1), 0)
	ticket, _ := next(t, b, 0)
	if wait := b.Slow(ticket, 0, backlog.Pause{Least: time.Hour, Random: 1}); wait != time.Minute {
		t.Errorf("a host is left alone for %v, want a minute at most", wait)
	}
	b.Back(ticket, time.Hour)
	b.Put(one, asset(2, "cdn", 2))
	b.Hurry(key("r001", 2), 30*time.Second)
	at, _ := b.NextAt()
	if at < 31*time.Second || at > time.Minute {
		t.Errorf("next at %v", at)
	}
	b.Put(one, asset(2, "cdn", 2)) // as polls do again and again
	b.Hurry(key("r001", 2), 31*time.Second)
	if again, _ := b.NextAt(); again != at {
		t.Errorf("next at %v, then at %v", at, again)
	}
	expectOrder(t, b, at-1)
	expectOrder(t, b, at, "a2")
}

func TestHostThatSpeaksWithErrorsIsOpenedOnlyIfNothingElseSpokeAgainstIt(t *testing.T) {
	b := backlog.New(4)
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	ticket, _ := next(t, b, 0)
	if wait := b.Spoke(ticket, 0, backlog.Pause{Random: 1}); wait != 0 {
		t.Errorf("waits %v for a host that lives", wait)
	}
	ticket, id := next(t, b, 0)
	if id != "a1" {
		t.Fatal("not opened")
	}
	b.Slow(ticket, 0, backlog.Pause{Random: 1})
	probe, _ := next(t, b, time.Second)
	if wait := b.Spoke(probe, time.Second, backlog.Pause{Random: 1}); wait != 2*time.Second {
		t.Errorf("after another error the closed host waits %v", wait)
	}
}

func TestUndecidedAnswersLeaveAClosedHostAsItWas(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 6 {
		b.Put(one, asset(n, "cdn", n))
	}
	ticket, _ := next(t, b, 0)
	b.Slow(ticket, 0, backlog.Pause{Random: 1})
	at := time.Second
	for range 3 {
		probe, id := next(t, b, at)
		if id == "" {
			t.Fatalf("no probe at %v", at)
		}
		if _, more := next(t, b, at); more != "" {
			t.Errorf("opened at %v", at)
		}
		if wait := b.Undecided(probe, at, backlog.Pause{Random: 1}); wait != time.Second {
			t.Errorf("waits %v, want as after a first failure", wait)
		}
		at += time.Second
	}
	probe, _ := next(t, b, at)
	if wait := b.Slow(probe, at, backlog.Pause{Random: 1}); wait != 2*time.Second {
		t.Errorf("after its second failure it waits %v", wait)
	}
}

func TestHostThatWasLongSilentIsProbedAgain(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	ticket, _ := next(t, b, time.Minute+1)
	if _, id := next(t, b, time.Minute+1); id != "" {
		t.Error("several workers for a host that has said nothing for long")
	}
	b.Answered(ticket, time.Minute+2)
	if _, id := next(t, b, time.Minute+2); id == "" {
		t.Error("not opened by its answer")
	}
}

func TestOneHostLeavesAWorkerToAnotherOne(t *testing.T) {
	b := opened(t, 4, "slow", "fast")
	for n := range 9 {
		b.Put(one, asset(n, "slow", n))
	}
	b.Put(one, asset(100, "fast", 100))
	b.Put(one, asset(101, "fast", 101))
	var got []string
	for range 4 {
		_, id := next(t, b, 0)
		got = append(got, id)
	}
	if d := cmp.Diff([]string{"a0", "a1", "a2", "a100"}, got); d != "" {
		t.Errorf("started (-want +got):\n%s", d)
	}
}

func TestHostAloneGetsAllWorkers(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	expectOrder(t, b, 0, "a0", "a1", "a2", "a3")
}

func TestHostsThatMayBeDeadGetHalfTheWorkers(t *testing.T) {
	b := opened(t, 4, "cdn")
	for n := range 8 {
		b.Put(one, asset(n, fmt.Sprint("dead", n), n))
	}
	for n := range 4 {
		b.Put(one, asset(100+n, "cdn", 100+n))
	}
	var got []string
	for range 4 {
		_, id := next(t, b, 0)
		got = append(got, id)
	}
	if d := cmp.Diff([]string{"a0", "a1", "a100", "a101"}, got); d != "" {
		t.Errorf("started (-want +got):\n%s", d)
	}
}

func TestOneWorkerFollowsTheDeadlines(t *testing.T) {
	b := backlog.New(1)
	b.Put(one, asset(1, "slow", 1))
	b.Put(one, asset(2, "fast", 2))
	b.Put(one, asset(3, "slow", 3))
	for _, want := range []string{"a1", "a2", "a3"} {
		ticket, id := next(t, b, 0)
		if id != want {
			t.Fatalf("%q, want %q", id, want)
		}
		b.Answered(ticket, 0)
		b.Drop(ticket)
	}
}

func TestCase_A1_ProbeGoesToWhatWasNotRefusedSinceTheHostWasThrottled(t *testing.T) {
	b := backlog.New(4)
	b.SetRateLimit(1e9) // what the host bears is another matter
	open(t, b, "cdn")
	for n := range 5 {
		b.Put(one, asset(n, "cdn", n))
	}
	had, _ := next(t, b, 0) // a0 is tried, and not refused
	b.Answered(had, 0)
	b.Back(had, 0)
	bad, _ := next(t, b, 0)
	other, _ := next(t, b, 0)
	if bad.Key() != key("r001", 0) {
		t.Fatalf("%v first", bad.Key())
	}
	b.Slow(other, 0, backlog.Pause{Random: 1}) // a1
	b.Back(other, 0)
	b.Slow(bad, 0, backlog.Pause{}) // a0
	b.Back(bad, 0)
	now := time.Duration(0)
	probe := func(want string) *backlog.Ticket {
		t.Helper()
		now += time.Minute
		ticket, id := next(t, b, now)
		if id != want {
			t.Fatalf("the probe is %q, want %q", id, want)
		}
		return ticket
	}
	for _, want := range []string{"a2", "a3", "a4", "a0", "a1", "a2", "a3"} { // then those that were refused first
		ticket := probe(want)
		b.Slow(ticket, now, backlog.Pause{Random: 1})
		b.Back(ticket, 0)
	}
	b.Answered(probe("a4"), now) // one success opens it
	for _, want := range []string{"a0", "a1", "a2"} {
		ticket, id := next(t, b, now)
		if id != want {
			t.Fatalf("%q starts, want %q", id, want)
		}
		if wait := b.Slow(ticket, now, backlog.Pause{Random: 1}); wait != 0 || !ticket.Own() {
			t.Errorf("%s, which failed before while another was had, closes the host for %v", want, wait)
		}
		b.Back(ticket, now+time.Hour)
	}
	expectOrder(t, b, now, "a3")
}
