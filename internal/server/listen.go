package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/run"
)

// Limits of a request: a stuck client must end. A stream of events goes on for longer.
const (
	headerTime  = 5 * time.Second
	requestTime = 30 * time.Second
	idleTime    = 2 * time.Minute
	headerBytes = 16 << 10
	pageSize    = 1000
)

// listenAgain is how long it takes from one try to open server.listen to the next, and
// listenRepeat how often it is told that none does.
const (
	listenAgain  = 10 * time.Second
	listenRepeat = 10 * time.Minute

	listenHint = "set server.listen to an address that is free, or to nothing for the socket alone; it is tried again, and downloads go on"
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

// Run serves the socket, and Address where there is one, until ctx ends; then it gives
// running requests a second. An Address that cannot be opened is told and tried again:
// downloads do not wait for it.
func (s *Server) Run(ctx context.Context, socket net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.serve(ctx, socket, s.socketHandler()); err != nil {
			return fmt.Errorf("socket %s: %w", s.Path, err)
		}
		return nil
	})
	if s.Address != "" {
		g.Go(func() error { return s.serveAddress(ctx) })
	}
	return g.Wait()
}

// serveAddress opens server.listen, again and again until it can be.
func (s *Server) serveAddress(ctx context.Context) error {
	again := time.NewTicker(listenAgain)
	defer again.Stop()
	var last time.Time // that it was told
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Address)
		if err == nil {
			if !last.IsZero() {
				s.tell(run.Event{Kind: run.ListenBack, Host: s.Address})
			}
			last = time.Time{}
			if err = s.serve(ctx, l, s.Handler()); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(last) > listenRepeat {
			last = time.Now()
			s.tell(run.Event{Kind: run.ListenTrouble, Host: s.Address, Err: err, Hint: listenHint})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime,
		WriteTimeout: requestTime, IdleTimeout: idleTime, MaxHeaderBytes: headerBytes,
		ErrorLog: silent(), ConnState: s.conns.state,
	}
	srv.RegisterOnShutdown(sync.OnceFunc(s.Events.close))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(late) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(bounded{l, s.conns})
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
