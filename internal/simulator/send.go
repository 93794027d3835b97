package simulator

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"
)

// send puts the answer on the wire. What net/http would send it sends; the rest
// is written by hand to the connection, which is closed then.
func (x *exchange) send(w http.ResponseWriter) {
	if !x.wait(x.delay) {
		panic(http.ErrAbortHandler) // to return would answer 200
	}
	if x.wire.odd() {
		x.sendOdd(w)
		return
	}
	for name, values := range x.header {
		w.Header()[name] = values
	}
	if x.wire.framing == sized {
		w.Header().Set("Content-Length", strconv.FormatInt(x.n, 10))
	}
	control := http.NewResponseController(w)
	if !x.dies.IsZero() {
		_ = control.SetWriteDeadline(x.dies) // a handler mounted elsewhere may know none
	}
	w.WriteHeader(x.status)
	if x.wire.framing == chunked {
		_ = control.Flush() // before the body is known to be small
	}
	flush := control.Flush
	if x.every == 0 {
		flush = func() error { return nil }
	}
	x.complete = x.r.Method == http.MethodHead || x.copy(w, x.n, flush) == nil
	if !x.complete {
		panic(http.ErrAbortHandler) // closes the connection; the client must not take this for the end
	}
}

// copy sends the first n bytes of the body in the pace that is set.
func (x *exchange) copy(w io.Writer, n int64, flush func() error) error {
	buf := x.sim.buffers.Get().(*[bufferSize]byte)
	defer x.sim.buffers.Put(buf)
	most := int64(bufferSize)
	if x.chunk > 0 {
		most = int64(x.chunk)
	}
	if x.shares {
		most = min(most, x.sim.link.most())
	}
	due := time.Now()
	for x.sent < n {
		part := buf[:min(most, n-x.sent)]
		if x.shares && !x.wait(time.Until(x.sim.link.turn(len(part), time.Now()))) {
			return errCut
		}
		if !x.dies.IsZero() && !time.Now().Before(x.dies) {
			return errCut
		}
		_, _ = x.body.ReadAt(part, x.off+x.sent) // content does not fail
		m, err := w.Write(part)
		x.sent += int64(m)
		if err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		if due = due.Add(x.every); x.every > 0 && x.sent < n && !x.wait(time.Until(due)) {
			return errCut
		}
	}
	return nil
}

var errCut = fmt.Errorf("cut: %w", io.ErrClosedPipe)

// wait waits, and reports whether there is anybody left to answer.
func (x *exchange) wait(d time.Duration) bool {
	if !x.dies.IsZero() {
		d = min(d, max(time.Until(x.dies), 0))
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
	case <-x.sim.done:
	}
	return false
}

// sendOdd sends an answer that net/http would not send so.
func (x *exchange) sendOdd(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // nothing to write to: a cut is all that can be had
	}
	x.sim.hijacked(conn)
	defer x.sim.release(conn)
	defer conn.Close()
	if !x.dies.IsZero() {
		_ = conn.SetDeadline(x.dies) // for reading, too: a stalled answer is cut like the others
	}
	n := x.n
	if x.wire.ends != whole {
		n = min(n, x.wire.at)
	}
	if x.wire.ends != silent {
		err = x.write(conn, n)
	}
	if err != nil {
		return
	}
	switch x.wire.ends {
	case whole:
		x.complete = x.wire.excess == 0
	case reset:
		abort(conn)
	case garbled:
		_, _ = io.WriteString(conn, "no chunk\r\n")
	case stalled, silent:
		x.sim.stalled(x)
		_, _ = io.Copy(io.Discard, conn) // until the client or Close ends it
	}
}

// write writes head and the first n bytes of the body.
func (x *exchange) write(conn net.Conn, n int64) error {
	if _, err := conn.Write(x.head()); err != nil {
		return err
	}
	flush := func() error { return nil }
	if x.wire.framing != chunked {
		return x.copy(conn, n, flush)
	}
	body := httputil.NewChunkedWriter(conn)
	if err := x.copy(body, n, flush); err != nil || x.wire.ends != whole {
		return err
	}
	if err := body.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(conn, "\r\n")
	return err
}

// head is the status line and the headers.
func (x *exchange) head() []byte {
	switch x.wire.framing {
	case sized:
		length := strconv.FormatInt(x.n+x.wire.excess, 10)
		if x.wire.twice {
			length += ", " + length
		}
		x.header.Set("Content-Length", length)
	case chunked:
		x.header.Set("Transfer-Encoding", "chunked")
	}
	x.header.Set("Connection", "close")
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", x.status, http.StatusText(x.status))
	_ = x.header.Write(&b) // memory does not fail
	for _, line := range x.wire.lines {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// abort closes a TCP connection with a reset.
func abort(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
}
