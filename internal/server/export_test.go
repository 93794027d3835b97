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
