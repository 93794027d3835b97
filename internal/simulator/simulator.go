// Package simulator is the Magnific API and a CDN with signed URLs on this
// machine, for `assetd demo`, for tests and for benchmarks: faithful to what is
// known of both, and able to fail in every way that is known of either.
//
// It guarantees that what it serves is real media that opens, the same for the
// same seed; that a fault strikes exactly the requests it was made for and counts
// them, so that a test can prove that it did; and that every request is on record,
// so that what was served can be held against what was stored. Close ends every
// connection and waits for every handler. It does not know assetd: what an
// answer means, and what must become of an asset, is for others to judge, but
// for the little that Expected says.
//
// Both servers speak HTTP/1.1 only, since most faults are faults of the wire.
// A simulator is safe for concurrent use.
package simulator

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// bufferSize is how much of a body is made and sent at once, in bytes.
const bufferSize = 64 << 10

// Sim is a running simulator.
type Sim struct {
	cfg     config
	done    chan struct{} // closed by Close
	servers []*http.Server
	serving sync.WaitGroup // the servers' accept loops
	working sync.WaitGroup // handlers; added to under mu while open
	buffers sync.Pool      // of *[bufferSize]byte
	link    link
	roots   *x509.CertPool
	rootPEM []byte
	apiURL  string

	mu      sync.Mutex
	closed  bool
	cdnURL  string
	key     string
	secret  []byte
	skewAPI time.Duration
	skewCDN time.Duration
	limit   bucket
	wall    wall
	runs    map[run.ID]*script
	order   []*script
	assets  map[run.Key]*asset
	paths   map[string]*asset
	covers  map[picture]cover
	apiWide []*Armed
	cdnWide []*Armed
	all     []*Armed
	log     record
	hijacks map[net.Conn]struct{}
}

type cover struct{ head, tail string }

// New is a simulator without listeners: API and CDN are handlers to be mounted
// elsewhere, and MountedAt says where.
func New(opts ...Option) *Sim {
	s := &Sim{
		cfg:     config{key: "sim-key-0123456789abcdef", seed: 1, signing: &Signing{}, records: 1 << 17},
		done:    make(chan struct{}),
		runs:    map[run.ID]*script{},
		assets:  map[run.Key]*asset{},
		paths:   map[string]*asset{},
		covers:  map[picture]cover{},
		hijacks: map[net.Conn]struct{}{},
	}
	s.buffers.New = func() any { return new([bufferSize]byte) }
	for _, o := range opts {
		o.applySim(&s.cfg)
	}
	s.key, s.skewAPI, s.skewCDN = s.cfg.key, s.cfg.skewAPI, s.cfg.skewCDN
	s.secret = fmt.Appendf(nil, "%016x", seeded(s.cfg.seed, "secret"))
	s.link.rate = s.cfg.link
	s.log = record{limit: s.cfg.records, news: make(chan struct{})}
	return s
}

// Start is a simulator that listens: on two free ports of 127.0.0.1 and without
// TLS, unless the options say otherwise. Close it.
func Start(opts ...Option) (*Sim, error) {
	s := New(opts...)
	api, err := listen(s.cfg.apiListener, s.cfg.apiAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	cdn, err := listen(s.cfg.cdnListener, s.cfg.cdnAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the CDN: %w", err), api.Close())
	}
	scheme := "http"
	if s.cfg.tls {
		scheme = "https"
		if api, cdn, err = s.wrapTLS(api, cdn); err != nil {
			return nil, err
		}
	}
	s.apiURL = scheme + "://" + api.Addr().String()
	host := cdn.Addr().String()
	if s.cfg.cdnHost != "" {
		if _, port, err := net.SplitHostPort(host); err == nil {
			host = net.JoinHostPort(s.cfg.cdnHost, port)
		}
	}
	s.cdnURL = scheme + "://" + host
	s.serve(api, s.API())
	s.serve(cdn, s.CDN())
	return s, nil
}

func listen(given net.Listener, addr string) (net.Listener, error) {
	if given != nil {
		return given, nil
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	return net.Listen("tcp", addr)
}

func (s *Sim) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:     h,
		ErrorLog:    log.New(io.Discard, "", 0), // what clients do to a connection is on record
		ConnContext: s.connected,
	}
	s.servers = append(s.servers, srv)
	s.serving.Go(func() { _ = srv.Serve(l) }) // ends with Close, and says so
}

// connected prepares a connection that a client has opened.
func (s *Sim) connected(ctx context.Context, conn net.Conn) context.Context {
	if s.link.rate > 0 {
		narrow(conn)
	}
	return withConnection(ctx, conn)
}

// Close ends every connection, running or stalled, and waits until all handlers
// have returned. Its error is the listeners'. A second call does nothing.
func (s *Sim) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for conn := range s.hijacks {
		_ = conn.Close()
	}
	s.mu.Unlock()
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.Close())
	}
	s.working.Wait()
	s.serving.Wait()
	return errors.Join(errs...)
}

// enter lets a handler work, unless the simulator is closed.
func (s *Sim) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.working.Add(1)
	}
	return !s.closed
}

// API is the handler of the API.
func (s *Sim) API() http.Handler { return s.handler(s.planAPI) }

// CDN is the handler of the CDN.
func (s *Sim) CDN() http.Handler { return s.handler(s.planCDN) }

func (s *Sim) handler(plan func(*exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		defer s.working.Done()
		x := newExchange(s, r)
		s.begin(x, plan)
		defer s.finish(x)
		x.send(w)
	})
}

// APIURL is the API's scheme, host and port: api.base_url. Empty after New.
func (s *Sim) APIURL() string { return s.apiURL }

// CDNURL is the scheme, host and port of the assets' URLs.
func (s *Sim) CDNURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cdnURL
}

// CDNHost is the host and port of the assets' URLs.
func (s *Sim) CDNHost() string {
	u, err := url.Parse(s.CDNURL())
	if err != nil {
		return ""
	}
	return u.Host
}

// MountedAt says under which scheme, host and port the CDN's handler is reached.
// Answers from then on list URLs there.
func (s *Sim) MountedAt(cdnURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cdnURL = cdnURL
}

// Key is the API key that is accepted.
func (s *Sim) Key() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

// SetKey changes the key that is accepted; all others get 401.
func (s *Sim) SetKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// SetSkew sets by how much the clocks of API and CDN are ahead of this
// machine's. Putting the CDN's ahead ends tokens at once.
func (s *Sim) SetSkew(api, cdn time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skewAPI, s.skewCDN = api, cdn
}

// Revoke ends every token signed so far before its time, as the death of a
// signing credential does: polling again brings good ones.
func (s *Sim) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = fmt.Appendf(nil, "%016x", seeded(s.cfg.seed, string(s.secret)))
}

// hijacked notes a connection that the server gave away, so that Close ends it.
func (s *Sim) hijacked(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hijacks[conn] = struct{}{}
	if s.closed {
		_ = conn.Close()
	}
}

func (s *Sim) release(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hijacks, conn)
}
