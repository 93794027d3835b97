package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// listening runs a server until the test ends.
func listening(t *testing.T, s *server.Server) *server.Client {
	t.Helper()
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended: %v", err)
		}
	})
	return server.NewClient(s.Path)
}

// stage is a server of events at an address.
type stage struct {
	*server.Events
	url  string
	stop context.CancelFunc
	done chan error
}

func newStage(t *testing.T) *stage {
	t.Helper()
	st := &stage{Events: server.NewEvents(), done: make(chan error, 1)}
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Events, d.Path = st.Events, filepath.Join(t.TempDir(), "s") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	st.url = "http://" + l.Addr().String() + "/api/v1/events"
	ctx, stop := context.WithCancel(t.Context())
	st.stop = stop
	go func() { st.done <- s.ServeOn(ctx, l) }()
	t.Cleanup(func() { stop(); <-st.done })
	return st
}

// heard is an event as a client gets it.
type heard struct {
	id string
	server.Happening
}

// line is a stream that is being read.
type line struct {
	t    *testing.T
	body *bufio.Reader
	resp *http.Response
}

func (st *stage) follow(t *testing.T, query, after string) *line {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, st.url+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	l := &line{t, bufio.NewReader(resp.Body), resp}
	if text, err := l.body.ReadString('\n'); err != nil || !strings.HasPrefix(text, "retry: ") { // it has joined
		t.Fatalf("%q, %v, HTTP %d", text, err, resp.StatusCode)
	}
	return l
}

// next is the next event; false at the end of the stream.
func (l *line) next() (h heard, ok bool) {
	l.t.Helper()
	for {
		text, err := l.body.ReadString('\n')
		if err != nil {
			return h, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(text, "\n"), ": ")
		switch name {
		case "id":
			h.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &h.Happening); err != nil {
				l.t.Fatalf("%s: %v", value, err)
			}
		case "":
			if h.Kind != "" {
				return h, true
			}
		}
	}
}

func event(n int) run.Event {
	return run.Event{Kind: run.RunAccepted, Run: run.ID(fmt.Sprintf("run%05d", n)), Count: n}
}

func TestEventsAreStreamedAsTheyHappen(t *testing.T) {
	st := newStage(t)
	st.Tell(event(1)) // before anybody listened
	all, one := st.follow(t, "", ""), st.follow(t, "?run=run00003", "")
	st.Tell(event(2))
	st.Tell(run.Event{
		Kind: run.AssetGone, Asset: run.Key{Run: "run00003", Kind: run.Images, ID: "a"}, Err: errors.New("why"), Hint: "what to do", Bytes: 7,
	})
	if got, _ := all.next(); got.Run != "run00002" || got.Count != 2 || got.id == "" || got.Time.IsZero() {
		t.Errorf("first: %+v", got)
	}
	for _, l := range []*line{all, one} {
		got, _ := l.next()
		if got.Run != "run00003" || got.Asset == nil || got.Asset.ID != "a" || got.Error != "why" || got.Hint != "what to do" || got.Bytes != 7 {
			t.Errorf("the loss: %+v", got)
		}
	}
	if kind := all.resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type %q", kind)
	}
}

func TestAStreamGoesOnAfterTheLastEventThatCame(t *testing.T) {
	st := newStage(t)
	first := st.follow(t, "", "")
	for n := 1; n <= 5; n++ {
		st.Tell(event(n))
	}
	var last heard
	for range 3 {
		last, _ = first.next()
	}
	again := st.follow(t, "", last.id)
	st.Tell(event(6))
	for n := 4; n <= 6; n++ {
		if got, ok := again.next(); !ok || got.Count != n || got.Missed {
			t.Errorf("want event %d, got %+v", n, got)
		}
	}
}

func TestAStreamSaysWhereEventsAreMissing(t *testing.T) {
	st := newStage(t)
	first := st.follow(t, "", "")
	st.Tell(event(1))
	one, _ := first.next()
	for n := 2; n <= 3000; n++ { // more than are remembered
		st.Tell(event(n))
	}
	for name, after := range map[string]string{"long ago": one.id, "another process": "abc-7", "nonsense": "x"} {
		again := st.follow(t, "", after)
		if got, ok := again.next(); !ok || !got.Missed || got.id != "" || !strings.Contains(got.Hint, "/api/v1/runs") {
			t.Errorf("%s: %+v", name, got)
		}
		if got, ok := again.next(); !ok || got.Count != 1001 {
			t.Errorf("%s: the oldest that is remembered is %+v", name, got)
		}
	}
}

func TestWhoReadsTooSlowlyIsLetGoAndHoldsNobodyUp(t *testing.T) {
	st := newStage(t)
	slow := st.follow(t, "", "")
	long := strings.Repeat("x", 4000) // more than buffers on the way take
	for n := range 20_000 {
		e := event(n)
		e.Note = long
		st.Tell(e) // would block for ever if it waited for the reader
	}
	count := 0
	for {
		if _, ok := slow.next(); !ok {
			break
		}
		count++
	}
	if count == 0 || count == 20_000 {
		t.Errorf("%d of 20,000 events came before the end", count)
	}
}

func TestOnlySoManyFollow(t *testing.T) {
	st := newStage(t)
	for range 32 {
		st.follow(t, "", "")
	}
	resp, err := http.Get(st.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body := drain(t, resp.Body); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "32 others follow") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	st := newStage(t)
	l := st.follow(t, "", "")
	st.stop()
	if got, ok := l.next(); ok {
		t.Errorf("%+v", got)
	}
	err := <-st.done
	st.done <- err
	if err != nil {
		t.Error(err)
	}
}

func TestAWrongRunIDIsNamed(t *testing.T) {
	s := guarded(t, server.Tokens{})
	if w := answer(s.Handler(), request("GET", "/api/v1/events?run=../x", "")); w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
