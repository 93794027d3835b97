package backlog

import (
	"time"

	"github.com/assetd/assetd/internal/backoff"
)

// The retry delays of design 4.4.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	share      = 16               // no delay takes more than this part of the time until expiry
	soon       = 15 * time.Minute // how long a server is obeyed where no deadline is known or left
)

// RetryDelay returns the delay after the n-th failure in a row, counted from 1: a
// second, doubling to a minute. It never takes more than a sixteenth of left, the time
// until the URL expires, or a second where that is longer; a left of 0 or less means
// that the expiry is not known or has passed, and sets no limit. The delay has full
// jitter by random, from 0 to 1.
func RetryDelay(n int, left time.Duration, random float64) time.Duration {
	delay := backoff.Delay(n, firstDelay, maxDelay)
	if left > 0 {
		delay = min(delay, max(left/share, firstDelay))
	}
	return backoff.FullJitter(delay, random)
}

// Obey returns how long a server's Retry-After is obeyed: in full where it ends before
// the deadline. One that does not would mean certain loss: then half of left, the time
// until the deadline, so that each answer leaves time for another attempt. A left of 0
// or less means that the deadline has passed or is not known, and then the limit is a
// quarter of an hour.
func Obey(retryAfter, left time.Duration) time.Duration {
	switch {
	case left <= 0:
		return min(retryAfter, soon)
	case retryAfter < left:
		return retryAfter
	default:
		return left / 2
	}
}
