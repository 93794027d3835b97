package simulator

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// exchange is one request and the answer in the making: first the right one, then
// what the faults make of it.
type exchange struct {
	sim   *Sim
	r     *http.Request
	rec   *Request
	asset *asset // nil at the API
	now   time.Time
	dies  time.Time // by this machine's clock, when the transfer is cut; zero: never
	hop   bool      // reached through a redirect of ours

	// The rules by which the right answer is made.
	object          *version
	ranges, ifRange bool
	etag            string // empty: none
	contentType     string

	// The answer.
	status   int
	header   http.Header
	body     content
	off, n   int64 // the part of body to send
	genuine  bool  // body is the asset's
	replaced bool  // a fault put another answer in its place
	wire     wire
	delay    time.Duration
	chunk    int // bytes sent at once, one chunk every so often; 0: all at once
	every    time.Duration
	shares   bool // the link, with all other transfers

	// What became of it; the handler's own until finish.
	sent     int64
	complete bool
}

// wire is how the answer is put on the wire. Its zero value is the right way.
type wire struct {
	framing framing
	excess  int64    // Content-Length less the true one
	twice   bool     // Content-Length is a list of two equal values
	lines   []string // header lines as they are, besides the others
	ends    ending
	at      int64 // after so many bytes of the body it ends so
}

// framing is how the end of a body is told.
type framing int

const (
	sized   framing = iota // Content-Length
	chunked                // Transfer-Encoding
	closing                // the connection's end
)

// ending is how an answer ends before its time.
type ending int

const (
	whole   ending = iota
	cut            // the connection is closed
	reset          // and not gracefully
	stalled        // nothing more comes
	garbled        // a chunk that is none
	silent         // not even headers come
)

// odd reports whether net/http would not send it so.
func (w wire) odd() bool {
	return w.framing == closing || w.excess != 0 || w.twice || len(w.lines) > 0 || w.ends != whole
}

func newExchange(s *Sim, r *http.Request) *exchange {
	now := time.Now()
	return &exchange{
		sim: s, r: r, now: now, status: http.StatusOK, header: http.Header{}, ranges: true, ifRange: true,
		rec: &Request{At: now.UTC(), Method: r.Method, Path: r.URL.EscapedPath()},
	}
}

// date puts the server's clock into the answer.
func (x *exchange) date(now time.Time) {
	x.header.Set("Date", now.UTC().Format(http.TimeFormat))
}

// say makes body the whole answer.
func (x *exchange) say(status int, contentType, body string) {
	if status == http.StatusNoContent || status == http.StatusNotModified {
		body = "" // they have none
	}
	x.status = status
	x.body = textContent(body)
	x.off, x.n, x.genuine = 0, x.body.size, false
	x.header.Set("Content-Type", contentType)
	for _, name := range []string{"Content-Range", "ETag", "Accept-Ranges"} {
		x.header.Del(name)
	}
}

// serve answers with the object or the part of it that was asked for (RFC 9110,
// section 14), by the rules as they stand.
func (x *exchange) serve() {
	x.body, x.genuine = x.object.content, true
	x.off, x.n = 0, x.body.size
	x.header.Set("Content-Type", x.contentType)
	if x.etag != "" {
		x.header.Set("ETag", x.etag)
	}
	if !x.ranges {
		return
	}
	x.header.Set("Accept-Ranges", "bytes")
	if ifRange := x.r.Header.Get("If-Range"); ifRange != "" && x.ifRange {
		// Section 13.1.5: a validator that is weak, or a date, matches nothing here.
		if strings.HasPrefix(ifRange, "W/") || ifRange != x.etag {
			return
		}
	}
	off, n, ok := parseRange(x.r.Header.Get("Range"), x.body.size)
	switch {
	case !ok:
	case n <= 0:
		x.say(http.StatusRequestedRangeNotSatisfiable, "text/html", page("416 Requested Range Not Satisfiable", ""))
		x.header.Set("Content-Range", "bytes */"+strconv.FormatInt(x.object.size, 10))
	default:
		x.off, x.n, x.status = off, n, http.StatusPartialContent
		x.contentRange(off, n, x.body.size)
	}
}

func (x *exchange) contentRange(off, n, total int64) {
	x.header.Set("Content-Range", "bytes "+strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+n-1, 10)+"/"+strconv.FormatInt(total, 10))
}

// ranged reports whether a part of the object is about to be sent.
func (x *exchange) ranged() bool {
	return x.genuine && x.status == http.StatusPartialContent
}

// parseRange reads a single byte range. False: there is none to heed. n <= 0:
// there is none of these bytes.
func parseRange(value string, size int64) (off, n int64, ok bool) {
	spec, found := strings.CutPrefix(value, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !found || !dash || strings.Contains(spec, ",") {
		return 0, 0, false
	}
	if from == "" {
		last, err := strconv.ParseInt(to, 10, 64)
		if err != nil || last < 0 {
			return 0, 0, false
		}
		last = min(last, size)
		return size - last, last, true
	}
	off, err := strconv.ParseInt(from, 10, 64)
	if err != nil || off < 0 {
		return 0, 0, false
	}
	end := size - 1
	if to != "" {
		last, err := strconv.ParseInt(to, 10, 64)
		if err != nil || last < off {
			return 0, 0, false
		}
		end = min(end, last)
	}
	return off, end - off + 1, true
}

// page is an HTML page such as gateways and CDNs give.
func page(title, text string) string {
	return "<!DOCTYPE html>\n<html><head><title>" + title + "</title></head>\n<body><h1>" + title + "</h1>\n<p>" + text + "</p>\n</body></html>\n"
}

// connection tells the first request on a connection from the others.
type connection struct{ used bool }

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// latency is how long the answer is held back: a round trip, and another for the
// connection if it is new. Requests on one connection come one after another.
func (x *exchange) latency(trip time.Duration) time.Duration {
	if c, ok := x.r.Context().Value(connectionKey{}).(*connection); ok && !c.used {
		c.used = true
		return 2 * trip
	}
	return trip
}
