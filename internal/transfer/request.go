package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/signedurl"
)

// maxHops is how many redirects are followed.
const maxHops = 5

// What is read of a body that nobody wants, so that its connection can be used
// again (P3.15).
const (
	drainBytes = 64 << 10
	drainTime  = 2 * time.Second
)

// query is what is asked of the object.
type query struct {
	from int64  // first byte
	to   int64  // the first byte behind the last; 0: all that follow
	etag string // of what is there already; set where from > 0
	all  bool   // without Range: the whole object, whatever the server makes of ranges
	one  bool   // the first byte alone, for what the answer says of the rest
}

// answer is a response, after redirects. Its owner calls close.
type answer struct {
	resp     *http.Response
	at       target
	conn     net.Conn // that it comes over; nil: of no interest, there is no throttle
	received time.Time
	ranged   bool            // it was asked for with Range
	resumed  bool            // and with If-Range, to go on with what is there
	ctx      context.Context // ends with close; its cause tells why it ended early
	cancel   context.CancelCauseFunc
}

// ask sends the query and follows redirects by hand: each hop is judged like the
// first URL and gets the same few headers, no Referer, and no cookie but those that
// this very host set during this fetch. net/http's own redirects would hand the
// signed URL on as Referer (P3.10).
func (f *fetch) ask(ctx context.Context, q query) (*answer, error) {
	if signedurl.IsData(f.req.URL) {
		return f.answerData(ctx)
	}
	at, err := parseTarget(f.req.URL)
	if err != nil {
		return nil, &Failure{Class: unreadable(err, Nothing), Err: err}
	}
	seen, home := map[string]bool{}, at.host // seen: what was sent, URL and cookies
	for {
		seen[f.identity(at)] = true
		if err := f.c.check(at); err != nil {
			return nil, &Failure{Class: Rule, Host: at.host, Err: fmt.Errorf("%s: %w", at.source(), err)}
		}
		if at.host == home {
			if err := f.turn(ctx); err != nil {
				return nil, err
			}
		}
		a, err := f.send(ctx, at, q)
		if err != nil {
			return nil, err
		}
		switch a.resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return a, nil
		}
		a.drain()
		location := a.resp.Header.Get("Location")
		if location == "" {
			return nil, a.failed(RedirectLoop, errors.New("redirect without Location"))
		}
		next, err := at.follow(location)
		switch {
		case err != nil:
			return nil, a.failed(unreadable(err, RedirectLoop), fmt.Errorf("redirect: %w", err))
		case seen[f.identity(next)]:
			return nil, a.failed(RedirectLoop, fmt.Errorf("redirects in a circle, back to %s", next.source()))
		case len(seen) > maxHops:
			return nil, a.failed(RedirectLoop, fmt.Errorf("more than %d redirects, the last to %s", maxHops, next.source()))
		}
		at = next
	}
}

// identity is what tells one request of a chain of redirects from another: the same
// URL with another cookie may have another answer.
func (f *fetch) identity(at target) string { return at.String() + "\n" + f.cookies.header(at) }

// turn waits until one more request may be made to the URL's host. The first one's
// turn was when the transfer began.
func (f *fetch) turn(ctx context.Context) error {
	if !f.begun.Swap(true) || f.req.Turn == nil {
		return nil
	}
	return f.req.Turn(ctx)
}

// unreadable is the class of a URL that could not be taken: Rule for a scheme
// that is refused.
func unreadable(err error, otherwise Class) Class {
	var rule *ruleError
	if errors.As(err, &rule) {
		return Rule
	}
	return otherwise
}

// send makes one request.
func (f *fetch) send(ctx context.Context, at target, q query) (*answer, error) {
	h := http.Header{
		"Accept":          {"*/*"},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {f.cfg.UserAgent},
	}
	switch {
	case q.one:
		h.Set("Range", "bytes=0-0")
	case !q.all:
		last := ""
		if q.to > 0 {
			last = strconv.FormatInt(q.to-1, 10)
		}
		h.Set("Range", "bytes="+strconv.FormatInt(q.from, 10)+"-"+last)
		if q.from > 0 {
			h.Set("If-Range", q.etag)
		}
	}
	if cookie := f.cookies.header(at); cookie != "" {
		h.Set("Cookie", cookie)
	}
	req := &http.Request{Method: http.MethodGet, URL: at.url(f.c.absolute && at.scheme == "http"), Header: h}
	if at.user != nil {
		password, _ := at.user.Password()
		req.SetBasicAuth(at.user.Username(), password) // the URL's own, for this hop alone
	}
	a := &answer{at: at, ranged: !q.all, resumed: !q.all && q.from > 0}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	var came progress
	a.ctx = httptrace.WithClientTrace(a.ctx, came.trace(a, &f.req))
	limit := time.AfterFunc(answerTimeout, func() {
		a.cancel(&stallError{fmt.Sprintf("no answer came within %s", answerTimeout)})
	})
	sent := time.Now()
	var err error
	a.resp, err = f.roundTrip(req.WithContext(a.ctx))
	a.received = time.Now()
	limit.Stop()
	if err != nil {
		defer a.cancel(nil)
		class := Network
		var stalled *stallError
		if errors.As(context.Cause(a.ctx), &stalled) {
			class, err = Stall, stalled
		}
		// Not wrapped: an error of the network may quote the URL, or all that came.
		return nil, &Failure{Class: class, Phase: came.phase(), Host: at.host, Ranged: a.ranged, Resumed: a.resumed, Err: fmt.Errorf("%s: %s", at.source(), clean(err.Error()))}
	}
	f.c.clk.Observe(at.host, sent, a.received, a.resp.Header)
	f.cookies.keep(a)
	return a, nil
}

// clean makes fit for people what quotes a server: no secrets of URLs, no great
// length.
func clean(s string) string {
	const most = 300 // bytes
	s = signedurl.Redact(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// close ends the answer. A connection whose body was read to its end is kept.
func (a *answer) close() {
	a.resp.Body.Close()
	a.cancel(nil)
}

// drain reads what little is left of a body that nobody wants, and closes.
func (a *answer) drain() {
	defer a.close()
	if a.resp.ContentLength > drainBytes {
		return
	}
	defer time.AfterFunc(drainTime, func() { a.cancel(nil) }).Stop()
	_, _ = io.CopyN(io.Discard, a.resp.Body, drainBytes)
}
