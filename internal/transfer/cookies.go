package transfer

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
)

// maxCookies bounds the cookies of one fetch, in bytes; what comes after is dropped.
// Most servers take no more in a request.
const maxCookies = 8 << 10

// cookies are those of one fetch: some servers set one by a redirect to the same URL
// and serve only who brings it back. Each goes to the very host and port that set it,
// whatever its Domain says, so that no list of public suffixes is needed. The zero
// value is empty. It is safe for concurrent use.
type cookies struct {
	mu   sync.Mutex
	jars map[string]*cookiejar.Jar // by host, with its port where one was written
	held int                       // bytes
}

// keep takes what the answer sets.
func (c *cookies) keep(a *answer) {
	set := a.resp.Cookies()
	if len(set) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := set[:0]
	for _, cookie := range set {
		if c.held += len(cookie.Name) + len(cookie.Value) + len(cookie.Path); c.held > maxCookies {
			break
		}
		cookie.Domain = "" // its own host alone
		kept = append(kept, cookie)
	}
	jar := c.jars[a.at.host]
	if jar == nil {
		jar, _ = cookiejar.New(nil) // it never fails
		if c.jars == nil {
			c.jars = map[string]*cookiejar.Jar{}
		}
		c.jars[a.at.host] = jar
	}
	jar.SetCookies(a.at.cookieURL(), kept)
}

// header is the Cookie field of a request; empty: none.
func (c *cookies) header(at target) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	jar := c.jars[at.host]
	if jar == nil {
		return ""
	}
	r := http.Request{Header: http.Header{}}
	for _, cookie := range jar.Cookies(at.cookieURL()) {
		r.AddCookie(cookie)
	}
	return r.Header.Get("Cookie")
}

// cookieURL is as much of the URL as cookies are chosen by.
func (t target) cookieURL() *url.URL {
	path, err := url.PathUnescape(t.path)
	if err != nil {
		path = t.path
	}
	return &url.URL{Scheme: t.scheme, Host: t.host, Path: path}
}
