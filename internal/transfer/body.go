package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/clock"
)

// A body must bring at least minRate bytes per second, averaged over minWindow
// times the stall timeout: a server that sends a byte now and then would
// otherwise hold a worker for ever (N02). The floor is low on purpose: what is
// slow but moves is let go on.
const (
	minRate   = 1 << 10
	minWindow = 4
)

var errTooMuch = errors.New("sent more than it had announced")

// readOut is the size, in bytes, up to which a body is read to its end at once,
// never held: opening it has cost the link a good part of it already.
const readOut = 512 << 10

// body reads an answer's body under the watch. Counted is only time spent
// waiting for the server: neither our own rate limit, nor a hold, nor a slow disk speaks
// against it.
type body struct {
	from     io.Reader
	ctx      context.Context
	cancel   context.CancelCauseFunc
	limit    rateLimit
	stall    time.Duration
	timer    *time.Timer
	throttle *Throttle // nil: always open
	count    *Throttle // counts what comes, also where it does not hold; nil: nobody does
	conn     net.Conn  // what it comes over, while the throttle may hold it
	narrowed bool      // that was made so
	left     int64     // bytes to come; less than 0: not known
	moved    *atomic.Int64

	window struct { // since the last look at the average
		bytes  int64
		waited time.Duration
	}
}

// watch is the answer's body under the watch. Its owner calls stop.
func (f *fetch) watch(a *answer) *body {
	stall := f.cfg.StallTimeout
	b := &body{from: a.resp.Body, ctx: a.ctx, cancel: a.cancel, limit: f.c.limit, stall: stall, moved: &f.c.moved, count: f.req.Throttle, left: a.resp.ContentLength}
	switch size := a.resp.ContentLength; {
	case a.at.scheme == dataScheme: // it came with the URL: nothing moves, and nothing is held
		b.moved, b.count = new(atomic.Int64), nil
	case size < 0 || size > readOut:
		b.throttle, b.conn = f.req.Throttle, a.conn
	}
	b.timer = time.AfterFunc(stall, func() {
		b.cancel(&stallError{fmt.Sprintf("no byte came for %s (download.stall_timeout)", stall)})
	})
	b.timer.Stop()
	return b
}

// stallError is why a watch ended an answer.
type stallError struct{ reason string }

func (e *stallError) Error() string { return e.reason }

func (b *body) Read(p []byte) (int, error) {
	p = p[:b.limit.chunk(len(p))]
	allowed, err := b.pass(len(p))
	if err != nil {
		return 0, err
	}
	p = p[:allowed]
	if b.left >= 0 && int64(allowed) >= b.left {
		b.give() // with its last byte the connection may be another's
	}
	before := time.Now()
	b.timer.Reset(b.stall)
	if b.count != nil {
		b.count.Read(1)
	}
	n, err := b.from.Read(p)
	b.timer.Stop()
	if b.count != nil {
		b.count.Read(-1)
		b.count.Passed(n)
	}
	b.moved.Add(int64(n))
	if b.left >= 0 {
		b.left -= int64(n)
	} else if errors.Is(err, io.EOF) {
		b.give()
	}
	b.window.waited += time.Since(before)
	b.window.bytes += int64(n)
	if span := minWindow * b.stall; b.window.waited >= span {
		if float64(b.window.bytes) < minRate*span.Seconds() && err == nil {
			err = &stallError{fmt.Sprintf("%d bytes in %s are too slow", b.window.bytes, b.window.waited.Round(time.Millisecond))}
		}
		b.window.bytes, b.window.waited = 0, 0
	}
	if err != nil && !errors.Is(err, io.EOF) {
		// net/http says "context canceled" for what the watch did.
		var stalled *stallError
		if errors.As(context.Cause(b.ctx), &stalled) {
			err = stalled
		}
		return n, err
	}
	if wait := b.limit.pay(b.ctx, n); wait != nil {
		return n, wait
	}
	return n, err
}

// shut reports whether the next Read would wait for the throttle.
func (b *body) shut() bool { return b.throttle != nil && b.throttle.shut() }

// pass waits until the throttle lets something through, and says how much of n bytes.
func (b *body) pass(n int) (int, error) {
	if b.throttle == nil {
		return n, nil
	}
	b.fit()
	n, err := b.throttle.pass(b.ctx, n)
	b.fit() // it may have been turned meanwhile
	return n, err
}

// fit makes the connection's buffer small while the transfer is held.
func (b *body) fit() {
	held := b.throttle.Held()
	if held == b.narrowed || b.conn == nil {
		return
	}
	if b.narrowed = held; held {
		shrinkBuffer(b.conn)
	} else {
		restoreBuffer(b.conn)
	}
}

// give leaves the connection to whoever uses it next as it was.
func (b *body) give() {
	if b.narrowed {
		b.narrowed = false
		restoreBuffer(b.conn)
	}
}

func (b *body) stop() { b.timer.Stop() }

// rateLimit is the rate that all transfers share, in bytes.
type rateLimit struct{ *rate.Limiter }

// set changes the rate, in bytes per second; 0: no limit. A quarter of a second's
// worth may come at once.
func (p rateLimit) set(bytes int64) {
	if bytes <= 0 {
		p.SetLimit(rate.Inf)
		return
	}
	p.SetBurst(int(min(max(bytes/4, 1), bufferSize)))
	p.SetLimit(rate.Limit(bytes))
}

// chunk is how much of n bytes may be read at once.
func (p rateLimit) chunk(n int) int {
	if p.Limit() == rate.Inf {
		return n
	}
	return min(n, max(p.Burst(), 1))
}

// pay waits until n bytes that have come are within the rate. It returns the
// cause where ctx ends first.
func (p rateLimit) pay(ctx context.Context, n int) error {
	for n > 0 && p.Limit() != rate.Inf {
		k := min(n, max(p.Burst(), 1))
		r := p.ReserveN(time.Now(), k)
		if !r.OK() {
			continue // the burst has just become smaller
		}
		n -= k
		delay := r.Delay()
		if delay == 0 {
			continue
		}
		clock.Sleep(ctx, delay, nil)
		if ctx.Err() != nil {
			r.Cancel()
			return context.Cause(ctx)
		}
	}
	return nil
}
