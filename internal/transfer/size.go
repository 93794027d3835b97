package transfer

import (
	"context"
	"errors"
	"net/http"
)

// Facts is what a server says of an object without sending it.
type Facts struct {
	Total     int64  // bytes; -1: not known
	Validator string // ETag, strong or weak, or else Last-Modified; empty: neither
	All       bool   // the server sends everything whatever part is asked for
}

// Look asks what there is, by one ranged request for the first byte: a URL that was
// signed for GET need not be good for HEAD. The error is a *Failure.
func (c *Client) Look(ctx context.Context, req Request) (Facts, error) {
	facts, _, err := c.look(ctx, req)
	return facts, err
}

// Size is Look for the number of bytes alone, -1 where it is not known. It is a
// *Failure, too, where the server sends everything instead: to ask it for more sizes
// would fill the link.
func (c *Client) Size(ctx context.Context, req Request) (int64, error) {
	facts, a, err := c.look(ctx, req)
	switch {
	case err != nil:
		return 0, err
	case facts.All:
		return 0, a.failed(Server, errors.New("asked for one byte, it sends everything"))
	}
	return facts.Total, nil
}

// look is Look with the answer, which is closed.
func (c *Client) look(ctx context.Context, req Request) (Facts, *answer, error) {
	f := &fetch{c: c, cfg: c.cfg.Load(), req: req}
	a, err := f.ask(ctx, query{one: true})
	if err != nil {
		return Facts{}, nil, f.failure(ctx, err)
	}
	if a.at.scheme == dataScheme {
		defer a.close()
		return Facts{Total: a.resp.ContentLength}, a, nil
	}
	facts := Facts{Total: -1, Validator: validator(a.resp.Header)}
	switch status := a.resp.StatusCode; {
	case status == http.StatusPartialContent:
		defer a.drain()
		if told, ok := parseContentRange(a.resp.Header); ok {
			facts.Total = told.total
		}
		return facts, a, nil
	case carriesAll(a.resp):
		defer a.close() // the body is everything
		facts.Total, facts.All = a.resp.ContentLength, true
		return facts, a, nil
	}
	defer a.drain()
	return Facts{}, a, a.refusal()
}

// validator is what tells one version of an object from another, good or not for
// If-Range: its ETag as it is written or, where it has none, when it was last
// modified.
func validator(h http.Header) string {
	for _, name := range []string{"ETag", "Last-Modified"} {
		if value := h.Get(name); value != "" && len(value) <= maxETag {
			return value
		}
	}
	return ""
}
