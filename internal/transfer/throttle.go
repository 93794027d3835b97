package transfer

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/clock"
)

// KeepAlive is how much of a held transfer is read, and how often: enough that neither the
// server nor a proxy takes the client for gone.
type KeepAlive struct {
	Bytes int           // at a time; at least 1
	Every time.Duration // at most; each wait is up to a quarter shorter, so that many do not read as one
}

// Throttle holds a transfer open, reading at a minimum rate, so that it is running when its
// URL expires and can be finished after that; and resumes it. A server judges a signed URL
// when a request starts; a running answer goes on. The zero Throttle holds nothing. It
// serves one transfer at a time and counts what is read. Hold, Release and Moved may be
// called from any goroutine, also before and after the transfer.
type Throttle struct {
	mu        sync.Mutex
	keepAlive KeepAlive
	held      bool
	changed   chan struct{} // closed by Release; nil: nothing waits

	left  int       // bytes that may still be read in this keep-alive read
	due   time.Time // of the next one
	moved int64     // bytes that were read

	reading atomic.Int32 // how many wait for the server
}

// Hold lets no more than keep-alive reads through from now on; where that is so already,
// from the next one on.
func (v *Throttle) Hold(t KeepAlive) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keepAlive = KeepAlive{Bytes: max(t.Bytes, 1), Every: t.Every}
	v.held = true // who waits is held already, and who does not asks before it reads
}

// Release lets everything through again.
func (v *Throttle) Release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held, v.left, v.due = false, 0, time.Time{}
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Held reports whether the throttle lets no more than keep-alive reads through.
func (v *Throttle) Held() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held
}

// pass waits until something may be read, and says how much of want bytes. The
// error is the cause of ctx.
func (v *Throttle) pass(ctx context.Context, want int) (int, error) {
	for {
		n, wait, turned := v.portion(want)
		if n > 0 {
			return n, nil
		}
		clock.Sleep(ctx, wait, turned)
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
}

// portion is what may be read now of want bytes, or how long to wait for it.
func (v *Throttle) portion(want int) (n int, wait time.Duration, turned <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.held {
		return want, 0, nil
	}
	now := time.Now()
	if v.left <= 0 && !now.Before(v.due) {
		v.left = v.keepAlive.Bytes
		v.due = now.Add(v.keepAlive.Every - time.Duration(rand.Float64()*float64(v.keepAlive.Every)/4))
	}
	if v.left > 0 {
		return min(want, v.left), 0, nil
	}
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return 0, v.due.Sub(now), v.changed
}

// shut reports whether nothing may be read for now.
func (v *Throttle) shut() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held && v.left <= 0 && time.Now().Before(v.due)
}

// Read brackets a read of the server's bytes: 1 as it begins, -1 as it ends.
func (v *Throttle) Read(begins int32) { v.reading.Add(begins) }

// Reading reports whether anything of the transfer waits for the server at this moment.
func (v *Throttle) Reading() bool { return v.reading.Load() > 0 }

// Passed says how many bytes were read.
func (v *Throttle) Passed(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left -= n
	v.moved += int64(n)
}

// Moved is how many bytes were read in all.
func (v *Throttle) Moved() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.moved
}
