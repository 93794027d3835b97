package simulator

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a running simulator that the test's end closes.
func start(t *testing.T, opts ...Option) *Sim {
	t.Helper()
	s, err := Start(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is an HTTP client that follows nothing and keeps no connection.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func add(t *testing.T, s *Sim, id run.ID, opts ...RunOption) {
	t.Helper()
	if err := s.AddRun(id, opts...); err != nil {
		t.Fatal(err)
	}
}

// poll asks the handler as a client with the right key does.
func poll(s *Sim, id run.ID) *httptest.ResponseRecorder {
	return ask(s.API(), AppsPath+"/"+string(id), keyHeader, s.Key(), "Accept", "application/json")
}

// ask asks a handler; headers are name, value, name, value.
func ask(h http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return askWith(h, r)
}

func askWith(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answer is a run as the tests read it.
type answer struct {
	RunID       string  `json:"run_id"`
	Status      string  `json:"status"`
	AppID       string  `json:"app_id"`
	StartedAt   *string `json:"started_at"`
	CompletedAt *string `json:"completed_at"`
	Error       *string `json:"error_message"`
	Result      *struct{ Images, Videos, Audios []listed }
}

type listed struct {
	ID, URL, Tool string
	Width, Height *int
	Duration      *float64
}

func decode(t *testing.T, body []byte) answer {
	t.Helper()
	var doc struct{ Data answer }
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return doc.Data
}

func key(id run.ID, kind run.Kind, asset string) run.Key {
	return run.Key{Run: id, Kind: kind, ID: asset}
}

// target is the asset's URL below the CDN's host.
func target(t *testing.T, s *Sim, k run.Key) string {
	t.Helper()
	u, ok := s.URL(k)
	if !ok {
		t.Fatalf("no asset %v", k)
	}
	return strings.TrimPrefix(u, s.CDNURL())
}

func TestCloseEndsStalledAnswersAndLeavesNothingBehind(t *testing.T) {
	for name, f := range map[string]Fault{"stalled": Stall(1000), "silent": Silent(), "slow": Slow(1, time.Hour), "late": Latency(time.Hour)} {
		s, err := Start()
		if err != nil {
			t.Fatal(err)
		}
		add(t, s, "runs1", Image("a", 8<<10, f))
		u, _ := s.URL(key("runs1", run.Images, "a"))
		ended := make(chan error, 1)
		go func() {
			resp, err := client(t).Get(u)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			ended <- err
		}()
		if err := s.Await(t.Context(), func() bool { return s.Fired(key("runs1", run.Images, "a"), f) == 1 }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: the client took a cut answer for a whole one", name)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: second Close: %v", name, err)
		}
		if w := poll(s, "runs1"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: a closed simulator answered %d", name, w.Code)
		}
	}
}

func TestAStalledAnswerEndsWithItsClient(t *testing.T) {
	s := start(t)
	add(t, s, "runs1", Image("a", 8<<10, Stall(1000)))
	k := key("runs1", run.Images, "a")
	u, _ := s.URL(k)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stalled := func() bool { return len(s.Requests(func(r Request) bool { return r.Stalled && r.Sent == 1000 })) == 1 }
	if err := s.Await(t.Context(), stalled); err != nil {
		t.Fatal(err)
	}
	cancel()
	must(t, s.Idle(t.Context()))
	if r := s.Downloads(k)[0]; r.Complete {
		t.Errorf("on record as complete: %v", r)
	}
}

func TestBothServersSpeakTLSWhereAsked(t *testing.T) {
	s := start(t, WithTLS(), WithCDNHost("localhost"))
	add(t, s, "runs1", Image("a", 0))
	if !strings.HasPrefix(s.CDNURL(), "https://localhost:") || s.RootPEM() == nil {
		t.Fatalf("CDN at %s", s.CDNURL())
	}
	c := client(t)
	if _, err := c.Get(s.APIURL()); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: s.Roots(), NextProtos: []string{"h2", "http/1.1"}}
	u, _ := s.URL(key("runs1", run.Images, "a"))
	for _, at := range []string{s.APIURL() + AppsPath + "/runs1", u} {
		resp, err := c.Get(at)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 1 {
			t.Errorf("%s answered in %s", at, resp.Proto)
		}
	}
}

func TestHandlersCanBeMountedElsewhere(t *testing.T) {
	s := New()
	defer s.Close()
	cdn := httptest.NewServer(s.CDN())
	defer cdn.Close()
	s.MountedAt(cdn.URL)
	add(t, s, "runs1", Image("a", 4<<10, Cut(100).Times(1)))
	u := decode(t, poll(s, "runs1").Body.Bytes()).Result.Images[0].URL
	for _, whole := range []bool{false, true} {
		resp, err := client(t).Get(u)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if whole != (err == nil) {
			t.Errorf("whole %v: %v", whole, err)
		}
	}
}

// pipes is a network within a bubble, where real sockets do not work.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() pipes { return pipes{make(chan net.Conn), make(chan struct{})} }

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.conns <- far
	return near, nil
}

func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func TestTheWholeOfItRunsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		today()
		api, cdn := newPipes(), newPipes()
		s := start(t, WithListeners(api, cdn), Signing{Life: time.Minute}, WithCutAtExpiry())
		add(t, s, "runs1", Image("stalls", objectSize, Stall(100)), Image("hangs", objectSize, Silent()), Image("crawls", objectSize, Slow(100, time.Second)))
		c := client(t)
		c.Transport.(*http.Transport).DialContext = cdn.dial
		for _, image := range []string{"stalls", "hangs", "crawls"} {
			begun := time.Now() // each asset's URL is signed when it is first asked for
			u, _ := s.URL(key("runs1", run.Images, image))
			resp, err := c.Get(u)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			if took := time.Since(begun); err == nil || took > time.Minute || took < 59*time.Second {
				t.Errorf("%s: cut after %v, want its token's minute: %v", image, took, err)
			}
		}
		c.Transport.(*http.Transport).DialContext = api.dial
		resp, err := c.Get(s.APIURL() + AppsPath + "/runs1")
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%v, %v", resp, err)
		}
		_ = resp.Body.Close()
	})
}

func TestLatencyIsARoundTripMoreOnANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithLatency(time.Second, 40*time.Millisecond))
		defer s.Close()
		add(t, s, "runs1", Image("a", 0))
		took := func(h http.Handler, ctx context.Context, target string) time.Duration {
			begun := time.Now()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil).WithContext(ctx))
			return time.Since(begun)
		}
		u := target(t, s, key("runs1", run.Images, "a"))
		ctx := withConnection(t.Context(), nil)
		got := []time.Duration{took(s.CDN(), ctx, u), took(s.CDN(), ctx, u), took(s.API(), withConnection(t.Context(), nil), "/"), took(s.API(), t.Context(), "/")}
		want := []time.Duration{80 * time.Millisecond, 40 * time.Millisecond, 2 * time.Second, time.Second}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("request %d took %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func TestAConnectionsRateIsHeldToTheMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithConnRate(6_000_000))
		defer s.Close()
		add(t, s, "runs1", Video("a", 12_000_000))
		begun := time.Now()
		w := ask(s.CDN(), target(t, s, key("runs1", run.Videos, "a")))
		if took := time.Since(begun); w.Body.Len() != 12_000_000 || (took-2*time.Second).Abs() > 15*time.Millisecond {
			t.Errorf("%d bytes took %v, want 2 s", w.Body.Len(), took)
		}
	})
}
