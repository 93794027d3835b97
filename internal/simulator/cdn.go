package simulator

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hopPrefix begins the path of a redirect's target: /hop/<redirects to go>, then
// the asset's path.
const hopPrefix = "/hop/"

// planCDN makes the CDN's answer. The caller holds s.mu.
func (s *Sim) planCDN(x *exchange) {
	now := s.cdnTime()
	x.rec.Server = CDN
	x.rec.Range, x.rec.IfRange = x.r.Header.Get("Range"), x.r.Header.Get("If-Range")
	x.delay = x.latency(s.cfg.latencyCDN)
	x.pace(s.cfg.rate)
	x.shares = s.link.rate > 0
	x.date(now)
	if s.answerCDN(x, now) {
		x.strike(x.asset.faults, spoils)
	}
	x.strike(s.cdnWide, spoils)
}

// answerCDN makes the right answer and reports whether it is about an asset whose
// token is good.
func (s *Sim) answerCDN(x *exchange, now time.Time) bool {
	if s.wall.refuses(s.cfg.wall, now) {
		x.refuse(http.StatusForbidden, "firewall")
		return false
	}
	path, hops := x.r.URL.EscapedPath(), -1
	if rest, ok := strings.CutPrefix(path, hopPrefix); ok {
		count, rest, _ := strings.Cut(rest, "/")
		if n, err := strconv.Atoi(count); err == nil {
			path, hops = "/"+rest, n
		}
	}
	path, prefixed := strings.CutPrefix(path, earlyPrefix)
	a := s.paths[path]
	if a == nil {
		x.refuse(http.StatusNotFound, "no such object")
		return false
	}
	x.asset, x.hop = a, hops >= 0
	x.rec.Run, x.rec.Asset = a.run.id, a.key
	if x.r.Method != http.MethodGet { // HEAD, too: the URL is signed for GET
		x.refuse(http.StatusMethodNotAllowed, "method")
		return false
	}
	query, early := a.takeEarly(prefixed, x.r.URL.RawQuery)
	expiry, refused := s.admit(a, query, now)
	if refused != "" {
		x.refuse(http.StatusForbidden, refused)
		return false
	}
	if s.cfg.cutAtExpiry {
		x.dies = expiry.Add(-s.skewCDN)
	}
	if hops > 0 {
		x.redirect(http.StatusFound, hopPrefix+strconv.Itoa(hops-1)+a.path+"?"+x.r.URL.RawQuery)
		return false
	}
	x.object, x.etag, x.contentType = a.now, a.now.etag, string(a.format)
	if early && !x.serveEarly() {
		return false
	}
	x.strike(a.faults, rules)
	x.strike(s.cdnWide, rules)
	x.serve()
	return true
}

// redirect answers with a redirect; an empty location: to nowhere.
func (x *exchange) redirect(status int, location string) {
	x.say(status, "text/html", page(strconv.Itoa(status)+" "+http.StatusText(status), ""))
	if location != "" {
		x.header.Set("Location", location)
	}
}

// pace limits the body to so many bytes a second, in steps of about 10 ms; 0:
// not at all.
func (x *exchange) pace(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		return
	}
	x.chunk = int(min(max(bytesPerSecond/100, 1), bufferSize))
	x.every = time.Duration(int64(x.chunk) * int64(time.Second) / bytesPerSecond)
}
