package server

import (
	"container/list"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of connections. Of all that the process may have open, the server takes an eighth,
// so that clients, however many, never take a descriptor that a stage needs. A quarter of
// them is the socket's alone, and half are what one address, or one user at the socket, may
// have. As many as an event stream for each of a thousand viewers fit into the limit that
// the unit sets.
const (
	leastConns = 16
	mostConns  = 4096
)

// MostConnections is how many connections the server accepts where the process may have so
// many descriptors (RLIMIT_NOFILE, getrlimit(2)).
func MostConnections(files uint64) int {
	return int(min(max(files/8, leastConns), mostConns)) //nolint:gosec // it is at most mostConns
}

// OpenFiles is how many descriptors the process may have.
func OpenFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0 // the least of everything
	}
	return limit.Cur
}

// peer is who is at the other end: an address (see network), or a user of this machine.
type peer struct {
	socket bool
	addr   netip.Addr
	uid    uint32
}

// conns bounds the connections that are open, of all listeners together. Where a bound is
// reached, the connection that has been idle for longest gives way to a new one; where none
// is idle, the new one is answered 429 and closed. Safe for concurrent use.
type conns struct {
	most int

	mu    sync.Mutex
	all   int
	tcp   int
	peers map[peer]int
	idle  *list.List // of *conn, the one that is idle for longest first
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	of   *conns
	from peer
	idle *list.Element // nil: a request is under way, or it is closed
	gone bool
}

func newConns(most int) *conns {
	return &conns{most: most, peers: map[peer]int{}, idle: list.New()}
}

// bounded is a listener whose connections are counted.
type bounded struct {
	net.Listener
	conns *conns
}

// Accept waits for a connection that may be served.
func (b bounded) Accept() (net.Conn, error) {
	for {
		raw, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := b.conns.admit(raw); c != nil {
			return c, nil
		}
		refuse(raw)
	}
}

// refuse answers 429 to a connection that is not served.
func refuse(c net.Conn) {
	const body = `{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"too many connections are open: close some, or try again"}` + "\n"
	_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond)) // a new connection's buffer has room for it
	fmt.Fprintf(c, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s", problemType, len(body), body)
	c.Close()
}

// admit counts a connection; nil where it may not be served.
func (s *conns) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, of: s, from: peerOf(raw)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bound := range []struct {
		reached func() bool
		gives   func(*conn) bool
	}{
		{func() bool { return s.peers[c.from] >= s.most/2 }, func(o *conn) bool { return o.from == c.from }},
		{func() bool { return !c.from.socket && s.tcp >= s.most-s.most/4 }, func(o *conn) bool { return !o.from.socket }},
		{func() bool { return s.all >= s.most }, func(o *conn) bool { return o.from.socket == c.from.socket }},
	} {
		if bound.reached() && !s.evict(bound.gives) {
			return nil
		}
	}
	s.all++
	s.peers[c.from]++
	if !c.from.socket {
		s.tcp++
	}
	c.idle = s.idle.PushBack(c)
	return c
}

// evict closes the connection that has been idle for longest among those that may give way.
func (s *conns) evict(gives func(*conn) bool) bool {
	for e := s.idle.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn) //nolint:forcetypeassert // nothing else is in it
		if gives(c) {
			s.forget(c)
			c.Conn.Close()
			return true
		}
	}
	return false
}

// forget takes a connection out of the counts, once. The lock is held.
func (s *conns) forget(c *conn) {
	if c.idle != nil {
		s.idle.Remove(c.idle)
		c.idle = nil
	}
	if c.gone {
		return
	}
	c.gone = true
	s.all--
	if !c.from.socket {
		s.tcp--
	}
	if s.peers[c.from]--; s.peers[c.from] == 0 {
		delete(s.peers, c.from)
	}
}

// state notes what a connection is doing (http.Server.ConnState).
func (s *conns) state(raw net.Conn, state http.ConnState) {
	c, ours := raw.(*conn)
	if !ours {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.gone:
	case state == http.StateIdle && c.idle == nil:
		c.idle = s.idle.PushBack(c)
	case state == http.StateActive && c.idle != nil:
		s.idle.Remove(c.idle)
		c.idle = nil
	}
}

// Close closes the connection.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// peerOf is who opened a connection.
func peerOf(c net.Conn) peer {
	u, local := c.(*net.UnixConn)
	if !local {
		return peer{addr: network(c.RemoteAddr().String())}
	}
	p := peer{socket: true}
	if raw, err := u.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // a user that is not known is one like others
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil { //nolint:gosec // a descriptor
				p.uid = cred.Uid
			}
		})
	}
	return p
}
