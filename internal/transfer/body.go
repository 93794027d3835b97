package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// A body must bring at least minRate bytes a second, averaged over minWindow
// times the stall timeout: a server that sends a byte now and then would
// otherwise hold a worker for ever (N02). The floor is low on purpose: what is
// slow but moves is let go on.
const (
	minRate   = 1 << 10
	minWindow = 4
)

var errTooMuch = errors.New("sent more than it had announced")

// body reads an answer's body under the watch. Counted is only time spent
// waiting for the server: neither our own pace nor a slow disk speaks against it.
type body struct {
	from   io.Reader
	ctx    context.Context
	cancel context.CancelCauseFunc
	pace   pace
	stall  time.Duration
	timer  *time.Timer

	window struct { // since the last look at the average
		bytes  int64
		waited time.Duration
	}
}

// body watches the answer's body. Its owner calls stop.
func (a *answer) body(p pace, stall time.Duration) *body {
	b := &body{from: a.resp.Body, ctx: a.ctx, cancel: a.cancel, pace: p, stall: stall}
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
	p = p[:b.pace.chunk(len(p))]
	before := time.Now()
	b.timer.Reset(b.stall)
	n, err := b.from.Read(p)
	b.timer.Stop()
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
	if wait := b.pace.pay(b.ctx, n); wait != nil {
		return n, wait
	}
	return n, err
}

func (b *body) stop() { b.timer.Stop() }

// pace is the rate that all transfers share, in bytes.
type pace struct{ *rate.Limiter }

// set changes the rate, in bytes a second; 0: no limit. A quarter of a second's
// worth may come at once.
func (p pace) set(bytes int64) {
	if bytes <= 0 {
		p.SetLimit(rate.Inf)
		return
	}
	p.SetBurst(int(min(max(bytes/4, 1), bufferSize)))
	p.SetLimit(rate.Limit(bytes))
}

// chunk is how much of n bytes may be read at once.
func (p pace) chunk(n int) int {
	if p.Limit() == rate.Inf {
		return n
	}
	return min(n, max(p.Burst(), 1))
}

// pay waits until n bytes that have come are within the rate. It returns the
// cause where ctx ends first.
func (p pace) pay(ctx context.Context, n int) error {
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
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			r.Cancel()
			return context.Cause(ctx)
		}
	}
	return nil
}
