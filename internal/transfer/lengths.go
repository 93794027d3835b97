package transfer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
)

// net/http refuses a Content-Length that is a list, also where all its values are the
// same, which a recipient may accept (RFC 9110, section 8.6): such answers come from
// servers behind a proxy that joins two equal fields. The request is made again then,
// over a connection of its own that makes one value of the list.
//
// Through a proxy that holds for http URLs alone: net/http lets nobody look into a
// connection that it encrypts itself.

// refusedLength reports whether an answer was refused for its Content-Length.
func refusedLength(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Content-Length")
}

// roundTrip makes a request, a second time where its answer's Content-Length is a
// list. What is found out holds for the rest of the fetch.
func (f *fetch) roundTrip(req *http.Request) (*http.Response, error) {
	if !f.lengths.Load() {
		resp, err := f.c.transport.RoundTrip(req)
		if !refusedLength(err) {
			return resp, err
		}
		f.lengths.Store(true)
	}
	return f.c.lenient.RoundTrip(req)
}

// tolerant is a transport like the client's whose connections carry one request each,
// and accept a Content-Length that is a list of equal values.
func (c *Client) tolerant() *http.Transport {
	dial := c.transport.DialContext
	t := c.transport.Clone()
	t.DisableKeepAlives = true
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newLengthConn(conn), nil
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		own := c.transport.TLSClientConfig.Clone()
		own.ServerName = host
		ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
		defer cancel()
		encrypted := tls.Client(conn, own)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return newLengthConn(encrypted), nil
	}
	return t
}

// lengthConn is a connection with one answer on it, of whose head it makes one value
// of each Content-Length that is a list of equal ones. Not safe for concurrent reads.
type lengthConn struct {
	net.Conn
	r    *bufio.Reader
	head []byte // that was read and changed, not yet handed out
	done bool   // what follows is the body
}

func newLengthConn(c net.Conn) *lengthConn {
	return &lengthConn{Conn: c, r: bufio.NewReaderSize(c, maxHeaderBytes)}
}

// NetConn is the connection below, as tls.Conn has it.
func (c *lengthConn) NetConn() net.Conn { return c.Conn }

// Read gives the head, changed, and then the body as it comes.
func (c *lengthConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 && !c.done {
		if err := c.readHead(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.r.Read(p)
}

// readHead reads a head. After one of an interim answer (1xx) another follows. What
// is too long or no head is handed out as it is.
func (c *lengthConn) readHead() error {
	interim := false
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil || len(c.head) > maxHeaderBytes {
			c.head, c.done = append(c.head, line...), true
			if len(c.head) > 0 {
				return nil // the next read tells
			}
			return err
		}
		if first {
			interim = interimStatus(line)
		}
		c.head = append(c.head, oneLength(line)...)
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			c.done = !interim
			return nil
		}
	}
}

// interimStatus reports whether a status line is of an answer before the final one.
func interimStatus(line []byte) bool {
	_, status, _ := bytes.Cut(line, []byte(" "))
	return len(status) >= 3 && status[0] == '1' && !bytes.HasPrefix(status, []byte("101"))
}

// oneLength is a line of a head, changed where it is a Content-Length that is a list
// of equal values. Empty members of a list count for nothing (RFC 9110, section 5.6.1).
func oneLength(line []byte) []byte {
	name, list, found := strings.Cut(string(line), ":")
	if !found || !strings.EqualFold(name, "Content-Length") || !strings.Contains(list, ",") {
		return line
	}
	value := ""
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		switch {
		case item == "":
		case value == "":
			value = item
		case strings.TrimLeft(item, "0") != strings.TrimLeft(value, "0"):
			return line
		}
	}
	return []byte(name + ": " + value + "\r\n")
}
