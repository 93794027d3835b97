package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/signedurl"
)

// post sends messages to a URL as Standard Webhooks has it
// (https://www.standardwebhooks.com, "Webhook metadata").
type post struct {
	url    string
	host   string                    // what may be shown of it
	sign   *standardwebhooks.Webhook // nil: unsigned
	client *http.Client
	now    func() time.Time
}

func newPost(rawURL, secret string, timeout time.Duration, now func() time.Time) (*post, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("hook.url is not a URL: write it like https://hooks.example/assetd") // the cause would show it
	}
	p := &post{url: rawURL, host: u.Scheme + "://" + u.Host, now: now}
	if secret != "" {
		if p.sign, err = standardwebhooks.NewWebhook(secret); err != nil {
			return nil, errors.New("the secret for hook.url is not base64, with or without whsec_ before it") // as above
		}
	}
	p.client = &http.Client{
		Timeout: timeout,
		// Whoever is redirected to was not named by the operator.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: parallel,
			IdleConnTimeout:     time.Minute,
		},
	}
	return p, nil
}

func (p *post) name() string { return "hook.url " + p.host }

func (p *post) close() { p.client.CloseIdleConnections() }

// send posts the message. Any 2xx says that it was taken.
func (p *post) send(ctx context.Context, m message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(m.body))
	if err != nil {
		return errors.New("hook.url cannot be asked") // as above
	}
	at := p.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "assetd")
	req.Header.Set(standardwebhooks.HeaderWebhookID, m.key)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	if p.sign != nil {
		signature, err := p.sign.Sign(m.key, at, m.body)
		if err != nil {
			return fmt.Errorf("signing: %w", err)
		}
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return p.unreachable(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return &refusal{
		own:  ownFailure(resp.StatusCode),
		gone: resp.StatusCode == http.StatusGone,
		wait: backoff.RetryAfter(resp.Header.Get("Retry-After"), at, maxRetryAfter),
		err:  fmt.Errorf("HTTP %d", resp.StatusCode),
	}
}

// ownFailure reports whether a status is about this notice alone: 4xx (RFC 9110, 15.5), but
// for those that say that the server cannot now (408, 425, 429) or that it wants none any
// more (410). 401, 403 and 404 can be a wrong hook.url as well as one notice that a router
// behind it does not know; so they, too, hold up nothing else.
func ownFailure(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusGone, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status/100 == 4
}

// unreachable is a failure of the client without the URL, which may hold a token
// anywhere.
func (p *post) unreachable(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		if u.Timeout() {
			return fmt.Errorf("no answer within hook.timeout, %s", p.client.Timeout)
		}
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(signedurl.Redact(err.Error()))
}
