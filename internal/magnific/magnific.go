// Package magnific asks the Magnific API about runs. It is the only package that
// knows that API: one call, what its answers and refusals say, and the budget of
// requests that all runs of a key share.
//
// It guarantees that the key goes to the configured host alone (redirects are
// never followed), that no error holds the key or a URL's query, that a body of
// any content costs bounded memory and never panics, and that whatever an answer
// says is either understood or kept by name. What an answer means for a run, and
// when to ask again, is left to others; so is keeping to the budget, by calling
// Wait before each Get.
package magnific

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

// Where the public API is, and the host of the asset URLs in its documentation
// (api-reference/apps/get-run).
const (
	PublicURL = "https://api.magnific.com"
	PublicCDN = "https://pikaso.cdnpk.net/"
)

// Config says where the API is and how it may be used.
type Config struct {
	BaseURL  string        // scheme and host, with or without a path
	RunsPath string        // below BaseURL; the run's ID comes after it; AutoPath: whichever answers
	Rate     float64       // requests a second, averaged over 2 minutes; at least 1
	Burst    int           // requests at once; at least 1
	Timeout  time.Duration // for one call, body included
	Proxy    string        // URL of an HTTP or SOCKS5 proxy; empty: none, whatever the environment says
}

// Client asks the API. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	paths  []*url.URL // base URL and path, without the ID; several: which one is to be found out
	http   *http.Client
	clock  *clock.Clock
	tell   run.Tell
	budget *budget
	large  chan struct{} // held while a large body is in memory

	mu       sync.Mutex
	key      string
	changes  int  // of the key
	path     int  // in paths: the one that is known to answer with this key; -1: none is yet
	looked   bool // and was looked for in what is remembered
	salt     string
	proven   func(fingerprint string) bool
	timeout  time.Duration
	failures int  // calls in a row that were not answered
	skewed   bool // ClockSkewed was told
}

// New gives a client for the API at c.BaseURL, which sends the key with each
// call. Without a key every Get is refused. It tells run.RateLowered and
// run.ClockSkewed.
func New(c Config, key string, clk *clock.Clock, tell run.Tell) (*Client, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, errors.New("api.base_url is not an http or https URL with a host")
	}
	proxy, err := proxyURL(c.Proxy)
	if err != nil {
		return nil, err
	}
	base.RawQuery, base.Fragment = "", ""
	paths := []*url.URL{base.JoinPath(c.RunsPath)}
	if c.RunsPath == AutoPath {
		paths = []*url.URL{base.JoinPath(AppsPath), base.JoinPath(FlowsPath)}
	}
	return &Client{
		base:    base,
		paths:   paths,
		path:    -1,
		proven:  func(string) bool { return false },
		http:    newHTTP(proxy),
		clock:   clk,
		tell:    tell,
		budget:  newBudget(c.Rate, c.Burst),
		large:   make(chan struct{}, 1),
		key:     key,
		timeout: c.Timeout,
	}, nil
}

// proxyURL reads the proxy's URL. Its errors do not quote it: it may hold a
// password.
func proxyURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil, errors.New("api.proxy is not a URL such as http://proxy.example:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("api.proxy has the scheme %q: http, https and socks5 are known", u.Scheme)
}

// Configure takes the live settings: Rate, Burst and Timeout. The others stay as
// they were given to New.
func (c *Client) Configure(cfg Config) {
	c.budget.configure(time.Now(), cfg.Rate, cfg.Burst)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = cfg.Timeout
}

// SetKey takes the key for all calls from now on. A Retry-After that another key
// was told no longer holds.
func (c *Client) SetKey(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key != c.key {
		c.budget.release()
		c.changes++
		c.path, c.looked = -1, false // another account may have another path
	}
	c.key = key
}

// Host is the API's host, with its port where the URL names one.
func (c *Client) Host() string { return c.base.Host }

// Fingerprint names base URL, path and key together, without telling the key: 32
// hex digits of an HMAC-SHA256 under the salt. Until one of several paths has answered
// it is that of the base URL and no path.
func (c *Client) Fingerprint(salt string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.paths) == 1 {
		return fingerprint(salt, c.paths[0], c.key)
	}
	if c.path >= 0 {
		return fingerprint(salt, c.paths[c.path], c.key)
	}
	return fingerprint(salt, c.base, c.key)
}

func fingerprint(salt string, place *url.URL, key string) string {
	mac := hmac.New(sha256.New, []byte(salt))
	for _, part := range []string{place.String(), key} {
		// The length keeps two parts from reading like two others.
		mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Close lets go of idle connections. The client can be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) settings() (key string, timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key, c.timeout
}
