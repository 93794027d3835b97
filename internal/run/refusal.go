package run

import (
	"fmt"
	"strings"
	"time"
)

// RefusalKind says what kept an API call from a usable answer.
type RefusalKind string

// The kinds of refusal.
const (
	RateLimited  RefusalKind = "rate limited"    // 429
	Unauthorized RefusalKind = "unauthorized"    // 401
	Forbidden    RefusalKind = "forbidden"       // 403
	NotFound     RefusalKind = "not found"       // 404
	Rejected     RefusalKind = "run refused"     // another 4xx: it is about this one run
	ServerError  RefusalKind = "server error"    // 5xx, and 408 and 425, which ask to try again
	Unreachable  RefusalKind = "unreachable"     // DNS, dial, TLS, reset, timeout
	Unusable     RefusalKind = "unusable answer" // 2xx with HTML, half JSON or too large a body; a redirect; a status nobody documented
)

// Refusal is an API call that brought no usable answer. It is safe to print: it
// holds neither key nor token.
type Refusal struct {
	Kind       RefusalKind
	Status     int           // HTTP status; 0 where none came
	RetryAfter time.Duration // 0: not said
	Date       time.Time     // the API's clock; zero where unknown
	Cause      error         // redacted
}

// Error names the kind, the status and the cause, which is often but the kind in
// the server's words: then it is left out.
func (r *Refusal) Error() string {
	msg := string(r.Kind)
	if r.Status != 0 {
		msg = fmt.Sprintf("%s (HTTP %d)", msg, r.Status)
	}
	if r.Cause != nil && !strings.EqualFold(r.Cause.Error(), string(r.Kind)) {
		msg += ": " + r.Cause.Error()
	}
	return msg
}

// Unwrap is the cause.
func (r *Refusal) Unwrap() error { return r.Cause }
