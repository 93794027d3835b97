package plan

import "time"

// The waits of design 4.4.
const (
	firstWait = time.Second
	mostWait  = time.Minute
	share     = 16               // no wait takes more than this part of the life left
	soon      = 15 * time.Minute // how long a server is obeyed where no deadline is known or left
)

// Wait is how long to wait after the n-th failure in a row (from 1): a second,
// doubling to a minute, and as the URL's death comes near never more than a
// sixteenth of the life left, but at least a second; of that the part that random
// (from 0 to 1) says: full jitter. left is the life left; 0 or less: not known, or
// dead already, and then nothing presses.
func Wait(n int, left time.Duration, random float64) time.Duration {
	wait := mostWait
	if n < 7 {
		wait = min(firstWait<<max(n-1, 0), mostWait)
	}
	if left > 0 {
		wait = min(wait, max(left/share, firstWait))
	}
	return time.Duration(float64(wait) * min(max(random, 0), 1))
}

// Obey is how long a server's Retry-After is obeyed: in full while it ends before
// the deadline. One that does not would mean certain loss: then half of what is
// left until the deadline, so that each answer leaves room for another try. left
// is the time until the deadline; 0 or less: it has passed or none is known, and
// then a quarter of an hour at most.
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
