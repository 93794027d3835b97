package magnific

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

const (
	userAgent    = "assetd"
	keyHeader    = "x-magnific-api-key"
	stale        = 3                // calls not answered in a row, after which idle connections are given up
	skewToTell   = 30 * time.Second // P7.3
	earliestDate = 2020             // a Date from before is no date

	// maxRetryAfter bounds a Retry-After: ten years are a server's mistake, and the URLs
	// of a run expire within hours.
	maxRetryAfter = 15 * time.Minute
)

var errSlow = errors.New("no whole answer within api.timeout")

// Get asks for one run. It waits for no budget: Wait does, for one request; while it
// is not known which of several paths answers, Get waits itself for the next one. Its error is a
// *run.Refusal, or that of ctx.
func (c *Client) Get(ctx context.Context, id run.ID) (run.Answer, error) {
	key, _ := c.settings()
	if err := usableKey(key); err != nil {
		return run.Answer{}, &run.Refusal{Kind: run.Unauthorized, Cause: err}
	}
	if !run.ValidID(string(id)) {
		return run.Answer{}, &run.Refusal{Kind: run.Unusable, Cause: errors.New("not asked: this is no run ID")}
	}
	answer, refusal := c.ask(ctx, id, key)
	switch {
	case refusal == nil:
		return answer, nil
	case ctx.Err() != nil:
		return run.Answer{}, ctx.Err()
	}
	return run.Answer{}, refusal
}

// timed is one call within api.timeout.
func (c *Client) timed(ctx context.Context, path *url.URL, id run.ID, key string) (run.Answer, *run.Refusal) {
	_, timeout := c.settings()
	within, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	answer, refusal := c.call(within, path, id, key)
	switch {
	case ctx.Err() != nil && refusal != nil:
	case refusal == nil || refusal.Kind != run.Unreachable:
		c.reached()
	default:
		if errors.Is(context.Cause(within), errSlow) {
			refusal.Cause = fmt.Errorf("%w (%v)", errSlow, timeout)
		}
		c.notReached()
	}
	return answer, refusal
}

// usableKey reports why the key cannot be sent.
func usableKey(key string) error {
	if key == "" {
		return errors.New("no API key is set: name its file in api.key_file, or set ASSETD_API_KEY")
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] >= 0x7f {
			return errors.New("the API key holds a space, a line break or another byte that no key has: mend its file")
		}
	}
	return nil
}

func (c *Client) call(ctx context.Context, path *url.URL, id run.ID, key string) (run.Answer, *run.Refusal) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path.JoinPath(string(id)).String(), nil)
	if err != nil {
		return run.Answer{}, &run.Refusal{Kind: run.Unreachable, Cause: c.clean(err, key)}
	}
	req.Header.Set(keyHeader, key)
	req.Header.Set("Accept", "application/json") // without it some gateways answer a page
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", userAgent)
	sent := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return run.Answer{}, &run.Refusal{Kind: run.Unreachable, Cause: c.clean(err, key)}
	}
	defer resp.Body.Close()
	c.clock.Observe(c.Host(), sent, time.Now(), resp.Header)
	c.tellSkew()
	date := c.date(resp.Header)
	if resp.StatusCode/100 != 2 {
		return run.Answer{}, c.refused(resp, key, date)
	}
	answer, err := c.read(ctx, resp)
	if err == nil && answer.Run != "" && answer.Run != id {
		err = fmt.Errorf("it is about another run, %.64q", answer.Run)
	}
	if err != nil {
		kind := run.Unusable
		if errors.As(err, new(*cutError)) {
			kind = run.Unreachable
		}
		return run.Answer{}, &run.Refusal{Kind: kind, Status: resp.StatusCode, Date: date, Cause: c.clean(err, key)}
	}
	answer.Run, answer.Date = id, date
	return answer, nil
}

// date is the API's clock as this answer tells it. Where it tells none that can
// be believed it is what is known of that clock from other answers.
func (c *Client) date(h http.Header) time.Time {
	if len(h.Values("Age")) == 0 { // an answer out of a cache has its own age (P7.3)
		if at, err := http.ParseTime(h.Get("Date")); err == nil && at.Year() >= earliestDate {
			return at.UTC()
		}
	}
	return c.clock.Server(c.Host())
}

// refused is what a status other than 2xx says (design 4.3). A 4xx that is neither
// about the key (401, 403) nor about the moment (408, 425, 429) is about the run:
// also 402, which asks to pay for that one and says nothing of the others.
func (c *Client) refused(resp *http.Response, key string, date time.Time) *run.Refusal {
	r := &run.Refusal{
		Status:     resp.StatusCode,
		Date:       date,
		RetryAfter: backoff.RetryAfter(resp.Header.Get("Retry-After"), date, maxRetryAfter),
		Cause:      message(resp, key),
	}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		r.Kind = run.RateLimited
		c.limited(r.RetryAfter)
	case s == http.StatusUnauthorized:
		r.Kind = run.Unauthorized
	case s == http.StatusForbidden:
		r.Kind = run.Forbidden
	case s == http.StatusNotFound:
		r.Kind = run.NotFound
	case s >= 500, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		r.Kind = run.ServerError
	case s >= 400:
		r.Kind = run.Rejected
		if r.Cause == nil && http.StatusText(s) != "" {
			r.Cause = errors.New(http.StatusText(s))
		}
	case s >= 300:
		r.Kind = run.Unusable
		r.Cause = errors.New(harmless(redirect(resp), key))
	default:
		r.Kind = run.Unusable
		if r.Cause == nil {
			r.Cause = errors.New("a status that this API does not document")
		}
	}
	return r
}

// redirect says where a redirect would have led, by host alone.
func redirect(resp *http.Response) string {
	to := "nowhere"
	if u, err := url.Parse(resp.Header.Get("Location")); err == nil && u.Host != "" {
		to = fmt.Sprintf("to %.100q", u.Host)
	} else if err == nil && u.Path != "" {
		to = "to another path"
	}
	return "a redirect " + to + ", which is not followed: check api.base_url"
}

// limited lowers the budget after a 429.
func (c *Client) limited(wait time.Duration) {
	perSecond, lowered := c.budget.limited(time.Now(), wait)
	if !lowered && wait == 0 {
		return
	}
	note := fmt.Sprintf("to %.2g requests a second", perSecond)
	if wait > 0 {
		note += fmt.Sprintf(", none for %v", wait)
	}
	c.tell(run.Event{Kind: run.RateLowered, Host: c.Host(), Note: note})
}

// reached notes an answer of any kind.
func (c *Client) reached() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = 0
}

// notReached gives idle connections up where calls keep failing: the next one
// dials anew.
func (c *Client) notReached() {
	c.mu.Lock()
	c.failures++
	failures := c.failures
	c.mu.Unlock()
	if failures >= stale {
		c.http.CloseIdleConnections()
	}
}

// tellSkew tells once when the local clock is off, and again after it was right.
func (c *Client) tellSkew() {
	skew, _ := c.clock.Skew(c.Host())
	off := skew.Abs() > skewToTell
	c.mu.Lock()
	news := off && !c.skewed
	c.skewed = off
	c.mu.Unlock()
	if !news {
		return
	}
	direction := "behind"
	if skew < 0 {
		direction = "ahead of"
	}
	c.tell(run.Event{
		Kind: run.ClockSkewed, Host: c.Host(),
		Note: fmt.Sprintf("the local clock is %v %s the server's", skew.Abs(), direction),
		Hint: "switch time synchronisation on; until then the server's clock is used",
	})
}

// clean is an error for people: without URL queries and without the key. A
// transport's error says more than its *url.Error, which quotes the URL.
func (c *Client) clean(err error, key string) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return errors.New(harmless(signedurl.Redact(err.Error()), key))
}
