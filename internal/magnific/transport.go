package magnific

import (
	"net"
	"net/http"
	"net/url"
	"time"
)

// The limits of a connection. The call as a whole is bounded by api.timeout.
const (
	dialTimeout = 10 * time.Second
	tlsTimeout  = 10 * time.Second
	idleTimeout = 90 * time.Second
	maxHeader   = 256 << 10 // bytes; net/http's own limit is 10 MiB
	maxIdle     = 16        // connections: as many polls are in flight
	// A dead HTTP/2 connection would be used for minutes without these
	// (golang.org/issue/36026): found dead within SendPing + Ping.
	sendPing  = 15 * time.Second
	ping      = 15 * time.Second
	writeByte = 30 * time.Second
)

func newHTTP(proxy *url.URL) *http.Client {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHeader,
		// net/http would unpack gzip without a bound we could set (body.go does).
		DisableCompression: true,
		Protocols:          new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  sendPing,
			PingTimeout:      ping,
			WriteByteTimeout: writeByte,
		},
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true)
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{
		Transport: t,
		// A redirect would carry the key to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
