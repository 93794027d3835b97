package magnific

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network in memory: what is dialled is accepted by Serve.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	dialled  atomic.Int32
	deaf     atomic.Pointer[deafConn] // the last one dialled
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.dialled.Add(1)
	c := &deafConn{Conn: client}
	p.deaf.Store(c)
	p.accepted <- server
	return c, nil
}

// deafConn can be made to swallow what is written, as a connection does whose
// packets are dropped on the way.
type deafConn struct {
	net.Conn
	dead      atomic.Bool
	swallowed atomic.Int32
}

func (c *deafConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		c.swallowed.Add(1)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestADeadHTTP2ConnectionIsFoundWithin30Seconds(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate alone
	certified.Close()
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
		srv := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, `{"status":%q}`, r.Proto)
			}),
			TLSConfig: &tls.Config{Certificates: certified.TLS.Certificates},
		}
		served := make(chan struct{})
		go func() { defer close(served); srv.ServeTLS(network, "", "") }()

		c := newClient(t, "https://example.com", nil)
		cfg := config("")
		cfg.Timeout = 10 * time.Minute // not what ends it
		c.Configure(cfg)
		transport := c.http.Transport.(*http.Transport)
		transport.DialContext = network.dial
		transport.TLSClientConfig = &tls.Config{RootCAs: certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}

		if a, err := c.Get(t.Context(), runID); err != nil || a.Status != "HTTP/2.0" {
			t.Fatalf("%q %v", a.Status, err)
		}
		dead := network.deaf.Load()
		dead.dead.Store(true)
		start := time.Now()
		_, err := c.Get(t.Context(), runID)
		if took := time.Since(start); took > 30*time.Second || took < 10*time.Second || dead.swallowed.Load() == 0 {
			t.Errorf("found dead after %v (%v), %d writes swallowed", took, err, dead.swallowed.Load())
		}
		if _, err := c.Get(t.Context(), runID); err != nil || network.dialled.Load() != 2 {
			t.Errorf("a new connection: %v, %d dialled", err, network.dialled.Load())
		}
		c.Close()
		srv.Close()
		<-served
	})
}
