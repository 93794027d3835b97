package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// ErrNoDaemon means that nobody answers at the socket: no daemon runs there.
var ErrNoDaemon = errors.New("no daemon runs")

// Client asks a running daemon through its socket. Safe for concurrent use.
type Client struct {
	path string
	http *http.Client
}

// NewClient is a client of the socket at path. It connects when it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   requestTime,
	}}
}

// Runs calls f with each run that passes the filter and whose ID comes after the
// given one, in the order of the IDs; after "" means from the first.
func (c *Client) Runs(ctx context.Context, filter Filter, after run.ID, f func(Run) error) error {
	q := filter.values()
	if after != "" {
		q.Set(paramAfter, string(after))
	}
	for {
		var page Page
		if err := c.get(ctx, "/api/v1/runs?"+q.Encode(), &page); err != nil {
			return err
		}
		for _, r := range page.Runs {
			if err := f(r); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Set(paramAfter, string(page.Next))
	}
}

// Run is one run with its assets, run.ErrUnknown where the queue has none such.
func (c *Client) Run(ctx context.Context, id run.ID) (Run, error) {
	var r Run
	err := c.get(ctx, "/api/v1/runs/"+url.PathEscape(string(id)), &r)
	return r, err
}

// Status is how the daemon stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.get(ctx, "/api/v1/status", &s)
	return s, err
}

// Health asks /healthz, or /readyz.
func (c *Client) Health(ctx context.Context, ready bool) (Health, error) {
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	var h Health
	err := c.get(ctx, path, &h)
	return h, err
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// do asks, and reads the answer unless into is nil.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	resp, err := c.ask(ctx, c.http, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		return problemError(resp)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("socket %s: unreadable answer: %w", c.path, err)
	}
	return nil
}

// ask gives the daemon's answer, whose body is the caller's to close.
func (c *Client) ask(ctx context.Context, by *http.Client, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://assetd"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := by.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNoDaemon
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("socket %s: no permission: ask as root or as a member of its group (%w)", c.path, os.ErrPermission)
	case err != nil:
		return nil, socketError(c.path, err)
	}
	return resp, nil
}

// socketError is why a socket cannot be used. The kernel says no more of a path that
// is too long for one than "invalid argument".
func socketError(path string, err error) error {
	if longest := len(syscall.RawSockaddrUnix{}.Path) - 1; errors.Is(err, syscall.EINVAL) && len(path) > longest {
		return fmt.Errorf("socket %s: its path has %d bytes and a unix socket's at most %d: choose a shorter state.dir", path, len(path), longest)
	}
	return fmt.Errorf("socket %s: %w", path, err)
}

func problemError(resp *http.Response) error {
	var p struct {
		Detail string `json:"detail"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p); err != nil {
		return fmt.Errorf("the daemon answered HTTP %d", resp.StatusCode)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", p.Detail, run.ErrUnknown)
	case http.StatusConflict:
		return fmt.Errorf("%s: %w", p.Detail, run.ErrStale)
	}
	return errors.New(p.Detail)
}

// Wait blocks until a daemon answers at the socket, asking every tenth of a
// second until ctx ends.
func (c *Client) Wait(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		h, err := c.Health(ctx, true)
		if err == nil && h.OK {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("not ready: %v", h.Reasons)
			}
			return err
		case <-tick.C:
		}
	}
}
