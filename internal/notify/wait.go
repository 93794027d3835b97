package notify

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How long is waited after a failure: of a notice that is refused at most mostWait, of a
// hook that does not answer at most mostProbe. A receiver may have a notice wait for
// mostRetryWait.
const (
	firstWait     = time.Second
	mostProbe     = 10 * time.Second
	mostWait      = 5 * time.Minute
	mostRetryWait = time.Hour
)

// wait is how long to wait after the n-th failure in a row (from 1): a second,
// doubling to most; of that a half, and the part of the other half that random
// (from 0 to 1) says.
func wait(n int, most time.Duration, random float64) time.Duration {
	d := most
	if n < 10 {
		d = min(firstWait<<max(n-1, 0), most)
	}
	return d/2 + time.Duration(float64(d/2)*min(max(random, 0), 1))
}

// retryAfter reads a Retry-After (RFC 9110, 10.2.3), seconds or an HTTP date. It
// is between 0 and an hour; 0 where the value says nothing or nonsense.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(mostRetryWait/time.Second) { // more digits than an int64 has
			return mostRetryWait
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), mostRetryWait)
}
