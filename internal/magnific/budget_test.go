package magnific

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// within counts the most events in any window of the given length.
func within(at []time.Time, length time.Duration) int {
	most, first := 0, 0
	for i := range at {
		for at[i].Sub(at[first]) >= length {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func TestNoTwoMinutesHoldMoreThanTheRateAllows(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int
	}{{10, 50}, {1, 1}, {1, 50}, {2, 1000}, {7.5, 3}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(c.rate, c.burst)
			var sent []time.Time
			take := func() {
				if err := b.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, time.Now())
			}
			start := time.Now()
			for time.Since(start) < 5*time.Minute {
				take()
			}
			time.Sleep(10 * time.Minute) // the bucket is full again
			for range 300 {
				take()
			}
			if got, most := within(sent, window), int(c.rate*120); got > most {
				t.Errorf("%v a second, burst %d: %d requests in two minutes, more than %d", c.rate, c.burst, got, most)
			} else if got < most/2 {
				t.Errorf("%v a second, burst %d: only %d requests in two minutes of %d", c.rate, c.burst, got, most)
			}
			if got := within(sent, 1); got > c.burst || got < min(c.burst, int(c.rate*60)) {
				t.Errorf("%v a second, burst %d: %d at once", c.rate, c.burst, got)
			}
		})
	}
}

func Test429HalvesTheRateAtMostOnceInTenSecondsAndItGrowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(12, 120) // fills with 11 a second
		rate := func() float64 { b.held(time.Now()); return b.now }
		limited := func() bool { _, lowered := b.limited(time.Now(), 0); return lowered }
		if got := rate(); !near(got, 11) {
			t.Fatalf("%v a second at first", got)
		}
		if !limited() || !near(rate(), 5.5) {
			t.Errorf("%v after the first 429", rate())
		}
		time.Sleep(9 * time.Second)
		if limited() || !near(rate(), 5.5) {
			t.Errorf("%v: halved twice within 10 s", rate())
		}
		time.Sleep(time.Second) // a tenth of 12 has come back
		if !near(rate(), 6.7) {
			t.Errorf("%v ten seconds later", rate())
		}
		if !limited() || !near(rate(), 3.35) {
			t.Errorf("%v after another 429", rate())
		}
		if got := b.limiter.Burst(); got != 36 {
			t.Errorf("the burst is %d, not lowered with the rate", got)
		}
		time.Sleep(59 * time.Second)
		if !near(rate(), 3.35+5*1.2) {
			t.Errorf("%v after 59 s", rate())
		}
		time.Sleep(time.Hour)
		if !near(rate(), 11) || b.limiter.Burst() != 120 {
			t.Errorf("%v, burst %d after an hour", rate(), b.limiter.Burst())
		}
		for range 20 {
			time.Sleep(10*time.Second + 1)
			limited()
			if b.now < minRate {
				t.Fatalf("%v a second, below %v", b.now, minRate)
			}
		}
	})
}

func TestTheRateNeverFallsBelowItsFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1, 1)
		b.limited(time.Now(), 0)
		if b.now != minRate {
			t.Errorf("%v a second", b.now)
		}
		time.Sleep(5 * time.Second)
		b = newBudget(0, 0) // nothing that configuration allows; still no standstill
		if err := b.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRetryAfterHoldsTheWholeBudgetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10, 50)
		start := time.Now()
		b.limited(start, 40*time.Second)
		b.limited(start, 3*time.Second) // the longer one stands
		done := make(chan time.Duration, 3)
		for range cap(done) {
			go func() {
				b.wait(t.Context())
				done <- time.Since(start)
			}()
		}
		for range cap(done) {
			if at := <-done; at < 40*time.Second || at > 41*time.Second {
				t.Errorf("a request went out after %v", at)
			}
		}
	})
}

func TestAHoldThatBeginsWhileWaitingHoldsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1, 1)
		start := time.Now()
		b.wait(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { b.limited(time.Now(), 20*time.Second) })
		b.wait(t.Context())
		if got := time.Since(start); got != 20*time.Second+500*time.Millisecond {
			t.Errorf("went out after %v", got)
		}
	})
}

func TestAnotherKeyIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, "https://api.test", nil)
		c.budget.limited(time.Now(), 10*time.Minute)
		start := time.Now()
		time.AfterFunc(4500*time.Millisecond, func() { c.SetKey("one-key-2222") })
		time.AfterFunc(time.Minute, func() { c.SetKey("another-key-3333") })
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("went out after %v", got)
		}
		c.budget.limited(time.Now(), time.Minute)
		c.SetKey("one-key-2222") // the same again: changes nothing
		if c.budget.held(time.Now()) != time.Minute {
			t.Error("the same key released the hold")
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1, 1)
		b.wait(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if err := b.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting for the bucket: %v", err)
		}
		b.limited(time.Now(), time.Minute)
		if err := b.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting for the hold: %v", err)
		}
		b = newBudget(1, 1)
		b.wait(t.Context())
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := b.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline before the token: %v", err)
		}
	})
}

func TestAChangedRateIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(12, 120)
		b.configure(time.Now(), 6, 60)
		if !near(b.now, 5.5) || b.limiter.Burst() != 60 {
			t.Errorf("%v, burst %d", b.now, b.limiter.Burst())
		}
		b.limited(time.Now(), 0)
		b.configure(time.Now(), 12, 120)
		if !near(b.now, 2.75) {
			t.Errorf("a reload undid a 429: %v a second", b.now)
		}
		b.configure(time.Now(), 2, 1)
		if b.now > b.full {
			t.Errorf("%v a second, above %v", b.now, b.full)
		}
	})
}

func TestTheRateStaysBetweenFloorAndCeiling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		b := newBudget(rapid.Float64Range(0.1, 500).Draw(t, "rate"), rapid.IntRange(0, 5000).Draw(t, "burst"))
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60_000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				b.limited(now, 0)
			case 1:
				b.held(now)
			case 2:
				b.configure(now, rapid.Float64Range(0.1, 500).Draw(t, "rate"), rapid.IntRange(0, 5000).Draw(t, "burst"))
			}
			if b.now < minRate || b.now > b.full+1e-9 || b.limiter.Burst() < 1 {
				t.Fatalf("%v of %v a second, burst %d", b.now, b.full, b.limiter.Burst())
			}
			if got := float64(b.limiter.Limit()); !near(got, b.now) {
				t.Fatalf("the limiter has %v, not %v", got, b.now)
			}
		}
	})
}
