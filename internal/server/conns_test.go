package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/server"
)

// most is the bound of connections in these tests: 16 at an address, 32 in all.
const most = 32

// bounded is a server with few connections, at an address and at a socket.
func bounded(t *testing.T) (s *server.Server, dial map[string]func() (net.Conn, error)) {
	t.Helper()
	dir := t.TempDir()
	s = guarded(t, server.Tokens{}, func(d *server.Deps) { d.Path, d.Address = filepath.Join(dir, "s"), "" })
	s.Bound(most)
	socket, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.Run(t.Context(), socket) }()
	go func() { ended <- s.ServeOn(t.Context(), l) }()
	t.Cleanup(func() { <-ended; <-ended })
	return s, map[string]func() (net.Conn, error){
		"address": func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) },
		"socket":  func() (net.Conn, error) { return net.Dial("unix", s.Path) },
	}
}

// get asks for a page on a connection and returns the status line, its body read, and
// whether the server closes the connection.
func get(t *testing.T, c net.Conn, path string) (status string, closes bool) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error(), true
	}
	if !strings.HasSuffix(path, "/events") { // else it goes on until the connection is closed
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return r.Status, r.Close
}

func open1(t *testing.T, dial func() (net.Conn, error)) net.Conn {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Connections that nothing is asked on, or that were used and are kept, give way to those
// that are used; they are counted until they are closed.
func TestCase_G1_IdleConnectionsAreBoundedAndGiveWay(t *testing.T) {
	for _, where := range []string{"address", "socket"} {
		for name, used := range map[string]bool{"never used": false, "kept after a request": true} {
			t.Run(where+", "+name, func(t *testing.T) {
				s, dial := bounded(t)
				var held []net.Conn
				for range 5 * most {
					c := open1(t, dial[where])
					if used {
						if status, _ := get(t, c, "/healthz"); status != "200 OK" {
							t.Fatalf("connection %d: %s", len(held), status)
						}
					}
					held = append(held, c)
				}
				for _, path := range []string{"/healthz", "/readyz", "/api/v1/runs"} {
					if status, _ := get(t, open1(t, dial[where]), path); status != "200 OK" {
						t.Errorf("%s: %s", path, status)
					}
				}
				if all, peers := s.Counted(); all > most/2 || peers != 1 {
					t.Errorf("%d connections of %d peers", all, peers)
				}
				_ = held[0].SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := held[0].Read(make([]byte, 1)); err != io.EOF && err == nil { //nolint:errorlint // or reset
					t.Errorf("the oldest was not closed: %v", err)
				}
				for _, c := range held {
					c.Close()
				}
				for range 1000 {
					if all, _ := s.Counted(); all <= 3 {
						return
					}
					<-time.After(5 * time.Millisecond)
				}
				all, _ := s.Counted()
				t.Errorf("%d connections are counted after all were closed", all)
			})
		}
	}
}

// A connection whose request is under way, like a stream of events, gives way to nobody: the
// next one of the same address is refused, and the socket still has places.
func TestCase_G1_StreamsAreBoundedAndTheNextIsAnswered429(t *testing.T) {
	_, dial := bounded(t)
	var streams []net.Conn
	for range most / 2 {
		c := open1(t, dial["address"])
		if status, _ := get(t, c, "/api/v1/events"); status != "200 OK" {
			t.Fatalf("stream %d: %s", len(streams), status)
		}
		streams = append(streams, c)
	}
	for range 3 {
		c := open1(t, dial["address"])
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != http.StatusTooManyRequests || !r.Close || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s %v", r.Status, r.Header)
		}
		r.Body.Close()
	}
	if status, _ := get(t, open1(t, dial["socket"]), "/healthz"); status != "200 OK" {
		t.Errorf("health at the socket: %s", status)
	}
	streams[0].Close()
	for range 1000 {
		status, _ := get(t, open1(t, dial["address"]), "/healthz")
		if status == "200 OK" {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Error("the place of a closed stream is not free")
}

// An answer that says "slow down" ends the connection, too.
func TestCase_G1_429ClosesTheConnection(t *testing.T) {
	_, dial := bounded(t)
	c := open1(t, dial["address"])
	for range 1000 {
		status, closes := get(t, c, "/healthz")
		if status == "200 OK" && !closes {
			continue
		}
		if status != "429 Too Many Requests" || !closes {
			t.Errorf("%s, closes %v", status, closes)
		}
		return
	}
	t.Error("1000 requests at once are answered")
}

// However many descriptors there are, the stages have most of them.
func TestCase_G1_ConnectionsAreFarBelowTheLimitOfDescriptors(t *testing.T) {
	for files, want := range map[uint64]int{0: 16, 64: 16, 256: 32, 1024: 128, 4096: 512, 65536: 4096, 1 << 20: 4096, 1 << 63: 4096} {
		if got := server.MostConnections(files); got != want {
			t.Errorf("%d of %d", got, files)
		}
	}
}
