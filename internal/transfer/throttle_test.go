package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var trickle = KeepAlive{Bytes: 256 << 10, Every: 4 * time.Second}

// pour answers with the whole body as fast as it is taken.
func pour(t *testing.T, body []byte) func(net.Conn) {
	return func(conn net.Conn) {
		if _, ok := readRequest(t, conn); !ok {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n", len(body), len(body)-1, len(body))
		if _, err := conn.Write(body); err == nil {
			_, _ = io.Copy(io.Discard, conn) // until the other side goes
		}
	}
}

func TestHeldTransferTricklesAndIsFinishedWhenLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{StallTimeout: 30 * time.Second})
		body := picture(16<<20, 1)
		onPipes(t, c, pour(t, body))
		var done atomic.Int64
		throttle := &Throttle{}
		throttle.Hold(trickle)
		req := request("http://cdn.test/a.png?" + secret)
		req.Throttle = throttle
		part, begun := &memPart{}, time.Now()
		result := make(chan error, 1)
		go func() {
			_, err := c.Fetch(t.Context(), req, part, func(n, _ int64) { done.Store(n) })
			result <- err
		}()
		time.Sleep(2 * time.Minute) // longer than any stall timeout
		synctest.Wait()
		least, most := int64(29*trickle.Bytes), int64(45*trickle.Bytes) // a wait is 3 to 4 s
		if got := done.Load(); got < least || got > most {
			t.Errorf("%d bytes were read in two minutes, want %d to %d", got, least, most)
		}
		if !throttle.Held() {
			t.Error("it does not say that it is held")
		}
		throttle.Release()
		if err := <-result; err != nil || !bytes.Equal(part.data, body) {
			t.Errorf("%v, %d bytes", err, len(part.data))
		}
		if took := time.Since(begun); took != 2*time.Minute {
			t.Errorf("let go after two minutes, it took until %s", took)
		}
	})
}

func TestRunningTransferCanBeHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		onPipes(t, c, pour(t, picture(16<<20, 1)))
		req := request("http://cdn.test/a.png?" + secret)
		req.Throttle = &Throttle{}
		part, begun := &memPart{}, time.Now()
		var once atomic.Bool
		_, err := c.Fetch(t.Context(), req, part, func(n, _ int64) {
			if n >= 8<<20 && once.CompareAndSwap(false, true) {
				req.Throttle.Hold(trickle)
				time.AfterFunc(time.Minute, req.Throttle.Release)
			}
		})
		if took := time.Since(begun); err != nil || took != time.Minute {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestSmallBodyIsReadToItsEndWhateverTheValveSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		onPipes(t, c, pour(t, picture(500_000, 1)[:500_000]))
		req := request("http://cdn.test/a.png?" + secret)
		req.Throttle = &Throttle{}
		req.Throttle.Hold(KeepAlive{Bytes: 1, Every: time.Hour})
		begun := time.Now()
		if _, err := c.Fetch(t.Context(), req, &memPart{}, nil); err != nil || time.Since(begun) != 0 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

func TestHeldTransferEndsAtOnceWhenItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		onPipes(t, c, pour(t, picture(8<<20, 1)))
		req := request("http://cdn.test/a.png?" + secret)
		req.Throttle = &Throttle{}
		req.Throttle.Hold(KeepAlive{Bytes: 256 << 10, Every: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Minute, cancel)
		part := &memPart{}
		_, err := c.Fetch(ctx, req, part, nil)
		if !errors.Is(err, context.Canceled) || time.Since(begun) != time.Minute || len(part.data) != 256<<10 {
			t.Errorf("%v after %s, %d bytes kept", err, time.Since(begun), len(part.data))
		}
	})
}

// A held transfer must hold the server up: what the kernel swallows unread is
// bounded, and when it is let go the connection is as fast as any.
func TestHeldTransferHoldsARealServerUp(t *testing.T) {
	const size = 64 << 20
	var sent atomic.Int64
	body := picture(size, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for at := 0; at < size; at += 64 << 10 {
			n, err := w.Write(body[at:min(at+64<<10, size)])
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	})
	c := newClient(t, Config{})
	req := request(url)
	req.Throttle = &Throttle{}
	req.Throttle.Hold(KeepAlive{Bytes: 256 << 10, Every: time.Hour})
	var done atomic.Int64
	result := make(chan error, 1)
	part := &memPart{}
	go func() {
		_, err := c.Fetch(t.Context(), req, part, func(n, _ int64) { done.Store(n) })
		result <- err
	}()
	for before := int64(-1); done.Load() < 128<<10 || sent.Load() != before; { // until it stands still
		before = sent.Load()
		time.Sleep(100 * time.Millisecond) // real time: the kernel's buffers fill up
	}
	if swallowed := sent.Load() - done.Load(); swallowed > 16<<20 {
		t.Errorf("%d bytes were sent ahead of a held transfer", swallowed)
	}
	req.Throttle.Release()
	if err := <-result; err != nil || !bytes.Equal(part.data, body) {
		t.Errorf("%v, %d bytes", err, len(part.data))
	}
}
