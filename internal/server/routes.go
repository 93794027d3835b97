package server

import (
	"net/http"
	"slices"
	"strings"
)

// access is what a request to server.listen has to show where a token is set. At the
// socket nothing is asked for: its file mode decides who may come.
type access int

const (
	everybody access = iota // nothing; the webhook has a signature of its own
	adders                  // the token, or the one that may hand in and nothing else
	owners                  // the token
)

// route is one thing that can be asked for.
type route struct {
	method, path string
	access       access
	serve        http.HandlerFunc
}

// routes are all there are. The OpenAPI document says what each takes and answers.
func (s *Server) routes() []route {
	all := []route{
		{"GET", "/healthz", everybody, func(w http.ResponseWriter, _ *http.Request) { health(w, s.Checks.Alive()) }},
		{"GET", "/readyz", everybody, func(w http.ResponseWriter, _ *http.Request) { health(w, s.Checks.Ready()) }},
		{"GET", "/api/v1/runs", owners, s.list},
		{"POST", "/api/v1/runs", adders, s.handIn},
		{"GET", "/api/v1/runs/{id}", owners, s.show},
		{"GET", "/api/v1/runs/{id}/assets", owners, s.assets},
		{"GET", "/api/v1/status", owners, s.status},
		{"GET", "/api/v1/events", owners, s.follow},
		{"GET", "/api/v1/openapi.json", owners, openAPI},
	}
	if s.Copies != nil {
		all = append(all, route{"GET", "/api/v1/backup", owners, s.backup})
	}
	if s.Care != nil {
		all = append(all, s.careRoutes()...)
	}
	if s.Metrics != nil {
		all = append(all, route{"GET", "/metrics", owners, s.Metrics.ServeHTTP})
	}
	if s.webhook != nil {
		all = append(all, route{"POST", webhookPath, everybody, s.webhook.receive})
	}
	return all
}

// atSocket are the routes of the socket: the webhooks' senders come from elsewhere.
func (s *Server) atSocket() []route {
	return slices.DeleteFunc(s.routes(), func(r route) bool { return r.path == webhookPath })
}

// mux has the routes, each behind what it takes to use it.
func mux(routes []route, guard func(route) http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	methods := map[string]bool{}
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, guard(r))
		methods[r.method] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		var allowed []string
		for method := range methods {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			problem(w, http.StatusNotFound, "there is no such page; see /api/v1/openapi.json")
			return
		}
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem(w, http.StatusMethodNotAllowed, r.Method+" is not for this page; "+strings.Join(allowed, ", ")+" is")
	})
}
