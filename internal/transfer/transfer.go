// Package transfer brings one asset from its URL to a whole part: over one
// connection, or where it is large over as many as make it faster.
//
// It guarantees that a Result is what the server sent, complete as far as the
// server can show it (Proven), media by its own bytes, and hashed; that bytes of
// two versions of an object are never mixed; that no address which is not public
// is connected to, whatever the URL, its redirects and its name servers say; that
// nothing of ours (key, cookie, Referer) goes with a request and no secret of the
// URL stands in an error; and that every transfer ends or moves on: nobody can
// keep it waiting for ever, and its memory is one pooled buffer a connection
// whatever comes.
//
// It does not decide when to try, when to renew a URL or when to give up, and it
// makes nothing durable: that is the pool's and the part's.
package transfer

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer/media"
	"github.com/assetd/assetd/internal/transfer/ranges"
)

// Config is what a Client goes by. Proxy and IdlePerHost are fixed at New; all
// else can change while transfers run, and holds from the next one on (MaxRate
// at once, for all).
type Config struct {
	AllowHTTP     bool           // fetch http URLs, not https alone
	AllowNetworks []netip.Prefix // networks that are not public and may be connected to all the same
	MaxSize       int64          // bytes of one asset; 0: no limit
	StallTimeout  time.Duration  // without a byte; 0: 30 s
	MaxRate       int64          // bytes a second over all transfers; 0: no limit
	UserAgent     string         // sent with each request; empty: assetd
	Proxy         *url.URL       // http, https or socks5; nil: none, the environment's are not used
	IdlePerHost   int            // connections kept open to one host between transfers: the number of workers; 0: 16
	Connections   int            // for one large asset at most, and past the first of each for all together; up to 1: one
}

// Clock is what a Client learns dates with and takes the time from.
type Clock interface {
	Now() time.Time
	Observe(host string, sent, received time.Time, h http.Header)
}

// Part is the file that a transfer fills: appended to by Write, read back by
// ReadAt, both from one goroutine; or, where it is large, written at several places
// at once.
type Part interface {
	io.Writer
	io.ReaderAt
	Resumer
	Scattered
}

// Scattered is a part that is written at several places at once. WriteAt writes
// where nothing is yet and is called from several goroutines, also while ReadAt
// is; what is past a gap is not read.
type Scattered interface {
	io.WriterAt
	// Beyond is what is past the first Have bytes, in order.
	Beyond() []run.Span
}

// Resumer is how a part is begun and gone on with.
type Resumer interface {
	// Have is how many bytes stand in the part from its front on, and the mark they
	// were written under.
	Have() (int64, run.PartMark)
	// Reset empties the part and puts the mark next to it, before the first byte
	// that is written under it.
	Reset(run.PartMark) error
	// Reserve makes sure that n more bytes can be written after those already
	// there; run.ErrNoRoom where not.
	Reserve(n int64) error
}

// Request is one asset to fetch.
type Request struct {
	Key      run.Key // its kind is the one announced
	URL      string  // a secret, exactly as the API gave it
	Width    *int    // pixels, as the API has it; nil: not known
	Height   *int
	Early    bool      // the asset's run has not ended: what comes may be another object then
	Throttle *Throttle // holds the transfer open; nil: it is never held
	Before   string    // SHA-256 in hex of a body that was whole but for a proof, or that its digest contradicted; empty: there was none
	Cut      string    // SHA-256 in hex of what came last and looked cut off (Result.Cut); empty: nothing did
	Plain    bool      // ask without Range, and so for the whole object from its first byte on

	// Turn waits until the URL's host may be asked once more for this asset; its error
	// is that of the context, which ends the wait. It comes before each request to that
	// host but the first, from several goroutines at once. nil: at any time.
	Turn func(ctx context.Context) error

	// Sent is called when a request is on its way over a connection, so that from now
	// on its response is waited for; from other goroutines. nil: nobody wants to know.
	Sent func()
}

// Result is a part that is whole.
type Result struct {
	run.Whole          // ready to be kept; At is the local clock
	Kind      run.Kind // what the bytes are; empty: none of the kinds
	Proven    bool     // false: the body's end was the connection's end, so it may have been cut
	Cut       bool     // by its own account the file has more bytes than came: it may still be being written, and is worth another look
	Received  int64    // bytes that came over the network
	Validator string   // ETag, strong or weak, or else Last-Modified of the answer, for Look
	Host      string   // who sent them, as in Failure; empty: the part was whole already
}

// The timeouts that are not configured: none of them covers a body (P3.1).
const (
	dialTimeout     = 10 * time.Second
	tlsTimeout      = 10 * time.Second
	headerTimeout   = 30 * time.Second
	answerTimeout   = 90 * time.Second // all of these and a proxy's share, which has none of its own
	idleTimeout     = 90 * time.Second
	defaultStall    = 30 * time.Second
	defaultIdle     = 16
	maxHeaderBytes  = 256 << 10
	sessionsForTLS  = 64
	reserveStep     = 64 << 20  // bytes reserved at a time where the size is not known
	bufferSize      = 256 << 10 // bytes; a body no larger is read whole before anything is written
	quarantineBytes = 1 << 20   // of what is not media are kept
)

// Client fetches assets. It is safe for concurrent use.
type Client struct {
	cfg       atomic.Pointer[Config]
	clk       Clock
	proxied   bool       // no connection is made but to the proxy
	absolute  bool       // http URLs are asked for whole
	dialer    net.Dialer // a copy of it dials, with the guard in it
	connect   dialFunc   // what makes connections
	transport *http.Transport
	lenient   *http.Transport // for answers whose Content-Length the other refuses
	limit     rateLimit
	buffers   sync.Pool
	moved     atomic.Int64 // bytes that came in over all connections
	budget    ranges.Budget
	decoders  chan struct{} // a slot for each body that is decoded
}

// buffer is the memory of one transfer.
type buffer struct {
	data [bufferSize]byte
	head [media.HeadSize]byte
}

// New gives a client. The error names a proxy that cannot be used.
func New(cfg Config, clk Clock) (*Client, error) {
	c := &Client{
		clk: clk, proxied: cfg.Proxy != nil,
		dialer: net.Dialer{Timeout: dialTimeout},
		limit:  rateLimit{rate.NewLimiter(rate.Inf, 0)}, decoders: make(chan struct{}, decoders),
		buffers: sync.Pool{New: func() any { return new(buffer) }},
	}
	c.connect = c.dial
	var protocols http.Protocols
	protocols.SetHTTP1(true) // HTTP/2 shares one connection and one window (P3.2)
	c.transport = &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.connect(ctx, network, addr)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(sessionsForTLS)},
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // else net/http would unpack and lose the length (P3.5)
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    cfg.IdlePerHost,
	}
	if cfg.IdlePerHost <= 0 {
		c.transport.MaxIdleConnsPerHost = defaultIdle
	}
	if cfg.Proxy != nil {
		if err := c.useProxy(cfg.Proxy); err != nil {
			return nil, err
		}
	}
	c.lenient = c.tolerant()
	c.Configure(cfg)
	return c, nil
}

// Configure takes new settings; Proxy and IdlePerHost are left as they were.
func (c *Client) Configure(cfg Config) {
	cfg.AllowNetworks = unmap(cfg.AllowNetworks)
	if cfg.StallTimeout <= 0 {
		cfg.StallTimeout = defaultStall
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "assetd"
	}
	c.cfg.Store(&cfg)
	c.limit.set(cfg.MaxRate)
}

// Close closes the connections that no transfer uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Fetch brings the asset into the part. It goes on from what the part holds where
// a strong validator shows that the object is the same; a part that is whole
// already is only hashed. progress, unless nil, is told how many bytes the part
// holds and how many it will (-1: not known): at the start, after each write, and
// again from 0 where the transfer begins again.
//
// The error is always a *Failure. After one, what is in the part is safe to
// go on from with the next Fetch; after NotMedia it holds what is to be
// quarantined. When ctx ends, what has come is written first.
func (c *Client) Fetch(ctx context.Context, req Request, part Part, progress func(done, total int64)) (Result, error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	f := &fetch{c: c, cfg: c.cfg.Load(), req: req, part: part, progress: progress, mem: c.buffers.Get().(*buffer)}
	defer func() { c.buffers.Put(f.mem) }()
	if err := f.run(ctx); err != nil {
		return Result{}, f.failure(ctx, err)
	}
	return f.result(), nil
}
