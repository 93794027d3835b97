package simulator

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	linkTurn   = 16 << 10 // the most bytes that a transfer sends in its turn
	linkBuffer = 32 << 10 // bytes of a connection's send buffer

	// linkSlack is how late a turn may be taken without loss of rate: timers are not
	// exact, and on a busy machine this process has to wait for its own turn. In any
	// stretch of time the line never moves more than its rate and this much more.
	linkSlack = 100 * time.Millisecond
)

// link is the line that all transfers of the CDN share. They send in turns, in the
// order in which they ask for one; who does not read asks for none, and leaves the
// line to the others. Safe for concurrent use.
type link struct {
	rate int64 // bytes a second; 0: no limit

	mu   sync.Mutex
	free time.Time // when the last turn given ends
}

// most is how many bytes are sent in one turn: about 10 ms of the line, or less.
func (l *link) most() int64 { return min(max(l.rate/100, 1), linkTurn) }

// turn gives the next turn to n bytes and returns when it ends.
func (l *link) turn(n int, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if idle := now.Add(-linkSlack); l.free.Before(idle) {
		l.free = idle
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	return l.free
}

// narrow keeps the kernel from taking more of a body than the line has moved.
func narrow(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(linkBuffer) // it is a wish
	}
}
