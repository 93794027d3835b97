package transfer

import (
	"context"
	"errors"
	"net/http"
)

// Size asks how many bytes the asset has, by one ranged request for its first
// byte: a URL that was signed for GET need not be good for HEAD. -1: the server
// does not tell. The error is a *Failure, also where the server sends everything
// instead: to ask it for more sizes would fill the link.
func (c *Client) Size(ctx context.Context, req Request) (int64, error) {
	f := &fetch{c: c, cfg: c.cfg.Load(), req: req}
	a, err := f.ask(ctx, query{one: true})
	if err != nil {
		return 0, f.failure(ctx, err)
	}
	if a.at.scheme == dataScheme {
		defer a.close()
		return a.resp.ContentLength, nil
	}
	switch a.resp.StatusCode {
	case http.StatusPartialContent:
		defer a.drain()
		if told, ok := parseContentRange(a.resp.Header); ok {
			return told.total, nil
		}
		return -1, nil
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		defer a.close() // the body is everything
		return 0, a.failed(Server, errors.New("asked for one byte, it sends everything"))
	}
	defer a.drain()
	return 0, a.refusal()
}
