package magnific

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a Retry-After can ask for: a server's ten years are
// a mistake, and a run's URLs die in hours.
const maxRetryAfter = 15 * time.Minute

// retryAfter reads a Retry-After (RFC 9110, 10.2.3), seconds or an HTTP date,
// which counts from now by the server's clock. It is between 0 and 15 minutes; 0
// where the value says nothing or nonsense.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) { // more digits than an int64 has
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
