package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// dialFunc connects, as net.Dialer.DialContext does.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial is for proxy.Dialer's sake; DialContext is what is called.
func (d dialFunc) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

func (d dialFunc) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// useProxy sends all connections through p. net/http knows SOCKS as well, but
// waits for ever for such a proxy to answer; here it has the time of a dial.
func (c *Client) useProxy(p *url.URL) error {
	if p.Hostname() == "" {
		return errors.New("proxy without a host")
	}
	switch p.Scheme {
	case "http", "https":
		c.absolute = true
		c.transport.Proxy = http.ProxyURL(p)
		return nil
	case "socks5", "socks5h":
	default:
		return fmt.Errorf("proxy with scheme %q: it must be http, https or socks5", p.Scheme)
	}
	addr := p.Host
	if p.Port() == "" {
		addr = net.JoinHostPort(p.Hostname(), "1080")
	}
	var auth *proxy.Auth
	if p.User != nil {
		password, _ := p.User.Password()
		auth = &proxy.Auth{User: p.User.Username(), Password: password}
	}
	socks, err := proxy.SOCKS5("tcp", addr, auth, dialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
		return c.connect(ctx, network, addr)
	}))
	if err != nil {
		return fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	through := socks.(proxy.ContextDialer) // as its documentation promises
	c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return through.DialContext(ctx, network, addr)
	}
	return nil
}
