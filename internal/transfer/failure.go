package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
)

// Class says what kept an asset from being whole. What follows from it (waiting,
// renewal, loss) is for others to decide.
type Class string

// The classes.
const (
	Refused      Class = "refused"              // 401, 403
	Throttled    Class = "throttled"            // 429, 503
	Gone         Class = "gone"                 // 404, 410, 451
	Server       Class = "server error"         // any other status that is no success
	Network      Class = "network"              // DNS, dial, TLS, cut, damaged or senseless answer
	Stall        Class = "stalled"              // no byte for stall_timeout, or too few over four times that
	Disk         Class = "part not written"     // the part's error is wrapped
	NoRoom       Class = "no room"              // wraps run.ErrNoRoom
	Rule         Class = "refused by the rules" // scheme, network, size: trying again changes nothing
	NotMedia     Class = "not media"            // the part holds it, whole or its first MiB, for quarantine
	RedirectLoop Class = "redirects lead nowhere"
	Nothing      Class = "nothing to fetch" // no URL, or none that can be read
	Canceled     Class = "canceled"         // wraps the context's cause
)

// Phase is how far a request came that brought no response.
type Phase uint8

// The phases.
const (
	NoPhase    Phase = iota // there was no request, a response came, or it is not known
	Connecting              // to a connection: DNS, an address that is not public, connect, TLS, proxy
	Awaiting                // over a connection, and not a byte came back
	Header                  // what came back is no HTTP response, or ends within its header
)

// Failure is a transfer that brought no whole part. It is safe to print: it holds
// no query, fragment or userinfo of a URL.
type Failure struct {
	Class      Class
	Status     int           // HTTP status; 0 where none came
	Phase      Phase         // how far the request came where no status did
	RetryAfter time.Duration // as the server asked, from 0 to 366 days; 0: it did not
	Host       string        // who answered or was asked, after redirects: host[:port], lower case
	Date       time.Time     // that host's clock when it answered; zero where it said none or a cache answered
	Ranged     bool          // the request that failed carried Range
	Resumed    bool          // and If-Range, to go on with the part
	SHA256     string        // in hex, of a whole body that contradicts a digest the server announced; else empty
	Err        error
}

// Error names the class and the cause; the cause names URL and status.
func (f *Failure) Error() string { return string(f.Class) + ": " + f.Err.Error() }

// Unwrap is the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Cause is the class, for those who count.
func (f *Failure) Cause() string { return string(f.Class) }

// maxRetryAfter bounds Failure.RetryAfter, so that no sum with it can overflow.
const maxRetryAfter = 366 * 24 * time.Hour

// serverDate is the answering host's clock. An answer out of a cache (Age) tells
// when it was made, not when it was sent.
func serverDate(h http.Header) time.Time {
	if len(h.Values("Age")) > 0 {
		return time.Time{}
	}
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// refusal is the failure that an answer's status means.
func (a *answer) refusal() *Failure {
	var class Class
	switch status := a.resp.StatusCode; status {
	case http.StatusUnauthorized, http.StatusForbidden:
		class = Refused
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		class = Throttled
	case http.StatusNotFound, http.StatusGone, http.StatusUnavailableForLegalReasons:
		class = Gone
	default:
		class = Server
	}
	what := strconv.Itoa(a.resp.StatusCode)
	if text := http.StatusText(a.resp.StatusCode); text != "" {
		what += " " + text
	}
	return a.failed(class, fmt.Errorf("answered %s", what))
}

// failed is a failure of this answer: it names the URL without its secrets.
func (a *answer) failed(class Class, err error) *Failure {
	f := &Failure{
		Class: class, Status: a.resp.StatusCode, Host: a.at.host, Date: serverDate(a.resp.Header),
		Ranged: a.ranged, Resumed: a.resumed,
		Err: fmt.Errorf("%s: %w", a.at.source(), err),
	}
	now := f.Date
	if now.IsZero() {
		now = a.received
	}
	f.RetryAfter = backoff.RetryAfter(a.resp.Header.Get("Retry-After"), now, maxRetryAfter)
	return f
}

// diskError is an error of the part.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

func partError(err error) error { return &diskError{err} }

// classify is the class of what went wrong while a body was read.
func classify(err error) Class {
	var rule *ruleError
	var disk *diskError
	var stalled *stallError
	switch {
	case errors.As(err, &rule):
		return Rule
	case errors.Is(err, run.ErrNoRoom):
		return NoRoom
	case errors.As(err, &disk):
		return Disk
	case errors.As(err, &stalled):
		return Stall
	}
	return Network
}

// progress is how far a request came. The transport's goroutines write it.
type progress struct{ connected, begun atomic.Bool }

// trace notes the progress of the answer's request.
func (p *progress) trace(a *answer, req *Request) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			p.connected.Store(true)
			if req.Throttle != nil {
				a.conn = got.Conn
			}
		},
		WroteRequest: func(done httptrace.WroteRequestInfo) {
			if done.Err == nil && req.Sent != nil {
				req.Sent()
			}
		},
		GotFirstResponseByte: func() { p.begun.Store(true) },
	}
}

// phase is the one that a request ended in before its response was there.
func (p *progress) phase() Phase {
	switch {
	case !p.connected.Load():
		return Connecting
	case p.begun.Load():
		return Header
	}
	return Awaiting
}

// failure is the *Failure that err is told as.
func (f *fetch) failure(ctx context.Context, err error) *Failure {
	var known *Failure
	if !errors.As(err, &known) {
		known = &Failure{Class: classify(err), Host: f.host, Err: err}
	}
	if ctx.Err() != nil {
		known.Class, known.Err = Canceled, context.Cause(ctx)
	}
	return known
}
