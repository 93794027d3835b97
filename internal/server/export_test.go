package server

import (
	"context"
	"net"
)

// Route is a route as the tests see it.
type Route struct{ Method, Path, Access string }

// Routes are all routes of a server.
func (s *Server) Routes() (all []Route) {
	for _, r := range s.routes() {
		all = append(all, Route{r.method, r.path, []string{"everybody", "adders", "owners"}[r.access]})
	}
	return all
}

// ServeOn serves server.listen on a listener.
func (s *Server) ServeOn(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, s.Handler())
}

// Bound has the server accept that many connections at most.
func (s *Server) Bound(connections int) { s.conns = newConns(connections) }

// Counted is how many connections are counted, and for how many peers.
func (s *Server) Counted() (all, peers int) {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return s.conns.all, len(s.conns.peers)
}
