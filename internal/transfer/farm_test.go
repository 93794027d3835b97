package transfer

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// farm is a server on pipes that gives so much a second: to each connection, and to
// all together. It answers ranges as a good one does, but for what odd makes of it.
type farm struct {
	t              *testing.T
	perConn, total float64       // bytes a second; 0: no limit
	delay          time.Duration // before an answer

	// odd may change the answer to the nth request, from 0 on.
	odd func(n int, from int64, a *reply)

	mu sync.Mutex
	farmTally
	etag    string
	open    int
	next    time.Time // when the line is free
	sending int       // answers under way
}

// farmTally is what a farm has done.
type farmTally struct {
	body     []byte   // as it is now
	requests []string // their Range
	served   int64    // bytes
	most     int      // connections at a time
}

func (s *farm) tally() farmTally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.farmTally
	t.requests = slices.Clone(t.requests)
	return t
}

// reply is how a request is answered.
type reply struct {
	status   int // 0: as asked
	etag     string
	body     []byte // the whole object
	cutAfter int64  // bytes of the body, then the connection ends; -1: never
	stall    bool   // instead of the cut nothing comes any more
	short    int64  // bytes of the range that are sent, as if no more had been asked for; 0: all
	whole    bool   // Range is not looked at
	blind    bool   // If-Range is not
}

func newFarm(t *testing.T, c *Client, size int) *farm {
	s := &farm{t: t, perConn: 1e6, delay: 40 * time.Millisecond, etag: `"v1"`, farmTally: farmTally{body: picture(size, 1)}}
	onPipes(t, c, s.serve)
	pipe := c.connect
	c.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := pipe(ctx, network, addr)
		s.count(1)
		return &counted{Conn: conn, close: sync.OnceFunc(func() { s.count(-1) })}, err
	}
	return s
}

// counted is a connection that counts as long as our side has it open.
type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

func (s *farm) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.most = max(s.most, s.open)
}

func (s *farm) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil || !s.answer(conn, req) {
			return
		}
	}
}

func (s *farm) answer(conn net.Conn, req *http.Request) (again bool) {
	time.Sleep(s.delay)
	asked := req.Header.Get("Range")
	var from, to int64
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, asked)
	a := &reply{etag: s.etag, body: s.body, cutAfter: -1}
	s.mu.Unlock()
	first, last, ranged := strings.Cut(strings.TrimPrefix(asked, "bytes="), "-")
	_, _ = fmt.Sscan(first, &from)
	if s.odd != nil {
		s.odd(n, from, a)
	}
	if to = int64(len(a.body)); last != "" {
		_, _ = fmt.Sscan(last, &to)
		to = min(to+1, int64(len(a.body)))
	}
	if a.status != 0 {
		_, err := fmt.Fprintf(conn, "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", a.status)
		return err == nil
	}
	if tag := req.Header.Get("If-Range"); !ranged || a.whole || tag != "" && tag != a.etag && !a.blind {
		from, to = 0, int64(len(a.body))
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", header(a), to)
	} else {
		if a.short > 0 {
			to = min(to, from+a.short)
		}
		fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\n%sContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n", header(a), to-from, from, to-1, len(a.body))
	}
	return s.send(conn, a, a.body[from:to])
}

func header(a *reply) string {
	if a.etag == "" {
		return ""
	}
	return "ETag: " + a.etag + "\r\n"
}

func (s *farm) send(conn net.Conn, a *reply, b []byte) bool {
	s.mu.Lock()
	s.sending++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.sending--
		s.mu.Unlock()
	}()
	for sent := int64(0); len(b) > 0; {
		if a.cutAfter >= 0 && sent >= a.cutAfter {
			if a.stall {
				_, _ = conn.Read(make([]byte, 1)) // until the other side goes
			}
			return false
		}
		n := min(16<<10, len(b))
		s.wait(n)
		if _, err := conn.Write(b[:n]); err != nil {
			return false
		}
		b, sent = b[n:], sent+int64(n)
		s.mu.Lock()
		s.served += int64(n)
		s.mu.Unlock()
	}
	return true
}

// wait waits until so many bytes may be sent.
func (s *farm) wait(n int) {
	until := time.Now()
	if s.perConn > 0 {
		until = until.Add(time.Duration(float64(n) / s.perConn * float64(time.Second)))
	}
	if s.total > 0 {
		s.mu.Lock()
		if s.next.Before(time.Now()) {
			s.next = time.Now()
		}
		s.next = s.next.Add(time.Duration(float64(n) / s.total * float64(time.Second)))
		if s.next.After(until) {
			until = s.next
		}
		s.mu.Unlock()
	}
	time.Sleep(time.Until(until))
}

// asked is how many requests there were.
func (s *farm) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// running is how many answers are being sent.
func (s *farm) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sending
}
