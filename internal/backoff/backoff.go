// Package backoff computes how long to wait before the next attempt: delays that
// double with each failure up to a limit, the jitter that spreads them, and the
// Retry-After field that servers ask for a delay with.
//
// All functions are pure: time and randomness are arguments.
package backoff

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Delay returns the delay after the n-th failure in a row, counted from 1: first,
// doubled by each further failure, at most limit.
func Delay(n int, first, limit time.Duration) time.Duration {
	delay := first
	for ; n > 1 && delay < limit; n-- {
		if delay > limit/2 {
			return limit
		}
		delay *= 2
	}
	return min(delay, limit)
}

// FullJitter returns the part of a delay that random, from 0 to 1, selects.
func FullJitter(delay time.Duration, random float64) time.Duration {
	return time.Duration(float64(delay) * min(max(random, 0), 1))
}

// HalfJitter returns half of a delay and the part of the other half that random, from
// 0 to 1, selects.
func HalfJitter(delay time.Duration, random float64) time.Duration {
	return delay/2 + FullJitter(delay/2, random)
}

// RetryAfter parses a Retry-After field (RFC 9110, section 10.2.3): seconds, or an HTTP
// date, which counts from now by the server's clock. The result is between 0 and limit;
// it is 0 for a date that has passed and for what is neither form.
func RetryAfter(value string, now time.Time, limit time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(limit/time.Second) { // err: more digits than an int64 has
			return limit
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), limit)
}
