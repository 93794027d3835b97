package simulator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Server is which of the two servers was asked.
type Server string

// The servers.
const (
	API Server = "api"
	CDN Server = "cdn"
)

// Request is one request on record. It holds neither token nor key.
type Request struct {
	Seq    int64 // from 1, in the order in which the requests came
	At     time.Time
	Took   time.Duration
	Server Server
	Method string
	Path   string  // without query
	Run    run.ID  // empty: none that is known
	Asset  run.Key // zero: at the API, or none that is known

	Range, IfRange string
	Status         int
	Sent           int64    // bytes of the body handed to the network, as far as it is Done or Stalled
	Done           bool     // the answer is over
	Complete       bool     // all of the body was sent
	Stalled        bool     // a fault let it stall
	Refused        string   // why it was refused, if it was
	Faults         []string // those that struck

	HasKey    bool   // it carried the API key's header
	Referer   string // without secrets
	UserAgent string
	Leak      string // what it carried that this server must not get; empty: nothing
}

// String is one line about the request, without secrets.
func (r Request) String() string {
	s := fmt.Sprintf("%d %s %s %s -> %d, %d bytes", r.Seq, r.Server, r.Method, r.Path, r.Status, r.Sent)
	if r.Range != "" {
		s += " of " + r.Range
	}
	for _, note := range append([]string{r.Refused, r.Leak}, r.Faults...) {
		if note != "" {
			s += " (" + note + ")"
		}
	}
	if r.Done && !r.Complete {
		s += " incomplete"
	}
	return s
}

// record is the requests so far, the newest limit of them.
type record struct {
	limit    int
	last     int64      // Seq of the newest
	requests []*Request // a ring once it is full
	leaks    []Request
	running  int           // requests that are not done
	news     chan struct{} // closed, and made anew, when something happens
}

func (l *record) happened() {
	close(l.news)
	l.news = make(chan struct{})
}

// begin makes the answer and puts the request on record.
func (s *Sim) begin(x *exchange, plan func(*exchange)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plan(x)
	rec, h := x.rec, x.r.Header
	s.log.last++
	s.log.running++
	rec.Seq, rec.Status = s.log.last, x.status
	rec.HasKey = h.Get(keyHeader) != ""
	rec.Referer = signedurl.Redact(h.Get("Referer"))
	rec.UserAgent = h.Get("User-Agent")
	rec.Leak = s.leak(x)
	if rec.Leak != "" && len(s.log.leaks) < s.log.limit {
		s.log.leaks = append(s.log.leaks, *rec)
	}
	if len(s.log.requests) < s.log.limit {
		s.log.requests = append(s.log.requests, rec)
	} else {
		s.log.requests[int((rec.Seq-1)%int64(s.log.limit))] = rec
	}
	s.log.happened()
}

// leak names what of a request is a secret in the wrong place.
func (s *Sim) leak(x *exchange) string {
	var found []string
	for name, values := range x.r.Header {
		for _, v := range values {
			switch {
			case name == "Cookie" && x.asset != nil && v == gateCookie+"="+x.gate(): // its own
			case name == "Referer" || name == "Cookie" || name == "Authorization":
				found = append(found, name)
			case s.key != "" && strings.Contains(v, s.key) && (x.rec.Server == CDN || name != keyHeader):
				found = append(found, "the key in "+name)
			case strings.Contains(v, "hmac"):
				found = append(found, "a token in "+name)
			}
		}
	}
	if s.key != "" && strings.Contains(x.r.URL.String(), s.key) {
		found = append(found, "the key in the URL")
	}
	if x.rec.Server == API && strings.Contains(x.r.URL.RawQuery, "token") {
		found = append(found, "a token in the URL")
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

// finish notes how the answer ended.
func (s *Sim) finish(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.rec.Took, x.rec.Done = time.Since(x.now), true
	x.rec.Sent, x.rec.Complete = x.sent, x.complete
	s.log.running--
	if x.genuine && x.sent > 0 {
		x.object.given.add(x.off, x.off+x.sent)
	}
	s.log.happened()
}

func (s *Sim) stalled(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.rec.Stalled, x.rec.Sent = true, x.sent
	s.log.happened()
}

// Requests are the requests on record for which all of the conditions hold, in
// the order in which they came. The oldest are gone beyond the limit.
func (s *Sim) Requests(conditions ...func(Request) bool) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Request
	for i := range s.log.requests {
		at := i
		if s.log.last > int64(s.log.limit) {
			at = int((s.log.last + int64(i)) % int64(s.log.limit))
		}
		r := *s.log.requests[at]
		if !slices.ContainsFunc(conditions, func(holds func(Request) bool) bool { return !holds(r) }) {
			r.Faults = slices.Clone(r.Faults)
			found = append(found, r)
		}
	}
	return found
}

// Polls are the polls of a run.
func (s *Sim) Polls(id run.ID) []Request {
	return s.Requests(func(r Request) bool { return r.Server == API && r.Run == id })
}

// Downloads are the requests for an asset.
func (s *Sim) Downloads(key run.Key) []Request {
	return s.Requests(func(r Request) bool { return r.Asset == key })
}

// Leaks are the requests that carried a secret to a server that must not get it,
// the first ones up to the record's limit. A test of assetd wants none.
func (s *Sim) Leaks() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.leaks)
}

// Await waits until cond holds; it is asked again whenever a request came, ended
// or stalled. Its error is that of ctx.
func (s *Sim) Await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		news := s.log.news
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Idle waits until no answer is under way. A client can have the last byte of an
// answer before the record has its end: ask for this first, and then what was
// served. Its error is that of ctx.
func (s *Sim) Idle(ctx context.Context) error {
	return s.Await(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.log.running == 0
	})
}

// spans is a set of bytes: [from, to), by from.
type spans map[int64]int64

func (s *spans) add(from, to int64) {
	if *s == nil {
		*s = spans{}
	}
	for f, t := range *s {
		if f <= to && from <= t {
			from, to = min(f, from), max(t, to)
			delete(*s, f)
		}
	}
	(*s)[from] = to
}

func (s spans) sum() int64 {
	var n int64
	for from, to := range maps.All(s) {
		n += to - from
	}
	return n
}
