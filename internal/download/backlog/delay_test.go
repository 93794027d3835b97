package backlog_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/download/backlog"
)

func TestRetryDelay_DoublesFromASecondToAMinute(t *testing.T) {
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i, w := range want {
		if got := backlog.RetryDelay(i+1, 0, 1); got != w*time.Second {
			t.Errorf("delay %d is %v, want %v", i+1, got, w*time.Second)
		}
		if got := backlog.RetryDelay(i+1, 0, 0.5); got != w*time.Second/2 {
			t.Errorf("delay %d with half the jitter is %v, want %v", i+1, got, w*time.Second/2)
		}
	}
	if got := backlog.RetryDelay(1_000_000, 0, 1); got != time.Minute {
		t.Errorf("the millionth delay is %v", got)
	}
}

func TestRetryDelay_GetsShorterAsExpiryComesNear(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		time.Hour:        time.Minute,
		16 * time.Minute: time.Minute,
		8 * time.Minute:  30 * time.Second,
		32 * time.Second: 2 * time.Second,
		time.Second:      time.Second,
		time.Nanosecond:  time.Second,
		0:                time.Minute,
		-time.Hour:       time.Minute,
	} {
		if got := backlog.RetryDelay(99, left, 1); got != want {
			t.Errorf("with %v left the delay is %v, want %v", left, got, want)
		}
	}
}

func TestRetryAfterIsObeyedUpToTheDeadline(t *testing.T) {
	for _, c := range []struct{ asked, left, want time.Duration }{
		{0, time.Hour, 0},
		{time.Minute, time.Hour, time.Minute},
		{59 * time.Minute, time.Hour, 59 * time.Minute},
		{time.Hour, time.Hour, 30 * time.Minute},
		{10 * 365 * 24 * time.Hour, time.Minute, 30 * time.Second},
		{time.Minute, 0, time.Minute},
		{time.Hour, -time.Minute, 15 * time.Minute},
	} {
		if got := backlog.Obey(c.asked, c.left); got != c.want {
			t.Errorf("asked for %v with %v left: %v, want %v", c.asked, c.left, got, c.want)
		}
	}
}

func TestObeyNeverReachesTheDeadline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		asked := time.Duration(rapid.Int64Range(0, int64(366*24*time.Hour)).Draw(t, "asked"))
		left := time.Duration(rapid.Int64Range(1, int64(48*time.Hour)).Draw(t, "left"))
		if got := backlog.Obey(asked, left); got >= left || got > asked || got < 0 {
			t.Fatalf("%v of %v asked with %v left", got, asked, left)
		}
	})
}

func TestEvictDeletesAsLittleAsNeededOrNothing(t *testing.T) {
	parts := []backlog.Part{{Key: key("r001", 1), Size: 10}, {Key: key("r001", 2), Size: 20}, {Key: key("r001", 3), Size: 30}}
	for _, c := range []struct {
		need, free int64
		want       int
		ok         bool
	}{{5, 5, 0, true}, {6, 5, 1, true}, {15, 5, 1, true}, {16, 5, 2, true}, {65, 5, 3, true}, {66, 5, 0, false}, {10, -5, 2, true}} {
		keys, ok := backlog.Evict(c.need, c.free, parts)
		if len(keys) != c.want || ok != c.ok {
			t.Errorf("need %d, free %d: %v, %v", c.need, c.free, keys, ok)
		}
		for i, k := range keys {
			if k != parts[i].Key {
				t.Errorf("need %d, free %d: %v is out of order", c.need, c.free, k)
			}
		}
	}
}
