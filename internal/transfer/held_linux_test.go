package transfer

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/testenv"
)

// watched keeps the connections that a client makes.
type watched struct {
	mu   sync.Mutex
	made []net.Conn
}

func (w *watched) of(c *Client) {
	dial := c.connect
	c.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.made = append(w.made, conn)
		}
		return conn, err
	}
}

// buffer is the size of the only connection's receive buffer, in bytes.
func (w *watched) buffer(t *testing.T) (size int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.made) != 1 {
		t.Fatalf("%d connections", len(w.made))
	}
	control(w.made[0], func(fd int) {
		var err error
		if size, err = syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF); err != nil {
			t.Error(err)
		}
	})
	return size
}

// A held transfer makes its connection's buffer small. Where it comes to its end at its
// trickle, the next transfer over that connection must not suffer for it.
func TestAConnectionThatWasHeldToTheEndIsAsFastAsAnyForTheNext(t *testing.T) {
	testenv.Long(t)
	body := picture(1<<20, 1)
	untold := func(w http.ResponseWriter, _ *http.Request) {
		for at := 0; at < len(body); at += 128 << 10 {
			_, _ = w.Write(body[at : at+128<<10])
			_ = http.NewResponseController(w).Flush()
		}
	}
	cert, trust := certificate(t, time.Now().Add(time.Hour), "cdn.test")
	_, told := sized(len(body), `"v1"`)
	for name, h := range map[string]http.HandlerFunc{"of known length": told, "of untold length": untold} {
		for _, over := range []string{"TCP", "TLS"} {
			t.Run(name+" over "+over, func(t *testing.T) {
				c, url := newClient(t, Config{}), ""
				if over == "TLS" {
					c, url = secure(t, cert, trust, h)
				} else {
					url = serve(t, h)
				}
				var conns watched
				conns.of(c)
				req := request(url)
				req.Throttle = &Throttle{}
				req.Throttle.Hold(KeepAlive{Bytes: 256 << 10, Every: 20 * time.Millisecond})
				small := 1 << 30
				part := &memPart{}
				_, err := c.Fetch(t.Context(), req, part, func(done, _ int64) {
					if done > 0 && done < int64(len(body)) {
						small = min(small, conns.buffer(t))
					}
				})
				if err != nil || len(part.data) != len(body) || name == "of untold length" && !bytes.Equal(part.data, body) {
					t.Fatalf("%v, %d bytes", err, len(part.data))
				}
				if small > 2*narrowBuffer {
					t.Errorf("while held its buffer had %d bytes: this shows nothing", small)
				}
				if after := conns.buffer(t); after <= 2*narrowBuffer {
					t.Errorf("its buffer has %d bytes for the next transfer", after)
				}
			})
		}
	}
}
