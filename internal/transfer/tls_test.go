package transfer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	bignum "math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// certificate is a self-signed one for those names, good until then.
func certificate(t *testing.T, until time.Time, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: bignum.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if parsed, err := x509.ParseCertificate(der); err == nil {
		pool.AddCert(parsed)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// secure is a client, told whom to trust, and a URL of cdn.test served over TLS.
func secure(t *testing.T, cert tls.Certificate, trust *x509.CertPool, h http.Handler) (*Client, string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = quiet()
	s.EnableHTTP2 = true // offered, and not to be taken
	s.StartTLS()
	t.Cleanup(s.Close)
	c := newClient(t, Config{})
	c.transport.TLSClientConfig.RootCAs = trust
	c.dialer.Resolver = resolver(t, []string{"127.0.0.1"})
	return c, "https://cdn.test:" + portOf(s.Listener) + "/private/render.png?" + secret
}

func TestOverTLSWithHTTP11(t *testing.T) { // P3.2
	cert, pool := certificate(t, time.Now().Add(time.Hour), "cdn.test")
	body, h := sized(big, `"v1"`)
	proto := ""
	c, url := secure(t, cert, pool, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		h(w, r)
	}))
	part := &memPart{}
	mustBe(t, fetched(t, c, url, part), part, body)
	if proto != "HTTP/1.1" {
		t.Errorf("spoke %s", proto)
	}
}

func TestBadCertificatesAreNamedAndNeverPassedOver(t *testing.T) { // N18
	_, h := sized(100, "")
	for name, tc := range map[string]struct {
		until time.Duration
		names string
		trust bool
		says  string
	}{
		"expired":     {-time.Hour, "cdn.test", true, "expired"},
		"wrong host":  {time.Hour, "other.test", true, "valid for other.test"},
		"self-signed": {time.Hour, "cdn.test", false, "unknown authority"},
	} {
		cert, pool := certificate(t, time.Now().Add(tc.until), tc.names)
		if !tc.trust {
			pool = x509.NewCertPool()
		}
		asked := false
		c, url := secure(t, cert, pool, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = true
			h(w, r)
		}))
		f := failed(t, c, url, &memPart{}, Network)
		if asked || f.Phase != Connecting || !strings.Contains(f.Error(), tc.says) {
			t.Errorf("%s: asked %v, %v", name, asked, f)
		}
	}
}

func TestConnectionClosedWithoutGoodbyeProvesNothing(t *testing.T) { // N18, P3.7
	cert, pool := certificate(t, time.Now().Add(time.Hour), "cdn.test")
	body := picture(big, 1)
	for name, tc := range map[string]struct {
		header string
		proven bool
	}{
		"length":   {fmt.Sprintf("Content-Length: %d\r\n", len(body)), true},
		"untold":   {"", false},
		"untold 2": {"Connection: close\r\n", false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		t.Cleanup(func() { l.Close(); <-done })
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				readRequest(t, over)
				fmt.Fprintf(over, "HTTP/1.1 200 OK\r\n%s\r\n%s", tc.header, body)
				_ = conn.(*net.TCPConn).CloseWrite() // a FIN, and no close_notify before it
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		c := newClient(t, Config{})
		c.transport.TLSClientConfig.RootCAs = pool
		c.dialer.Resolver = resolver(t, []string{"127.0.0.1"})
		url := "https://cdn.test:" + portOf(l) + "/a.png?" + secret
		part := &memPart{}
		r, err := c.Fetch(t.Context(), request(url), part, nil)
		if tc.proven {
			if err != nil || !r.Proven {
				t.Errorf("%s: %v, %+v", name, err, r)
			}
		} else if err != nil || r.Proven {
			t.Errorf("%s: %v, proven %v", name, err, r.Proven)
		}
	}
}
