// Package server answers what people and programs ask of a running daemon, over
// its unix socket: runs, assets, health.
//
// It guarantees that nothing it answers holds a signed URL or the API key, and
// that no request, however made, holds up a stage: it reads the queue, asks the
// daemon how it is and what it is at, and passes on what people want of a run. Who may reach the socket is
// decided by its file mode and its directory.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Runs is what the server reads of the queue.
type Runs interface {
	List(ctx context.Context, state run.State, after run.ID, limit int) ([]run.Run, error)
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Assets(ctx context.Context, id run.ID) ([]run.Asset, error)
}

// Checks tells how the daemon is.
type Checks interface {
	Alive() Health // its loops turn
	Ready() Health // and it can do its work
}

// Now tells what no queue knows: it is in the daemon's memory only. Its texts name
// the cause and the mend.
type Now interface {
	InFlight() []Transfer         // transfers that run
	Held(r run.Run) []string      // what on our side keeps an open run
	HeldAsset(key run.Key) string // and an asset, empty where nothing does
}

// Risks tells of which assets that are not stored yet people were told that they may
// not be there before their URLs die.
type Risks interface {
	AtRisk() []run.Key
}

// Deps are what a server answers from.
type Deps struct {
	Path   string // of the socket
	Runs   Runs
	Checks Checks
	Now    Now
	Risks  Risks  // nil: nobody knows of any
	Copies Copier // nil: no copy of the queue is given
	// Metrics answers /metrics; nil: there is no such page.
	Metrics http.Handler
	Care    Care
	Stock   Stock
}

// Server serves the socket. Run may be called once.
type Server struct{ Deps }

// New makes a server; it opens nothing yet.
func New(d Deps) *Server { return &Server{d} }

// Limits of a request: the socket is local, a stuck client must still end.
const (
	headerTime  = 5 * time.Second
	requestTime = 30 * time.Second
	headerBytes = 16 << 10
	pageSize    = 1000
)

// Listen opens the socket with mode 0660, whatever the umask. A socket left by a
// killed daemon is replaced: the caller holds the queue's lock, so it is nobody's.
func (s *Server) Listen() (net.Listener, error) {
	if info, err := os.Lstat(s.Path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(s.Path); err != nil {
			return nil, fmt.Errorf("old socket %s: %w", s.Path, err)
		}
	}
	l, err := net.Listen("unix", s.Path)
	if err != nil {
		return nil, socketError(s.Path, err)
	}
	if err := os.Chmod(s.Path, 0o660); err != nil { //nolint:gosec // the group may ask
		l.Close()
		return nil, fmt.Errorf("socket %s: %w", s.Path, err)
	}
	return l, nil
}

// Run serves l until ctx ends, then gives running requests a second.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: requestTime,
		WriteTimeout: requestTime, MaxHeaderBytes: headerBytes,
	}
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(late) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("socket %s: %w", s.Path, err)
	}
	return nil
}

// Handler is the server's HTTP handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, s.Checks.Alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { health(w, s.Checks.Ready()) })
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	if s.Copies != nil {
		mux.HandleFunc("GET /api/v1/backup", s.backup)
	}
	mux.HandleFunc("GET /api/v1/runs", s.list)
	mux.HandleFunc("GET /api/v1/runs/{id}", s.show)
	s.careRoutes(mux)
	return mux
}

func health(w http.ResponseWriter, h Health) {
	status := http.StatusOK
	if !h.OK {
		status = http.StatusServiceUnavailable
	}
	if h.Reasons == nil {
		h.Reasons = []string{}
	}
	reply(w, status, h)
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	id := run.ID(r.PathValue("id"))
	record, err := s.Runs.Get(r.Context(), id)
	if errors.Is(err, run.ErrUnknown) {
		problem(w, http.StatusNotFound, fmt.Sprintf("run %q is not in the queue", id))
		return
	}
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	assets, err := s.Runs.Assets(r.Context(), id)
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, http.StatusOK, s.view(record, assets))
}

func (s *Server) view(r run.Run, assets []run.Asset) Run {
	v := ViewRun(r, assets)
	v.live(r, s.Now)
	v.endanger(s.risks()[r.ID])
	return v
}

// problem answers with problem details (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	reply(w, status, map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

func reply(w http.ResponseWriter, status int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client has gone: nobody is left to tell
}
