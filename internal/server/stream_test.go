package server_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/server"
)

// pipes is a listener whose connections are in memory, so that a bubble's clock runs on.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// follow asks for the events and gives the answer, whose body is for the caller to read.
func (p *pipes) follow(t *testing.T) *http.Response {
	t.Helper()
	here, there := net.Pipe()
	p.conns <- there
	t.Cleanup(func() { here.Close() })
	if _, err := here.Write([]byte("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(here), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// inMemory serves in a bubble until f has ended, and the server with it.
func inMemory(t *testing.T, f func(t *testing.T, p *pipes, events *server.Events, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		events := server.NewEvents()
		s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Events = events })
		p := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.ServeOn(ctx, p) }()
		f(t, p, events, stop)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAStreamOutlivesTheLimitsOfARequest(t *testing.T) {
	inMemory(t, func(t *testing.T, p *pipes, events *server.Events, stop context.CancelFunc) {
		resp := p.follow(t)
		var mu sync.Mutex
		beats, last := 0, ""
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				mu.Lock()
				if strings.HasPrefix(lines.Text(), ":") {
					beats++
				}
				if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					last = text
				}
				mu.Unlock()
			}
		}()
		time.Sleep(10*time.Minute + time.Second)
		events.Tell(event(7))
		synctest.Wait()
		mu.Lock()
		if beats != 40 || !strings.Contains(last, `"run_id":"run00007"`) {
			t.Errorf("after ten minutes: %d heartbeats, then %q", beats, last)
		}
		mu.Unlock()
		begun := time.Now()
		stop()
		<-ended
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the stream ended %v after the stop", took)
		}
	})
}

func TestAClientThatReadsNothingIsLetGo(t *testing.T) {
	inMemory(t, func(t *testing.T, p *pipes, events *server.Events, _ context.CancelFunc) {
		resp := p.follow(t)
		for n := range 100 {
			events.Tell(event(n))
		}
		time.Sleep(11 * time.Second) // it would be sent for as long
		lines := bufio.NewScanner(resp.Body)
		count := 0
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: ") {
				count++
			}
		}
		if count >= 100 {
			t.Errorf("all %d events came after all", count)
		}
	})
}
