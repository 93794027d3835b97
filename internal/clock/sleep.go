package clock

import (
	"context"
	"time"
)

// Sleep returns after d, at a receive from wake, or when ctx ends, whichever is first. A
// nil wake never wakes.
func Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
}
