package transfer

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestSizeIsAskedForWithOneByte(t *testing.T) {
	status := http.StatusPartialContent
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Range"); got != "bytes=0-0" {
			t.Errorf("asked for %q", got)
		}
		switch status {
		case http.StatusPartialContent:
			w.Header().Set("Content-Range", "bytes 0-0/4711")
			w.WriteHeader(status)
			fmt.Fprint(w, "x")
		case http.StatusOK:
			w.Write(make([]byte, 100_000)) //nolint:errcheck // the client goes
		default:
			w.WriteHeader(status)
		}
	})
	c := newClient(t, Config{})
	if n, err := c.Size(t.Context(), request(url)); n != 4711 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, status = range []int{http.StatusOK, http.StatusForbidden, http.StatusTooManyRequests} {
		if n, err := c.Size(t.Context(), request(url)); err == nil {
			t.Errorf("status %d: %d without an error", status, n)
		}
	}
}

func TestHeldTransfersKeepNoMemoryOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		onPipes(t, c, pour(t, picture(8<<20, 1)))
		made := 0
		c.buffers.New = func() any { made++; return new(buffer) }
		result := make(chan error)
		var valves []*Throttle
		for range 8 {
			req := request("http://cdn.test/a.png?" + secret)
			req.Throttle = &Throttle{}
			req.Throttle.Hold(KeepAlive{Bytes: 100_000, Every: time.Hour})
			valves = append(valves, req.Throttle)
			go func() {
				_, err := c.Fetch(t.Context(), req, &memPart{}, nil)
				result <- err
			}()
			synctest.Wait() // it is held
		}
		kept := made
		for _, v := range valves {
			if v.Moved() != 100_000 {
				t.Errorf("%d bytes came through", v.Moved())
			}
			v.Release()
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		if kept >= 8 {
			t.Errorf("%d buffers for 8 held transfers", kept)
		}
	})
}
