package simulator

import (
	"net"
	"time"
)

// Option sets a simulator up. A Signing is one, too: of all assets that have
// none of their own.
type Option interface{ applySim(*config) }

type option func(*config)

func (o option) applySim(c *config) { o(c) }

type config struct {
	key                      string
	seed                     uint64
	apiAddr, cdnAddr         string
	apiListener, cdnListener net.Listener
	cdnHost                  string
	tls                      bool
	tlsNames                 []string
	signing                  *Signing
	skewAPI, skewCDN         time.Duration
	latencyAPI, latencyCDN   time.Duration
	rate                     int64
	link                     int64
	limit                    Limit
	wall                     Firewall
	cutAtExpiry              bool
	bare                     bool
	pages                    bool
	path                     string // the only one there is; empty: both are
	wrong                    int    // status of the other
	records                  int
}

// WithKey sets the API key that is accepted.
func WithKey(key string) Option { return option(func(c *config) { c.key = key }) }

// WithSeed makes another world: other content, IDs of the scenarios and secrets.
func WithSeed(seed uint64) Option { return option(func(c *config) { c.seed = seed }) }

// WithAddrs sets where API and CDN listen, as host:port; empty: a free port of
// 127.0.0.1.
func WithAddrs(api, cdn string) Option {
	return option(func(c *config) { c.apiAddr, c.cdnAddr = api, cdn })
}

// WithListeners takes these instead of listening; nil: listen. Close closes them.
func WithListeners(api, cdn net.Listener) Option {
	return option(func(c *config) { c.apiListener, c.cdnListener = api, cdn })
}

// WithCDNHost sets the host name in the assets' URLs, such as `localhost`; the
// port is the CDN's.
func WithCDNHost(name string) Option { return option(func(c *config) { c.cdnHost = name }) }

// WithTLS lets both servers speak TLS with a certificate of their own, which
// Roots and RootPEM vouch for: for loopback, or for the names given instead.
func WithTLS(names ...string) Option {
	return option(func(c *config) { c.tls, c.tlsNames = true, names })
}

// WithSkew sets by how much the clocks of API and CDN are ahead of this machine's.
func WithSkew(api, cdn time.Duration) Option {
	return option(func(c *config) { c.skewAPI, c.skewCDN = api, cdn })
}

// WithLatency sets how long each answer is held back, and once more for the
// first one on a connection: a round trip to API and CDN.
func WithLatency(api, cdn time.Duration) Option {
	return option(func(c *config) { c.latencyAPI, c.latencyCDN = api, cdn })
}

// WithConnRate limits each connection of the CDN to so many bytes a second.
func WithConnRate(bytesPerSecond int64) Option {
	return option(func(c *config) { c.rate = bytesPerSecond })
}

// WithLinkRate limits all connections of the CDN together to so many bytes a
// second, which those that are read share evenly. Send buffers are small then, so
// that a body that nobody reads takes little of it.
func WithLinkRate(bytesPerSecond int64) Option {
	return option(func(c *config) { c.link = bytesPerSecond })
}

// WithRateLimit lets the API answer 429 beyond the limit.
func WithRateLimit(l Limit) Option { return option(func(c *config) { c.limit = l }) }

// WithFirewall lets the CDN refuse live tokens where there are too many requests.
func WithFirewall(f Firewall) Option { return option(func(c *config) { c.wall = f }) }

// WithCutAtExpiry lets the CDN cut running transfers when their tokens die.
// Otherwise it judges a token when a request starts.
func WithCutAtExpiry() Option { return option(func(c *config) { c.cutAtExpiry = true }) }

// WithoutData lets the API answer without the outer `data`.
func WithoutData() Option { return option(func(c *config) { c.bare = true }) }

// WithPages lets the API answer an HTML page to a request that does not accept
// application/json, as some gateways do.
func WithPages() Option { return option(func(c *config) { c.pages = true }) }

// WithRunsPath lets the API have one of its two paths alone, as an account may. The
// other is answered with that status before the key is looked at: 403 or 404 with a
// message, 302 to a login page, 200 with a page.
func WithRunsPath(path string, wrong int) Option {
	return option(func(c *config) { c.path, c.wrong = path, wrong })
}

// WithRecordLimit keeps only the last n requests on record, for benchmarks. What
// Served and Fired count is not touched by it. The default is 131,072.
func WithRecordLimit(n int) Option { return option(func(c *config) { c.records = max(n, 1) }) }

// RetryForm is how a Retry-After is written.
type RetryForm int

// The forms of a Retry-After.
const (
	RetryNone RetryForm = iota
	RetrySeconds
	RetryDate
)

// Limit is the API's rate limit: a token bucket for all requests. The zero value
// limits nothing.
type Limit struct {
	PerSecond float64
	Burst     int
	After     RetryForm // how its 429 says when to come back
}

// bucket is the state of a Limit.
type bucket struct {
	used float64
	last time.Time
}

// take reports how long to wait before the next request; 0: it may go on.
func (b *bucket) take(l Limit, now time.Time) time.Duration {
	if l.PerSecond <= 0 {
		return 0
	}
	b.used = max(b.used-now.Sub(b.last).Seconds()*l.PerSecond, 0)
	b.last = now
	if b.used+1 > float64(max(l.Burst, 1)) {
		return time.Duration((b.used + 1 - float64(max(l.Burst, 1))) / l.PerSecond * float64(time.Second))
	}
	b.used++
	return 0
}

// Firewall throttles: when more than Requests were answered within Window, all
// get 403 for Pause, live token or not. The zero value refuses nothing.
type Firewall struct {
	Requests int
	Window   time.Duration
	Pause    time.Duration // 0: as long as Window
}

// wall is the state of a Firewall.
type wall struct {
	times []time.Time // of the last requests, a ring
	next  int
	until time.Time
}

// refuses reports whether this request is one too many.
func (w *wall) refuses(f Firewall, now time.Time) bool {
	if f.Requests <= 0 {
		return false
	}
	if now.Before(w.until) {
		return true
	}
	if w.times == nil {
		w.times = make([]time.Time, f.Requests)
	}
	if oldest := w.times[w.next]; !oldest.IsZero() && now.Sub(oldest) < f.Window {
		pause := f.Pause
		if pause == 0 {
			pause = f.Window
		}
		w.until = now.Add(pause)
		clear(w.times) // what comes after the pause begins anew
		return true
	}
	w.times[w.next] = now
	w.next = (w.next + 1) % len(w.times)
	return false
}
