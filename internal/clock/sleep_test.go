package clock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/clock"
)

func TestSleep_EndsWithTheFirstOfItsReasons(t *testing.T) {
	for name, c := range map[string]struct{ ctx, wake, d, want time.Duration }{
		"time": {3 * time.Second, 2 * time.Second, time.Second, time.Second},
		"wake": {3 * time.Second, 2 * time.Second, time.Minute, 2 * time.Second},
		"end":  {time.Second, 2 * time.Second, time.Minute, time.Second},
		"none": {time.Hour, 0, time.Minute, time.Minute},
		"past": {time.Hour, time.Hour, -time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.ctx)
				defer cancel()
				var wake chan struct{}
				if c.wake > 0 {
					wake = make(chan struct{})
					defer time.AfterFunc(c.wake, func() { close(wake) }).Stop()
				}
				start := time.Now()
				clock.Sleep(ctx, c.d, wake)
				if got := time.Since(start); got != c.want {
					t.Errorf("slept %v, want %v", got, c.want)
				}
			})
		})
	}
}
