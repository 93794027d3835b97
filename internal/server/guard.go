package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/run"
)

// Tokens are the bearer tokens (RFC 6750) that server.listen asks for. Where one is
// set, nothing but health and the webhook is answered without.
type Tokens struct {
	All string // may everything; empty: nobody may but hand in, where Add is set
	Add string // may hand in; empty: it takes All
}

func (t Tokens) set() bool { return t.All != "" || t.Add != "" }

// allow reports whether a token opens what takes that access.
func (t Tokens) allow(token string, a access) bool {
	return same(token, t.All) || a == adders && same(token, t.Add)
}

// same compares in a time that tells nothing about either (CWE-208).
func same(token, want string) bool {
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(want))
	return want != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Requests of one remote address, and how many addresses are remembered.
const (
	askRate, askBurst     = 100, 300 // requests a second, and at once
	guessRate, guessBurst = 0.2, 10  // wrong tokens a second, and at once
	mostRemotes           = 4096
)

// remote is what one address may still ask.
type remote struct {
	asks, guesses *rate.Limiter
	seen          time.Time
}

// remotes bounds what each address may ask. Safe for concurrent use.
type remotes struct {
	mu  sync.Mutex
	all map[netip.Addr]*remote
}

func (r *remotes) of(address string) *remote {
	who := network(address)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if known := r.all[who]; known != nil {
		known.seen = now
		return known
	}
	if len(r.all) >= mostRemotes {
		r.forget(now)
	}
	if r.all == nil {
		r.all = map[netip.Addr]*remote{}
	}
	fresh := &remote{rate.NewLimiter(askRate, askBurst), rate.NewLimiter(guessRate, guessBurst), now}
	r.all[who] = fresh
	return fresh
}

// network is who asks: an address, or the /64 that one of IPv6 is out of, since whoever
// has one of these has them all. The zero address is one like others.
func network(address string) netip.Addr {
	ap, _ := netip.ParseAddrPort(address)
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		p, _ := a.Prefix(64) // every address of IPv6 has one
		return p.Addr()
	}
	return a
}

// forget makes room: who has been quiet for a minute goes, and where all are busy, any
// does.
func (r *remotes) forget(now time.Time) {
	for address, known := range r.all {
		if now.Sub(known.seen) > time.Minute || len(r.all) >= mostRemotes {
			delete(r.all, address)
		}
	}
}

// Handler answers at server.listen: to who is asked by its right name and shows the
// token that it takes, at a bounded rate.
func (s *Server) Handler() http.Handler {
	return s.outer(mux(s.routes(), func(r route) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if s.admit(w, req, r.access) {
				r.serve(w, req)
			}
		}
	}), true)
}

// socketHandler answers at the socket.
func (s *Server) socketHandler() http.Handler {
	return s.outer(mux(s.atSocket(), func(r route) http.HandlerFunc { return r.serve }), false)
}

// outer is what every request goes through: a panic is one request's alone, and what
// another web site has a browser do is refused.
func (s *Server) outer(next http.Handler, limited bool) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "refused: another web site asks for it")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(base http.ResponseWriter, r *http.Request) {
		w := newAnswering(base, r)
		defer s.recovered(w, r)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if limited && !s.remotes.of(r.RemoteAddr).asks.Allow() {
			tooMany(w, time.Second, "more than %d requests a second from one address", askRate)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) recovered(w *answering, r *http.Request) {
	fault := recover()
	if fault == nil {
		return
	}
	if fault == http.ErrAbortHandler { //nolint:errorlint // net/http's own, compared as it does
		panic(fault)
	}
	s.tell(run.Event{
		Kind: run.StageRecovered, Err: fmt.Errorf("answering %s %s: %v", r.Method, r.Pattern, fault), Note: string(debug.Stack()),
		Hint: "this is a bug: please report it with this line",
	})
	if w.begun { // the client must not take what came for the whole
		panic(http.ErrAbortHandler)
	}
	problem(w, http.StatusInternalServerError, "this is a bug of assetd: see its log")
}

// admit reports whether a request may have what takes that access; where not, it has
// been answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, a access) bool {
	switch {
	case a == everybody:
		return true
	case !s.Tokens.set():
		return s.byName(w, r)
	}
	token, shown := bearer(r)
	if shown && s.Tokens.allow(token, a) {
		return true
	}
	if guesses := s.remotes.of(r.RemoteAddr).guesses; !guesses.Allow() {
		tooMany(w, 5*time.Second, "too many wrong tokens from one address")
		return false
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="assetd"`)
	switch {
	case !shown:
		problem(w, http.StatusUnauthorized, "a token is needed: send Authorization: Bearer and what stands in server.token_file")
	case s.Tokens.allow(token, adders):
		problem(w, http.StatusForbidden, "this token may hand runs in (POST /api/v1/runs) and nothing else: use the one in server.token_file")
	default:
		problem(w, http.StatusUnauthorized, "this is not the token that stands in server.token_file")
	}
	return false
}

// bearer is the token that a request shows.
func bearer(r *http.Request) (token string, shown bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer") && token != ""
}

// byName reports whether a request names this machine by a name that is its own here:
// a web site whose name is made to lead here (DNS rebinding) does not. It is asked
// only where no token is: that, such a site does not have.
func (s *Server) byName(w http.ResponseWriter, r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	own, _, _ := net.SplitHostPort(s.Address)
	if host == "localhost" || host == strings.ToLower(own) {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return true
	}
	problem(w, http.StatusMisdirectedRequest, fmt.Sprintf("%.60q is not this server: ask for http://%s, or set server.token_file and send the token", r.Host, s.Address))
	return false
}

func tooMany(w http.ResponseWriter, after time.Duration, format string, args ...any) {
	w.Header().Set("Connection", "close") // what is held open counts, too
	w.Header().Set("Retry-After", fmt.Sprint(int(after/time.Second)))
	problem(w, http.StatusTooManyRequests, fmt.Sprintf(format, args...)+": slow down")
}
