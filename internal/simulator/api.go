package simulator

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// The two paths under which the API publishes the same call.
const (
	AppsPath  = "/v1/ai/apps/runs"
	FlowsPath = "/v1/ai/flows/runs"
)

const keyHeader = "X-Magnific-Api-Key"

// planAPI makes the API's answer. The caller holds s.mu.
func (s *Sim) planAPI(x *exchange) {
	now := s.apiTime()
	x.rec.Server = API
	x.delay = x.latency(s.cfg.latencyAPI)
	x.date(now)
	x.header.Set("Content-Type", "application/json")
	id := runID(x.r.URL)
	x.rec.Run = id
	r := s.answerAPI(x, id, now)
	if r != nil {
		x.strike(r.faults, spoils)
	}
	x.strike(s.apiWide, spoils)
}

// answerAPI makes the right answer. It returns the run that was asked for with a
// key that is accepted, if there is one.
func (s *Sim) answerAPI(x *exchange, id run.ID, now time.Time) *script {
	if wait := s.limit.take(s.cfg.limit, now); wait > 0 {
		x.refuse(http.StatusTooManyRequests, "rate limit")
		switch s.cfg.limit.After {
		case RetrySeconds:
			x.header.Set("Retry-After", seconds(wait))
		case RetryDate:
			x.header.Set("Retry-After", now.Add(wait+time.Second).UTC().Format(http.TimeFormat))
		}
		return nil
	}
	if s.cfg.pages && !strings.Contains(x.r.Header.Get("Accept"), "application/json") {
		x.say(http.StatusOK, "text/html", page("API", "This is the API's gateway."))
		x.rec.Refused = "accepts no JSON"
		return nil
	}
	if s.cfg.path != "" && !strings.HasPrefix(x.r.URL.Path, s.cfg.path+"/") {
		x.wrongPath(s.cfg.wrong)
		return nil
	}
	switch key := x.r.Header.Get(keyHeader); {
	case x.r.Method != http.MethodGet:
		x.refuse(http.StatusMethodNotAllowed, "method")
		return nil
	case key == "":
		x.refuse(http.StatusUnauthorized, "no key")
		return nil
	case key != s.key:
		x.refuse(http.StatusUnauthorized, "wrong key")
		return nil
	}
	r := s.runs[id]
	if r == nil {
		x.refuse(http.StatusNotFound, "no such run")
		return nil
	}
	p := r.poll(x.now)
	if p.Status == "" {
		x.refuse(http.StatusNotFound, "run not known yet")
		return r
	}
	x.say(http.StatusOK, "application/json", string(r.body(p)))
	return r
}

// wrongPath answers a path that is not there.
func (x *exchange) wrongPath(status int) {
	x.refuse(status, "wrong path")
	switch {
	case status == http.StatusOK:
		x.say(status, "text/html", page("Magnific", "Welcome."))
	case status/100 == 3:
		x.say(status, "text/html", page("Found", "Please log in."))
		x.header.Set("Location", "/login")
	}
}

// runID is the run that a path asks for; empty: none.
func runID(u *url.URL) run.ID {
	for _, base := range []string{AppsPath, FlowsPath} {
		if id, ok := strings.CutPrefix(u.Path, base+"/"); ok && !strings.Contains(id, "/") {
			return run.ID(id)
		}
	}
	return ""
}

// refuse answers with an error the way this server does; why is for the record.
func (x *exchange) refuse(status int, why string) {
	x.rec.Refused = why
	text := http.StatusText(status)
	if x.rec.Server == API {
		x.say(status, "application/json", string(encodeJSON(map[string]any{"message": text})))
		return
	}
	if status == http.StatusForbidden {
		x.say(status, "text/html", page("Access Denied", "You don't have permission to access this object on this server."))
		return
	}
	x.say(status, "text/html", page(strconv.Itoa(status)+" "+text, "The request could not be satisfied."))
}

// seconds rounds up: who comes back then is let in.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
