package backlog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/download/backlog"
)

// starts lets everything start that may, at once or when NextAt says so, and
// returns when that was. Each answers at once.
func starts(t *testing.T, b *backlog.Backlog, from, until time.Duration) (at []time.Duration) {
	t.Helper()
	for now := from; now < until; {
		ticket, ok := b.Next(now)
		if ok {
			at = append(at, now)
			b.Answered(ticket, now)
			b.Drop(ticket)
			continue
		}
		next, ok := b.NextAt()
		if !ok {
			return at
		}
		if next <= now {
			t.Fatalf("at %v nothing starts, but is to at %v", now, next)
		}
		now = next
	}
	return at
}

func fill(b *backlog.Backlog, from, n int, host string) {
	for i := range n {
		b.Put(one, asset(from+i, host, from+i))
	}
}

// throttled has n assets started at that time, all of which the host turns away.
func throttled(t *testing.T, b *backlog.Backlog, now time.Duration, n int) {
	t.Helper()
	var out []*backlog.Ticket
	for range n {
		ticket, ok := b.Next(now)
		if !ok {
			t.Fatalf("%d of %d started at %v", len(out), n, now)
		}
		out = append(out, ticket)
	}
	for _, ticket := range out {
		b.Slow(ticket, now, backlog.Pause{})
		b.Drop(ticket)
	}
}

func TestAFixedPaceIsKeptByEveryHostForItself(t *testing.T) {
	b := backlog.New(16)
	b.SetRateLimit(4)
	fill(b, 0, 4, "cdn")
	fill(b, 100, 2, "other")
	at := starts(t, b, 0, time.Hour)
	if d := cmp.Diff(millis(0, 0, 250, 250, 500, 750), at); d != "" {
		t.Errorf("starts (-want +got):\n%s", d)
	}
	fill(b, 0, 2, "cdn") // nothing is saved up while there was nothing to do
	if d := cmp.Diff(millis(3_600_000, 3_600_250), starts(t, b, time.Hour, 2*time.Hour)); d != "" {
		t.Errorf("after a rest (-want +got):\n%s", d)
	}
}

func TestOfAQuickPaceATenthOfASecondComesAtOnce(t *testing.T) {
	b := opened(t, 16, "cdn")
	b.SetRateLimit(1000)
	fill(b, 0, 5000, "new")
	at := starts(t, b, 0, time.Hour)
	if len(at) != 5000 || at[99] != 0 || at[150] == 0 || at[4999] < 4890*time.Millisecond || at[4999] > 5*time.Second {
		t.Errorf("%d starts, the 100th at %v, the 151st at %v, the last at %v", len(at), at[99], at[150], at[4999])
	}
}

func TestAHostThatNeverThrottledIsNotPaced(t *testing.T) {
	b := opened(t, 16, "cdn", "bad")
	fill(b, 0, 10_000, "cdn")
	fill(b, 20_000, 2, "bad")
	for range 3 { // one asset alone, again and again
		ticket, _ := b.Next(0)
		b.Slow(ticket, 0, backlog.Pause{})
		b.Back(ticket, 0)
		if probe, _ := b.Next(0); b.RateLimit(probe, 0) != 0 {
			t.Fatal("one asset that is turned away has its host paced")
		} else {
			b.Answered(probe, 0)
			b.Back(probe, 0)
		}
	}
	at := starts(t, b, 0, time.Hour)
	if len(at) != 10_002 || at[len(at)-1] != 0 {
		t.Errorf("%d starts, the last at %v", len(at), at[len(at)-1])
	}
}

func TestThrottlingHalvesThePaceAndItGrowsBack(t *testing.T) {
	b := opened(t, 40, "cdn")
	fill(b, 0, 100_000, "cdn")
	throttled(t, b, 0, 39) // with the one that opened it 40 requests in the last second
	probe, ok := b.Next(0)
	if !ok {
		t.Fatal("no probe")
	}
	b.Answered(probe, 0)
	pace := func(now time.Duration) float64 { return b.RateLimit(probe, now) }
	for now, want := range map[time.Duration]float64{
		0: 20, 9 * time.Second: 20, 10 * time.Second: 24, 55 * time.Second: 40, 599 * time.Second: 256, 600 * time.Second: 0,
	} {
		if want > 0 && pace(now) != want {
			t.Errorf("%v requests a second after %v, want %v", pace(now), now, want)
		}
	}
	at := starts(t, b, 0, 10*time.Second)
	if len(at) < 190 || len(at) > 205 {
		t.Errorf("%d requests in the first 10 s, want 20 a second", len(at))
	}
	throttled(t, b, 10*time.Second, 1)
	if got := pace(10 * time.Second); got != 24 {
		t.Errorf("one refusal made it %v", got)
	}
	if pace(600*time.Second) != 0 {
		t.Error("the pace is never over")
	}
}

func TestThePaceIsLoweredOnceInTenSecondsAndNeverBelowHalfARequest(t *testing.T) {
	b := opened(t, 4, "cdn")
	fill(b, 0, 10_000, "cdn")
	var now time.Duration
	throttle := func(later time.Duration) (pace float64) {
		now += later
		var out []*backlog.Ticket
		for len(out) < 3 {
			ticket, ok := b.Next(now)
			if !ok {
				now, _ = b.NextAt()
				continue
			}
			b.Answered(ticket, now)
			out = append(out, ticket)
		}
		for _, ticket := range out {
			b.Slow(ticket, now, backlog.Pause{})
			b.Drop(ticket)
		}
		return b.RateLimit(out[0], now)
	}
	first := throttle(0)
	if first != 2 { // half of four
		t.Errorf("at first %v", first)
	}
	if again := throttle(2 * time.Second); again != first {
		t.Errorf("lowered twice in 10 s: %v, then %v", first, again)
	}
	last := first
	for range 40 {
		last = throttle(10 * time.Second)
	}
	if last < 0.5 || last > 0.501 {
		t.Errorf("after 40 times %v", last)
	}
}

func TestASilentHostIsNotPacedForThat(t *testing.T) {
	b := opened(t, 8, "cdn")
	fill(b, 0, 100, "cdn")
	var out []*backlog.Ticket
	for range 4 {
		ticket, _ := b.Next(time.Second)
		out = append(out, ticket)
	}
	for _, ticket := range out {
		if _, closed := b.Silent(ticket, 2*time.Second, backlog.Pause{}); !closed {
			t.Fatal("it was not closed")
		}
		b.Back(ticket, time.Hour)
	}
	if got := b.RateLimit(out[0], 2*time.Second); got != 0 {
		t.Errorf("paced at %v", got)
	}
}

func TestFurtherRequestsGetEveryOtherTurnAtMost(t *testing.T) {
	b := backlog.New(4)
	b.SetRateLimit(1)
	fill(b, 0, 10, "cdn")
	ask := func(now, want time.Duration) {
		t.Helper()
		at, ok := b.Further("cdn", now)
		if ok != (want == 0) || at != want {
			t.Errorf("at %v: %v, %v, want %v", now, at, ok, want)
		}
	}
	start := func(now time.Duration, want string) {
		t.Helper()
		ticket, id := next(t, b, now)
		if id != want {
			t.Errorf("at %v %q starts, want %q", now, id, want)
		}
		if ticket != nil {
			b.Answered(ticket, now)
			b.Drop(ticket)
		}
	}
	start(0, "a0")
	ask(0, time.Second)
	ask(time.Second, 0)
	start(time.Second, "") // that was its turn
	ask(2*time.Second, 3*time.Second)
	start(2*time.Second, "a1")
	ask(3*time.Second, 0)
	ask(5*time.Second, 0) // none has started: the turn was left to it long enough
	if _, ok := b.Take(key("r001", 2), 5*time.Second); ok {
		t.Error("taken out of turn")
	}
	if near := b.Nearest(99); len(near) != 8 {
		t.Errorf("%d are near, want all 8 that wait", len(near))
	}
	start(6*time.Second, "a2")
}

func TestFurtherRequestsOfAHostThatIsNotPacedCostNoTurn(t *testing.T) {
	b := opened(t, 16, "cdn")
	fill(b, 0, 100, "cdn")
	for range 1000 {
		if at, ok := b.Further("cdn", 0); !ok {
			t.Fatalf("not before %v", at)
		}
	}
	if at := starts(t, b, 0, time.Hour); len(at) != 100 || at[99] != 0 {
		t.Errorf("%d starts, the last at %v", len(at), at[len(at)-1])
	}
}

func millis(all ...int) (at []time.Duration) {
	for _, ms := range all {
		at = append(at, time.Duration(ms)*time.Millisecond)
	}
	return at
}
