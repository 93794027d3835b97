package simulator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func TestTransfersShareTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithLinkRate(1_000_000))
		defer s.Close()
		add(t, s, "runs1", Image("a", 500_000), Image("b", 500_000), Image("c", 500_000))
		get := func(image string) time.Duration {
			begun := time.Now()
			u := target(t, s, key("runs1", run.Images, image))
			w := httptest.NewRecorder()
			s.CDN().ServeHTTP(w, httptest.NewRequest(http.MethodGet, u, nil))
			if w.Code != http.StatusOK || w.Body.Len() != 500_000 {
				t.Errorf("%s: %d, %d bytes", image, w.Code, w.Body.Len())
			}
			return time.Since(begun)
		}
		near := func(got, want time.Duration) bool { return (got - want).Abs() <= 20*time.Millisecond }
		if took := get("a"); !near(took, 500*time.Millisecond-linkSlack) {
			t.Errorf("alone it took %v, want half a second less %v", took, linkSlack)
		}
		var wg sync.WaitGroup
		for _, image := range []string{"b", "c"} {
			wg.Go(func() {
				if took := get(image); !near(took, time.Second) {
					t.Errorf("%s beside another took %v, want a second", image, took)
				}
			})
		}
		wg.Wait()
	})
}

func TestATransferThatNobodyReadsLeavesTheLinkToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithLinkRate(1_000_000))
		defer s.Close()
		add(t, s, "runs1", Image("held", 500_000), Image("read", 500_000))
		ctx, release := context.WithCancel(t.Context())
		held := &deaf{ResponseRecorder: httptest.NewRecorder(), until: ctx.Done()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { _ = recover() }() // the transfer is aborted in the end
			s.CDN().ServeHTTP(held, httptest.NewRequest(http.MethodGet, target(t, s, key("runs1", run.Images, "held")), nil))
		}()
		synctest.Wait()
		begun := time.Now()
		w := httptest.NewRecorder()
		s.CDN().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target(t, s, key("runs1", run.Images, "read")), nil))
		if took := time.Since(begun); w.Body.Len() != 500_000 || took > 600*time.Millisecond {
			t.Errorf("%d bytes in %v beside one that nobody reads, want half a second", w.Body.Len(), took)
		}
		release()
		<-done
	})
}

// deaf is a client that reads nothing, and goes in the end.
type deaf struct {
	*httptest.ResponseRecorder
	until <-chan struct{}
}

func (d *deaf) Write([]byte) (int, error) {
	<-d.until
	return 0, http.ErrHandlerTimeout
}

func TestATurnThatComesAfterExpiryIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithLinkRate(1_000_000), WithCutAtExpiry(), Signing{Life: 2 * time.Second})
		defer s.Close()
		add(t, s, "runs1", Image("a", 5_000_000))
		w := httptest.NewRecorder()
		func() {
			defer func() { _ = recover() }()
			s.CDN().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target(t, s, key("runs1", run.Images, "a")), nil))
		}()
		if n := w.Body.Len(); n < 1_000_000 || n > 2_100_000 { // a life is cut to whole seconds
			t.Errorf("%d bytes in a life of at most two seconds at 1 MB/s", n)
		}
	})
}
