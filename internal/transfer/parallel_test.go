package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
	"github.com/assetd/assetd/internal/transfer/ranges"
)

const farmURL = "http://cdn.test/a.png?" + secret

// inFarm runs a test in fake time against a farm that has a file of so many bytes.
func inFarm(t *testing.T, cfg Config, size int, test func(t *testing.T, c *Client, s *farm)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Connections == 0 {
			cfg.Connections = 16
		}
		c := newClient(t, cfg)
		test(t, c, newFarm(t, c, size))
		c.Close()
		synctest.Wait()
		if left := c.budget.Lend(100, 100); left != 100 {
			t.Errorf("%d further connections were not given back", 100-left)
		}
	})
}

func TestALargeAssetGrowsToAsManyConnectionsAsBringMore(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		part, begun := &memPart{}, time.Now()
		var told []int64
		r, err := c.Fetch(t.Context(), request(farmURL), part, func(done, total int64) {
			if total >= 0 {
				told = append(told, done)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, r, part, s.tally().body)
		if !r.Proven || r.Received < int64(len(s.tally().body)) {
			t.Errorf("proven %v, %d bytes received", r.Proven, r.Received)
		}
		// 64 MiB at 16 MB/s are 4.2 s, over one connection 67 s.
		if took := time.Since(begun); s.tally().most != 16 || took > 6*time.Second {
			t.Errorf("%d connections, %s", s.tally().most, took)
		}
		if waste := s.tally().served - int64(len(s.tally().body)); waste > 8<<20 {
			t.Errorf("%d bytes came in vain", waste)
		}
		if told[0] != 0 || told[len(told)-1] != int64(len(s.tally().body)) {
			t.Errorf("progress from %d to %d", told[0], told[len(told)-1])
		}
		for i := 1; i < len(told); i++ {
			if told[i] < told[i-1] {
				t.Fatalf("progress fell from %d to %d", told[i-1], told[i])
			}
		}
	})
}

func TestWhereMoreConnectionsBringNoMoreOneIsLeft(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		s.perConn, s.total = 0, 2e6
		part := &memPart{}
		more := time.Duration(0)
		stop, watched := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				if s.running() > 1 {
					more += 10 * time.Millisecond
				}
			}
		}()
		mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
		close(stop)
		<-watched
		// 34 s, with a try of a second after 0, 5, 15 s.
		if s.tally().most != 2 || more == 0 || more > 5*time.Second {
			t.Errorf("%d connections at most, more than one for %s", s.tally().most, more)
		}
	})
}

func TestTheRateOfAllTransfersBoundsAWideOne(t *testing.T) {
	inFarm(t, Config{MaxRate: 4e6}, 32<<20, func(t *testing.T, c *Client, s *farm) {
		s.perConn = 8e6
		part, begun := &memPart{}, time.Now()
		mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
		if took := time.Since(begun); took < 7*time.Second || s.tally().most > 2 {
			t.Errorf("%s for 32 MiB at 4 MB/s, over %d connections", took, s.tally().most)
		}
	})
}

func TestWhatMayNotOrNeedNotBeDividedIsAskedForOnce(t *testing.T) {
	for name, c := range map[string]struct {
		size        int
		connections int
		etag        string
	}{
		"no ETag":        {20 << 20, 16, ""},
		"a weak ETag":    {20 << 20, 16, `W/"v1"`},
		"small":          {minParallel - 1, 16, `"v1"`},
		"one connection": {20 << 20, 1, `"v1"`},
	} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, Config{Connections: c.connections}, c.size, func(t *testing.T, client *Client, s *farm) {
				s.etag = c.etag
				part := &memPart{}
				mustBe(t, fetched(t, client, farmURL, part), part, s.tally().body)
				if len(s.tally().requests) != 1 || s.tally().most != 1 {
					t.Errorf("%d connections, asked for %v", s.tally().most, s.tally().requests)
				}
			})
		})
	}
}

// N06, N08, N09 on a further connection: another object, no range, nothing there.
func TestAFurtherConnectionWithAnotherObjectLeadsBackToOneFromTheStart(t *testing.T) {
	other := picture(30<<20, 9)
	for name, odd := range map[string]func(s *farm, a *reply){
		"changed":              func(s *farm, a *reply) { s.etag, s.body = `"v2"`, other; a.etag, a.body = s.etag, s.body },
		"another ETag":         func(_ *farm, a *reply) { a.etag = `"edge-7"`; a.body = a.body[:len(a.body)-1] },
		"Range ignored":        func(_ *farm, a *reply) { a.whole = true },
		"no range satisfiable": func(_ *farm, a *reply) { a.status = http.StatusRequestedRangeNotSatisfiable },
	} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, Config{}, 30<<20, func(t *testing.T, c *Client, s *farm) {
				var fired atomic.Int32
				s.odd = func(n int, from int64, a *reply) {
					if n == 4 {
						fired.Add(1)
						s.mu.Lock()
						odd(s, a)
						s.mu.Unlock()
					}
				}
				part := &memPart{}
				mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
				if fired.Load() != 1 || part.resets != 2 {
					t.Errorf("fired %d times, the part was begun %d times", fired.Load(), part.resets)
				}
				if last := s.tally().requests[len(s.tally().requests)-1]; last != "bytes=0-" {
					t.Errorf("the last request was for %q", last)
				}
			})
		})
	}
}

// P3.9: servers that honour Range but not If-Range, whose object changes.
func TestARangeOfAnotherVersionIsNeverMixedIn(t *testing.T) {
	for name, next := range map[string]struct {
		etag string
		size int
	}{"another ETag": {`"v2"`, 30 << 20}, "another length": {`"v1"`, 30<<20 + 1}} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, Config{}, 30<<20, func(t *testing.T, c *Client, s *farm) {
				other := picture(next.size, 9)
				s.odd = func(n int, from int64, a *reply) {
					if a.blind = true; n >= 3 {
						s.mu.Lock()
						s.etag, s.body = next.etag, other
						a.etag, a.body = s.etag, s.body
						s.mu.Unlock()
					}
				}
				part := &memPart{}
				mustBe(t, fetched(t, c, farmURL, part), part, other)
				if part.resets != 2 {
					t.Errorf("begun %d times", part.resets)
				}
			})
		})
	}
}

func TestAShortRangeIsGoneOnWith(t *testing.T) {
	inFarm(t, Config{}, 40<<20, func(t *testing.T, c *Client, s *farm) {
		s.odd = func(n int, from int64, a *reply) {
			if n > 0 {
				a.short = shortestGain + 12345
			}
		}
		part := &memPart{}
		mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
		if part.resets != 1 {
			t.Errorf("begun %d times", part.resets)
		}
	})
}

func TestARefusedFurtherConnectionCostsTheTransferNothing(t *testing.T) {
	for _, status := range []int{401, 403, 429, 503, 404, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			if status != 403 && status != 429 {
				testenv.Long(t)
			}
			inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
				s.odd = func(n int, from int64, a *reply) {
					if s.running() >= 2 {
						a.status = status
					}
				}
				part := &memPart{}
				mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
				if s.tally().most > 4 || part.resets != 1 {
					t.Errorf("%d connections, begun %d times", s.tally().most, part.resets)
				}
				asked := s.asked()
				if status == 429 || status == 503 {
					// The next asset from there does without.
					part = &memPart{}
					mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
					if n := s.asked() - asked; n != 1 {
						t.Errorf("the next asset made %d requests", n)
					}
				}
			})
		})
	}
}

// The extra connections of a host that takes one at a time end none of it, also where
// the first answer was given up for pieces.
func TestTheLastConnectionsFailureIsTheTransfers(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		s.odd = func(n int, from int64, a *reply) {
			if from > 0 {
				a.status = 503
			}
			a.cutAfter = 20 << 20
		}
		part := &memPart{}
		f := failed(t, c, farmURL, part, Network)
		if len(part.data) != 20<<20 || f.Host != "cdn.test" {
			t.Errorf("%d bytes are there, %v", len(part.data), f)
		}
	})
}

func TestWhatAnEndedConnectionLeftIsTakenByAnother(t *testing.T) {
	for name, stall := range map[string]bool{"cut": false, "stalled": true} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
				var fired atomic.Int32
				s.odd = func(n int, from int64, a *reply) {
					if n%3 == 2 && n < 16 {
						fired.Add(1)
						a.cutAfter, a.stall = 300<<10, stall
					}
				}
				part, begun := &memPart{}, time.Now()
				mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
				if took := time.Since(begun); fired.Load() < 2 || took > 25*time.Second {
					t.Errorf("%d connections failed, %s", fired.Load(), took)
				}
			})
		})
	}
}

func TestAStoppedTransferIsGoneOnWithWhereItHasGaps(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		part := &memPart{}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("stopping"))
		defer cancel()
		_, err := c.Fetch(ctx, request(farmURL), part, nil)
		failure(t, err, Canceled)
		if len(part.Beyond()) < 2 {
			t.Fatalf("no gaps: %d bytes and %v", len(part.data), part.Beyond())
		}
		var done int64
		r, err := c.Fetch(t.Context(), request(farmURL), part, func(n, _ int64) { done = max(done, n) })
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, r, part, s.tally().body)
		if part.resets != 1 || done != int64(len(s.tally().body)) {
			t.Errorf("begun %d times, %d bytes told", part.resets, done)
		}
		if waste := s.tally().served - int64(len(s.tally().body)); waste > 10<<20 {
			t.Errorf("%d bytes came twice", waste)
		}
		if want := int64(len(s.tally().body)); part.reserved[len(part.reserved)-1] >= want {
			t.Errorf("%d bytes were reserved for the rest", part.reserved[len(part.reserved)-1])
		}
	})
}

func TestAPartWithGapsIsFilledOverOneConnection(t *testing.T) {
	inFarm(t, Config{Connections: 1}, 20<<20, func(t *testing.T, c *Client, s *farm) {
		part := &memPart{mark: run.PartMark{ETag: s.etag, Total: int64(len(s.tally().body))}}
		part.data = bytes.Clone(s.tally().body[:3<<20])
		for _, from := range []int64{4 << 20, 9 << 20, 19 << 20} {
			part.far = append(part.far, chunk{from, bytes.Clone(s.tally().body[from : from+1<<20])})
		}
		mustBe(t, fetched(t, c, farmURL, part), part, s.tally().body)
		if s.tally().most != 1 || part.resets != 0 {
			t.Errorf("%d connections, begun %d times", s.tally().most, part.resets)
		}
	})
}

func TestTheDisksFailureEndsAllConnections(t *testing.T) {
	for class, err := range map[Class]error{Disk: &fs.PathError{Op: "write", Err: errors.New("EIO")}, NoRoom: run.ErrNoRoom} {
		inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
			part := &memPart{writeErr: err, writeErrAt: 20 << 20}
			failed(t, c, farmURL, part, class)
		})
	}
}

func TestAPanicOfAConnectionIsTheFetchs(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "a bad disk") {
				t.Errorf("recovered %v", p)
			}
		}()
		_, _ = c.Fetch(t.Context(), request(farmURL), &panicPart{}, nil)
		t.Error("no panic")
	})
}

type panicPart struct{ memPart }

func (p *panicPart) WriteAt(b []byte, off int64) (int, error) {
	if off > 4<<20 {
		panic("a bad disk")
	}
	return p.memPart.WriteAt(b, off)
}

func TestFurtherConnectionsAreBoundedOverAllTransfers(t *testing.T) {
	inFarm(t, Config{Connections: 6}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				part := &memPart{}
				if r, err := c.Fetch(t.Context(), request(farmURL), part, nil); err != nil || !bytes.Equal(part.data, s.tally().body) || r.SHA256 != sum(s.tally().body) {
					t.Errorf("%v, %d bytes", err, len(part.data))
				}
			})
		}
		all.Wait()
		if s.tally().most < 6 || s.tally().most > 4+6 {
			t.Errorf("%d connections for 4 transfers, want 6 to 10", s.tally().most)
		}
	})
}

// Design 4.5: the CDN judges a token when a request starts.
func TestAHeldWideTransferIsOneAnswerThatOutlivesItsURL(t *testing.T) {
	for _, after := range []time.Duration{0, 500 * time.Millisecond, 3500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			inFarm(t, Config{}, 128<<20, func(t *testing.T, c *Client, s *farm) {
				var dead atomic.Bool
				s.odd = func(_ int, _ int64, a *reply) {
					if dead.Load() {
						a.status = http.StatusForbidden
					}
				}
				throttle := &Throttle{}
				req := request(farmURL)
				req.Throttle = throttle
				part, result := &memPart{}, make(chan error, 1)
				go func() {
					_, err := c.Fetch(t.Context(), req, part, nil)
					result <- err
				}()
				time.Sleep(after)
				throttle.Hold(trickle)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if n := s.running(); n != 1 {
					t.Errorf("held, %d answers are running", n)
				}
				dead.Store(true)
				time.Sleep(time.Minute)
				throttle.Release()
				if err := <-result; err != nil || !bytes.Equal(part.data, s.tally().body) {
					t.Errorf("%v, %d bytes", err, len(part.data))
				}
			})
		})
	}
}

func TestAURLThatDiesOnTheWayEndsNoWideTransfer(t *testing.T) {
	for _, life := range []time.Duration{time.Second, 3 * time.Second, 6 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			if life != 3*time.Second {
				testenv.Long(t)
			}
			inFarm(t, Config{}, 128<<20, func(t *testing.T, c *Client, s *farm) {
				time.Sleep(26 * 366 * 24 * time.Hour) // a bubble begins in 2000, when no URL was signed
				exp := time.Now().Add(life)
				var refused atomic.Int32
				s.odd = func(_ int, _ int64, a *reply) {
					if time.Now().After(exp) {
						refused.Add(1)
						a.status = http.StatusForbidden
					}
				}
				part := &memPart{}
				url := fmt.Sprintf("http://cdn.test/a.png?token=exp=%d~hmac=5ec4e7", exp.Unix())
				mustBe(t, fetched(t, c, url, part), part, s.tally().body)
				if s.tally().most < 4 || refused.Load() > 1 {
					t.Errorf("%d connections, %d requests were refused", s.tally().most, refused.Load())
				}
			})
		})
	}
}

func TestALargeBodyThatIsNotMediaIsNotDivided(t *testing.T) {
	inFarm(t, Config{}, 20<<20, func(t *testing.T, c *Client, s *farm) {
		s.body = append([]byte("<!DOCTYPE html><html>"), bytes.Repeat([]byte("<p>no such file</p>\n"), 1<<20)...)
		failed(t, c, farmURL, &memPart{}, NotMedia)
		if s.tally().most != 1 {
			t.Errorf("%d connections", s.tally().most)
		}
	})
}

func TestADigestThatDoesNotFitEmptiesAWidePart(t *testing.T) {
	inFarm(t, Config{}, 30<<20, func(t *testing.T, c *Client, s *farm) {
		s.etag = "\"v1\"\r\nRepr-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
		part := &memPart{}
		failed(t, c, farmURL, part, Network)
		if len(part.data) != 0 {
			t.Errorf("%d bytes are left", len(part.data))
		}
	})
}

// Whatever servers do to the connections, tries that are repeated end with the bytes
// of the object and their SHA-256.
func TestWhateverHappensToItsConnectionsTheBytesAreTheObjects(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(8<<20, 12<<20).Draw(rt, "size")
		connections := rapid.IntRange(1, 8).Draw(rt, "connections")
		faults := rapid.SliceOfN(rapid.IntRange(0, 9), 30, 30).Draw(rt, "faults")
		lengths := rapid.SliceOfN(rapid.Int64Range(0, 4<<20), 30, 30).Draw(rt, "lengths")
		stops := rapid.SliceOfN(rapid.IntRange(100, 8000), 4, 4).Draw(rt, "stops in ms")
		changes := rapid.IntRange(0, 60).Draw(rt, "changed at request")
		inFarm(t, Config{Connections: connections}, size, func(t *testing.T, c *Client, s *farm) {
			before := s.tally().body
			var shown atomic.Bool // some response was of the object as it is now
			s.odd = func(n int, _ int64, a *reply) {
				if n == changes {
					s.mu.Lock()
					s.etag, s.body = `"v2"`, picture(size+n, 2)
					a.etag, a.body = s.etag, s.body
					s.mu.Unlock()
				}
				defer func() {
					if a.etag == `"v2"` && a.status != 503 {
						shown.Store(true)
					}
				}()
				if n >= len(faults) {
					return
				}
				switch faults[n] {
				case 1:
					a.cutAfter = lengths[n]
				case 2:
					a.cutAfter, a.stall = lengths[n], true
				case 3:
					a.short = lengths[n] + 1
				case 4:
					a.status = 503
				case 5:
					a.whole = true
				}
			}
			part := &memPart{}
			for try := range 60 {
				ctx, cancel := context.WithCancel(t.Context())
				if try < len(stops) {
					time.AfterFunc(time.Duration(stops[try])*time.Millisecond, cancel)
				}
				r, err := c.Fetch(ctx, request(farmURL), part, nil)
				cancel()
				if err == nil {
					want := s.tally().body
					if !shown.Load() { // a change that only refused requests came after is nobody's to know
						want = before
					}
					mustBe(t, r, part, want)
					return
				}
				time.Sleep(time.Second)
			}
			t.Errorf("not whole after 60 tries: %d bytes and %v", len(part.data), part.Beyond())
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// What another connection has only asked for may never come: its URL may have expired.
func TestAnAnswerThatRunsBringsWhatOthersOnlyAskedFor(t *testing.T) {
	const total = 8 << 20
	for _, answered := range []bool{false, true} {
		w := &parallel{ranges: ranges.Missing(0, total, nil), length: ranges.MinSize, readOn: true, expiring: true}
		running, asking := &worker{p: w, limit: total}, &worker{p: w}
		running.assigned, asking.assigned = w.ranges.Take(ranges.MinSize), w.ranges.Take(2*ranges.MinSize)
		w.workers = []*worker{running, asking}
		if answered {
			asking.limit = asking.assigned.End
		}
		brought := 0
		for pos := int64(0); pos < total; pos += 1 << 16 {
			if pos == 2*ranges.MinSize {
				w.workers = w.workers[:1] // the other is refused
				w.ranges.Drop(asking.assigned)
			}
			_, n, _ := w.claim(running, pos, 1<<16)
			running.assigned.Written = running.assigned.Claimed
			brought += n
		}
		// What it was answered it was bringing: that is not brought twice.
		if want := map[bool]int{false: total, true: total - 2*ranges.MinSize}[answered]; brought != want {
			t.Errorf("answered %v: %d bytes of %d were brought, want %d", answered, brought, total, want)
		}
	}
}
