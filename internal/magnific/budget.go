package magnific

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/clock"
)

// The rules of the budget (design 4.3).
const (
	minRate   = 0.5              // requests a second: never below, however often 429 comes
	halving   = 10 * time.Second // halved at most once in so long
	growth    = 10 * time.Second // a tenth of api.rate comes back every so long
	window    = 2 * time.Minute  // over which the API counts the rate
	holdSlice = time.Second      // how soon the end of a hold is noticed, a suspend and a new key included
)

// budget is the token bucket that all calls share. The bucket fills a little
// slower than api.rate, by its own size in two minutes: so no two minutes hold
// more than 120 times the rate, not even those that begin with a burst.
type budget struct {
	limiter *rate.Limiter

	mu     sync.Mutex
	full   float64 // requests a second while nothing is wrong
	burst  int     // requests at once while nothing is wrong
	step   float64 // requests a second that come back at a time
	now    float64 // requests a second allowed now
	grown  time.Time
	halved time.Time
	hold   time.Time // nothing goes out before
}

func newBudget(perSecond float64, burst int) *budget {
	b := &budget{limiter: rate.NewLimiter(0, 1)}
	b.take(perSecond, burst)
	b.now = b.full
	b.limiter = rate.NewLimiter(rate.Limit(b.full), b.burst)
	return b
}

// take sets the limits that hold while nothing is wrong.
func (b *budget) take(perSecond float64, burst int) {
	perSecond = max(perSecond, 2*minRate)
	// Half of what two minutes allow stays for filling.
	b.burst = max(1, min(burst, int(perSecond*window.Seconds()/2)))
	b.full = perSecond - float64(b.burst)/window.Seconds()
	b.step = perSecond / 10
}

func (b *budget) configure(now time.Time, perSecond float64, burst int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grow(now)
	lowered := b.now < b.full
	b.take(perSecond, burst)
	if !lowered || b.now > b.full {
		b.now = b.full
	}
	b.apply(now)
}

// apply hands the present rate to the limiter. The burst shrinks with the rate:
// a full bucket emptied at once would answer a 429 with more of the same.
func (b *budget) apply(now time.Time) {
	b.limiter.SetLimitAt(now, rate.Limit(b.now))
	b.limiter.SetBurstAt(now, max(1, int(float64(b.burst)*b.now/b.full)))
}

func (b *budget) grow(now time.Time) {
	steps := int(now.Sub(b.grown) / growth)
	if b.now >= b.full || steps < 1 {
		return
	}
	b.now = min(b.full, b.now+float64(steps)*b.step)
	b.grown = b.grown.Add(time.Duration(steps) * growth)
	b.apply(now)
}

// limited notes a 429. It gives the rate in force and whether it was lowered.
func (b *budget) limited(now time.Time, retryAfter time.Duration) (perSecond float64, lowered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grow(now)
	if until := now.Add(retryAfter); until.After(b.hold) {
		b.hold = until
	}
	if b.halved.IsZero() || now.Sub(b.halved) >= halving {
		before := b.now
		b.now = max(minRate, b.now/2)
		lowered = b.now < before
		b.halved, b.grown = now, now
		b.apply(now)
	}
	return b.now, lowered
}

// release ends a hold.
func (b *budget) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = time.Time{}
}

// held is for how long nothing may go out.
func (b *budget) held(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grow(now)
	return b.hold.Sub(now)
}

// Budget is how many requests a second are allowed now, and how many might go out at
// once; while a Retry-After holds, that is none.
func (c *Client) Budget() (perSecond, tokens float64) {
	now := time.Now()
	held := c.budget.held(now)
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	if held > 0 {
		return c.budget.now, 0
	}
	return c.budget.now, max(c.budget.limiter.TokensAt(now), 0)
}

// Wait blocks until one request may be made, and takes it from the budget. Its
// only error is that of ctx.
func (c *Client) Wait(ctx context.Context) error { return c.budget.wait(ctx) }

func (b *budget) wait(ctx context.Context) error {
	for taken := false; ; {
		if held := b.held(time.Now()); held > 0 {
			clock.Sleep(ctx, min(held, holdSlice), nil)
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		if taken {
			return nil
		}
		if b.limiter.Wait(ctx) != nil { // also at once, where ctx would end before
			if ctx.Err() == nil {
				return context.DeadlineExceeded
			}
			return ctx.Err()
		}
		taken = true // a hold may have begun meanwhile: looked at once more
	}
}
