package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drip answers with a body of size bytes, of which it sends piece by piece, one
// each pause, until the other side has gone.
func drip(t *testing.T, size, piece int, pause time.Duration) func(net.Conn) {
	body := picture(size, 1)[:size]
	return func(conn net.Conn) {
		if _, ok := readRequest(t, conn); !ok {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n", size, size-1, size)
		for p := range slices.Chunk(body, piece) {
			if _, err := conn.Write(p); err != nil {
				return
			}
			time.Sleep(pause)
		}
		_, _ = io.Copy(io.Discard, conn) // until the other side goes
	}
}

func TestSilentServerIsGivenUpAfterTheStallTimeout(t *testing.T) { // N01
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{StallTimeout: 30 * time.Second})
		body := picture(8<<20, 1)
		onPipes(t, c, func(conn net.Conn) {
			if _, ok := readRequest(t, conn); !ok {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n", len(body), len(body)-1, len(body))
			_, _ = conn.Write(body[:1<<20])
			_, _ = io.Copy(io.Discard, conn) // silent until the other side goes
		})
		start := time.Now()
		part := &memPart{}
		f := failed(t, c, "http://cdn.test/a.png?"+secret, part, Stall)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("given up after %s", took)
		}
		if !strings.Contains(f.Error(), "30s") || len(part.data) != 1<<20 || !bytes.Equal(part.data, body[:1<<20]) {
			t.Errorf("%v, %d bytes kept", f, len(part.data))
		}
	})
}

func TestTrickleIsGivenUp(t *testing.T) { // N02
	for name, tc := range map[string]struct {
		piece  int
		pause  time.Duration
		within time.Duration
	}{
		"a byte in 5 s":               {1, 5 * time.Second, 2*time.Minute + 5*time.Second},
		"just below the floor":        {1000, time.Second, 2*time.Minute + 5*time.Second},
		"a little, ever just in time": {20_000, 29 * time.Second, 2*time.Minute + 30*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, Config{StallTimeout: 30 * time.Second})
				onPipes(t, c, drip(t, 4<<20, tc.piece, tc.pause))
				start := time.Now()
				f := failed(t, c, "http://cdn.test/a.png?"+secret, &memPart{}, Stall)
				if took := time.Since(start); took < 2*time.Minute || took > tc.within {
					t.Errorf("given up after %s", took)
				}
				if !strings.Contains(f.Error(), "too slow") {
					t.Error(f)
				}
			})
		})
	}
}

func TestTrickleIntoMemoryIsGivenUpAsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{StallTimeout: 30 * time.Second})
		onPipes(t, c, drip(t, 200_000, 1, 5*time.Second))
		failed(t, c, "http://cdn.test/a.png?"+secret, &memPart{}, Stall)
	})
}

func TestSlowButMovingIsLetGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{StallTimeout: 30 * time.Second})
		const size = 1 << 20
		onPipes(t, c, drip(t, size, 1500, time.Second))
		start := time.Now()
		part := &memPart{}
		_, err := c.Fetch(t.Context(), request("http://cdn.test/a.png?"+secret), part, nil)
		if err != nil || len(part.data) != size {
			t.Fatalf("%v after %s, %d bytes", err, time.Since(start), len(part.data))
		}
		if took := time.Since(start); took < 10*time.Minute {
			t.Errorf("took %s: the test did not try a slow server", took)
		}
	})
}

func TestOurOwnSlownessSpeaksNotAgainstTheServer(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		slow time.Duration // of each write
	}{
		"max_rate":    {Config{StallTimeout: time.Second, MaxRate: 500}, 0},
		"slow volume": {Config{StallTimeout: time.Second}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, tc.cfg)
				const size = 300_000
				onPipes(t, c, drip(t, size, size, 0))
				part := &slowPart{pause: tc.slow}
				start := time.Now()
				if _, err := c.Fetch(t.Context(), request("http://cdn.test/a.png?"+secret), part, nil); err != nil || len(part.data) != size {
					t.Fatalf("%v, %d bytes", err, len(part.data))
				}
				if took := time.Since(start); took < 2*time.Minute {
					t.Errorf("took %s: nothing was slow", took)
				}
			})
		})
	}
}

type slowPart struct {
	memPart
	pause time.Duration
}

func (p *slowPart) Write(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.memPart.Write(b)
}

func TestRateIsSharedAndCanBeChangedWhileTransfersRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{MaxRate: 100_000, StallTimeout: 30 * time.Second})
		const size = 1_000_000
		onPipes(t, c, drip(t, size, size, 0))
		start := time.Now()
		done := make(chan error)
		for range 4 {
			go func() {
				_, err := c.Fetch(t.Context(), request("http://cdn.test/a.png?"+secret), &memPart{}, nil)
				done <- err
			}()
		}
		time.Sleep(20 * time.Second) // half of it is there
		c.Configure(Config{AllowHTTP: true, MaxRate: 500_000})
		for range 4 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		// 2,000,000 bytes at 100,000/s, 2,000,000 at 500,000/s.
		if took := time.Since(start); took < 23*time.Second || took > 25*time.Second {
			t.Errorf("took %s, want 24 s", took)
		}
	})
}

func TestRateHoldsFromTheFirstSecondOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c := newClient(t, Config{MaxRate: 100_000})
		onPipes(t, c, drip(t, 1_000_000, 1_000_000, 0))
		var done sync.WaitGroup
		var parts [16]memPart
		for i := range parts {
			done.Go(func() { _, _ = c.Fetch(ctx, request("http://cdn.test/a.png?"+secret), &parts[i], nil) })
		}
		done.Wait()
		sum := 0
		for i := range parts {
			sum += len(parts[i].data)
		}
		// What has come, and not been paid for, is a chunk for each at most.
		if sum < 150_000 || sum > 200_000+17*25_000 {
			t.Errorf("%d bytes in 2 s", sum)
		}
	})
}

func TestRateOfOneByteASecondIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{MaxRate: 1, StallTimeout: time.Second})
		png := picture(1, 1)[:60]
		onPipes(t, c, func(conn net.Conn) {
			if _, ok := readRequest(t, conn); ok {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(png), png)
				_, _ = io.Copy(io.Discard, conn)
			}
		})
		start := time.Now()
		part := &memPart{}
		mustBe(t, fetched(t, c, "http://cdn.test/a.png?"+secret, part), part, png)
		if took := time.Since(start); took < 58*time.Second || took > 62*time.Second {
			t.Errorf("60 bytes took %s", took)
		}
	})
}

func TestEveryStepBeforeTheBodyHasItsTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		url   string
		serve func(net.Conn)
		after time.Duration
	}{
		"no headers": {"http://cdn.test/a?", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, headerTimeout},
		"half the headers": {"http://cdn.test/a?", func(c net.Conn) {
			readRequest(t, c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX:")
			_, _ = io.Copy(io.Discard, c)
		}, headerTimeout},
		"TLS handshake": {"https://cdn.test/a?", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, tlsTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, Config{})
				onPipes(t, c, tc.serve)
				start := time.Now()
				class := Network
				if name == "never reads" {
					class = Stall
				}
				failed(t, c, tc.url+secret, &memPart{}, class)
				if took := time.Since(start); took != tc.after {
					t.Errorf("given up after %s, want %s", took, tc.after)
				}
			})
		})
	}
}

func TestProxyThatSaysNothingIsGivenUp(t *testing.T) {
	for _, scheme := range []string{"socks5", "http"} {
		synctest.Test(t, func(t *testing.T) {
			c := newClient(t, Config{Proxy: &url.URL{Scheme: scheme, Host: "proxy.test:1080"}})
			onPipes(t, c, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
			start := time.Now()
			_, err := c.Fetch(t.Context(), request("https://cdn.test/a.png?"+secret), &memPart{}, nil)
			if took := time.Since(start); err == nil || took > answerTimeout {
				t.Errorf("%s: %v after %s", scheme, err, took)
			}
			var f *Failure
			if errors.As(err, &f); f.Class != Stall && f.Class != Network {
				t.Errorf("%s: %v", scheme, f)
			}
			// A connection that nobody waits for any more ends by itself.
			time.Sleep(time.Hour)
		})
	}
}

func TestUnwantedBodyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		onPipes(t, c, func(conn net.Conn) {
			if _, ok := readRequest(t, conn); ok {
				fmt.Fprint(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\nAccess")
				_, _ = io.Copy(io.Discard, conn)
			}
		})
		start := time.Now()
		f := failed(t, c, "http://cdn.test/a.png?"+secret, &memPart{}, Refused)
		if took := time.Since(start); took != drainTime || f.Status != http.StatusForbidden {
			t.Errorf("%v after %s", f, took)
		}
	})
}

func TestEndlessUnwantedBodyIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		c := newClient(t, Config{})
		onPipes(t, c, func(conn net.Conn) {
			if _, ok := readRequest(t, conn); ok {
				fmt.Fprint(conn, "HTTP/1.1 503 Busy\r\n\r\n")
				for block := make([]byte, 1<<10); ; sent += len(block) {
					if _, err := conn.Write(block); err != nil {
						return
					}
				}
			}
		})
		failed(t, c, "http://cdn.test/a.png?"+secret, &memPart{}, Throttled)
		c.Close()
		synctest.Wait()
		if sent < drainBytes/2 || sent > 2*drainBytes {
			t.Errorf("%d bytes of an error body were taken", sent)
		}
	})
}
