package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

const (
	allToken = "a token that may everything"
	addToken = "a token that may hand in"
)

// request is one to server.listen, as from a client on this machine.
func request(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:7433"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// guarded is a server with everything switched on.
func guarded(t *testing.T, tokens server.Tokens, more ...func(*server.Deps)) *server.Server {
	t.Helper()
	d := server.Deps{
		Address: "127.0.0.1:7433", Tokens: tokens, Version: "test",
		Runs: shelf{3}, Checks: checks{}, Now: busy{}, Metrics: http.NotFoundHandler(), DropDir: t.TempDir(),
		WebhookKeys: [][]byte{webhookKey()}, Poker: &poked{}, Care: &nurse{}, Stock: &nurse{}, Copies: copies{},
	}
	for _, change := range more {
		change(&d)
	}
	return open(t, d)
}

// asking is a request for each route there is, which would be answered.
func asking(t *testing.T, s *server.Server) map[server.Route]*http.Request {
	t.Helper()
	all := map[server.Route]*http.Request{}
	for _, route := range s.Routes() {
		path := strings.ReplaceAll(route.Path, "{id}", "run000001")
		body := ""
		var headers []string
		if route.Method == http.MethodPost {
			body, headers = `{"run_id": "run000001"}`, []string{"Content-Type", "application/json"}
		}
		if strings.HasSuffix(path, "/findings") {
			body = `{"revision": 1, "findings": []}`
		}
		all[route] = request(route.Method, path, body, headers...)
	}
	if len(all) < 10 {
		t.Fatalf("only %d routes", len(all))
	}
	return all
}

// admitted reports whether a handler let a request through. A stream is cut off.
func admitted(t *testing.T, h http.Handler, r *http.Request) (bool, int) {
	t.Helper()
	if strings.HasSuffix(r.URL.Path, "/events") {
		r.URL.RawQuery = "run=x" // refused by the page itself, so that it ends
	}
	w := answer(h, r)
	return w.Code != http.StatusUnauthorized && w.Code != http.StatusForbidden && w.Code != http.StatusMisdirectedRequest, w.Code
}

func TestEveryRouteTakesTheTokenItTakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		tokens server.Tokens
		shown  string
		opens  map[string]bool // by what the route takes
	}{
		{"no token is set", server.Tokens{}, "", map[string]bool{"everybody": true, "adders": true, "owners": true}},
		{"none is shown", server.Tokens{All: allToken, Add: addToken}, "", map[string]bool{"everybody": true}},
		{"a wrong one", server.Tokens{All: allToken, Add: addToken}, "wrong", map[string]bool{"everybody": true}},
		{"the beginning of the right one", server.Tokens{All: allToken}, allToken[:10], map[string]bool{"everybody": true}},
		{"the right one", server.Tokens{All: allToken, Add: addToken}, allToken, map[string]bool{"everybody": true, "adders": true, "owners": true}},
		{"the one that may hand in", server.Tokens{All: allToken, Add: addToken}, addToken, map[string]bool{"everybody": true, "adders": true}},
		{"none but that one is set", server.Tokens{Add: addToken}, addToken, map[string]bool{"everybody": true, "adders": true}},
		{"and none is shown", server.Tokens{Add: addToken}, "", map[string]bool{"everybody": true}},
	} {
		s := guarded(t, c.tokens)
		takes := map[string]int{}
		for route, r := range asking(t, s) {
			takes[route.Access]++
			if c.shown != "" {
				r.Header.Set("Authorization", "Bearer "+c.shown)
			}
			r.RemoteAddr = "192.0.2." + string('1'+rune(takes[route.Access])) + ":1" // not slowed down for the others' faults
			if let, code := admitted(t, s.Handler(), r); route.Path != "/webhooks/magnific" && let != c.opens[route.Access] {
				t.Errorf("%s: %s %s answered %d", c.name, route.Method, route.Path, code)
			}
		}
		if takes["everybody"] != 3 || takes["adders"] != 1 || takes["owners"] < 8 {
			t.Errorf("routes by what they take: %v", takes)
		}
	}
}

func TestWithoutATokenOnlyThisMachinesOwnNamesAreAnswered(t *testing.T) {
	s := guarded(t, server.Tokens{})
	for host, want := range map[string]bool{
		"localhost": true, "localhost:7433": true, "127.0.0.1:7433": true, "127.0.0.1:9999": true, "[::1]:7433": true, "LOCALHOST:1": true,
		"evil.example": false, "evil.example:7433": false, "127.0.0.1.evil.example": false, "localhost.evil.example:7433": false, "": false, "192.0.2.1:7433": false,
	} {
		for route, r := range asking(t, s) {
			if route.Access == "everybody" {
				continue
			}
			r.Host = host
			if let, code := admitted(t, s.Handler(), r); let != want {
				t.Errorf("Host %q: %s %s answered %d", host, route.Method, route.Path, code)
			}
		}
	}
	// A site that was made to lead here has no token.
	r := request("GET", "/api/v1/runs", "", "Host", "evil.example", "Authorization", "Bearer "+allToken)
	if w := answer(guarded(t, server.Tokens{All: allToken}).Handler(), r); w.Code != http.StatusOK {
		t.Errorf("with the token, by another name: %d", w.Code)
	}
}

func TestOtherWebSitesMayChangeNothing(t *testing.T) {
	s := guarded(t, server.Tokens{})
	for name, headers := range map[string][]string{
		"another origin": {"Origin", "https://evil.example"},
		"cross site":     {"Sec-Fetch-Site", "cross-site"},
	} {
		w := answer(s.Handler(), request("POST", "/api/v1/runs", `"run000009"`, append(headers, "Content-Type", "application/json")...))
		if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if files, err := os.ReadDir(s.DropDir); err != nil || len(files) > 0 {
		t.Errorf("something was handed in: %v, %v", files, err)
	}
}

func TestWhoGuessesTokensIsSlowedDownAndNobodyElse(t *testing.T) {
	s := guarded(t, server.Tokens{All: allToken})
	codes := map[int]int{}
	for range 30 {
		r := request("GET", "/api/v1/status", "", "Authorization", "Bearer guess")
		r.RemoteAddr = "192.0.2.7:1000"
		w := answer(s.Handler(), r)
		codes[w.Code]++
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	if codes[http.StatusUnauthorized] < 5 || codes[http.StatusTooManyRequests] < 10 {
		t.Errorf("30 guesses: %v", codes)
	}
	r := request("GET", "/api/v1/status", "", "Authorization", "Bearer "+allToken)
	r.RemoteAddr = "192.0.2.8:1000"
	if w := answer(s.Handler(), r); w.Code != http.StatusOK {
		t.Errorf("somebody else: %d", w.Code)
	}
}

func TestOneAddressCannotAskWithoutEnd(t *testing.T) {
	s := guarded(t, server.Tokens{})
	refused := 0
	for range 2000 {
		if answer(s.Handler(), request("GET", "/healthz", "")).Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("2,000 requests at once were all answered")
	}
}

func TestWhatIsNotThereIsAProblemThatSaysWhatIs(t *testing.T) {
	s := guarded(t, server.Tokens{})
	w := answer(s.Handler(), request("PUT", "/api/v1/runs", ""))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, POST" {
		t.Errorf("%d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	if w := answer(s.Handler(), request("GET", "/api/v2/runs", "")); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "openapi.json") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// broken is a queue that panics.
type broken struct{ shelf }

func (broken) Get(_ context.Context, id run.ID) (run.Run, error) { panic("no " + string(id)) }

func TestAPanicIsOneRequestsAlone(t *testing.T) {
	var told []run.Event
	s := guarded(t, server.Tokens{}, func(d *server.Deps) {
		d.Runs, d.Tell = broken{shelf{1}}, func(e run.Event) { told = append(told, e) }
	})
	if w := answer(s.Handler(), request("GET", "/api/v1/runs/run000001", "")); w.Code != http.StatusInternalServerError {
		t.Errorf("%d", w.Code)
	}
	if len(told) != 1 || told[0].Kind != run.StageRecovered {
		t.Errorf("told %v", told)
	}
	if w := answer(s.Handler(), request("GET", "/healthz", "")); w.Code != http.StatusOK {
		t.Errorf("the next one: %d", w.Code)
	}
}

func TestHandingInIsOnTheDiskBeforeTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		kind, body string
		want       []string
	}{
		"an object":    {"application/json", `{"data": {"workflow_run_identifier": "good000001"}, "labels": {"shot": "12"}}`, []string{"good000001", "shot"}},
		"a list":       {"application/json; charset=utf-8", `["good000001", {"run_ids": ["good000002"]}]`, []string{"good000001", "good000002"}},
		"lines":        {"application/x-ndjson", "\"good000001\"\n{\"run_id\": \"good000002\"}\n", []string{"good000001", "good000002"}},
		"plain text":   {"text/plain", "good000001 # one\n\ngood000002\n", []string{"good000001", "good000002"}},
		"one ID alone": {"text/plain", "good000001", []string{"good000001"}},
	} {
		s := guarded(t, server.Tokens{})
		w := answer(s.Handler(), request("POST", "/api/v1/runs", c.body, "Content-Type", c.kind))
		if w.Code != http.StatusAccepted {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
			continue
		}
		files, err := filepath.Glob(filepath.Join(s.DropDir, "add-*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: drop files %v, %v", name, files, err)
		}
		data, err := os.ReadFile(files[0])
		for _, part := range c.want {
			if err != nil || !strings.Contains(string(data), part) {
				t.Errorf("%s: %s has no %s: %v\n%s", name, files[0], part, err, data)
			}
		}
		if location := w.Header().Get("Location"); (location == "/api/v1/runs/good000001") != (len(c.want) == 1 || c.want[1] == "shot") {
			t.Errorf("%s: Location %q", name, location)
		}
	}
}

func TestHandingInRefusesTheWholeWhereAnythingIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		kind, body string
		code       int
		says       string
	}{
		"no run ID":         {"text/plain", "good000001\n../../etc/passwd\n", http.StatusBadRequest, "line 2"},
		"half JSON":         {"application/json", `{"run_id": "good0`, http.StatusBadRequest, "nothing was handed in"},
		"nothing":           {"application/json", "", http.StatusBadRequest, "nothing was handed in"},
		"a list of nothing": {"application/json", "[]", http.StatusBadRequest, "nothing was handed in"},
		"a form":            {"application/x-www-form-urlencoded", "good000001", http.StatusUnsupportedMediaType, "curl -H"},
		"no type":           {"", "good000001", http.StatusUnsupportedMediaType, "send application/json"},
		"too much":          {"text/plain", strings.Repeat("good000001\n", 400_000), http.StatusRequestEntityTooLarge, "send it in parts"},
	} {
		s := guarded(t, server.Tokens{})
		r := request("POST", "/api/v1/runs", c.body)
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		w := answer(s.Handler(), r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if files, err := os.ReadDir(s.DropDir); err != nil || len(files) > 0 {
			t.Errorf("%s: something was handed in: %v, %v", name, files, err)
		}
	}
}

func TestWhatCannotBeWrittenIsToBeTriedAgain(t *testing.T) {
	var told []run.Event
	s := guarded(t, server.Tokens{}, func(d *server.Deps) {
		d.DropDir = filepath.Join(t.TempDir(), "gone")
		d.Tell = func(e run.Event) { told = append(told, e) }
	})
	w := answer(s.Handler(), request("POST", "/api/v1/runs", `"good000001"`, "Content-Type", "application/json"))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || len(told) != 1 {
		t.Errorf("%d, Retry-After %q, told %v", w.Code, w.Header().Get("Retry-After"), told)
	}
}

func TestTheAddressIsServedAndASecondServerSaysThatItIsTaken(t *testing.T) {
	first := listening(t, guarded(t, server.Tokens{}, func(d *server.Deps) {
		d.Address, d.Path = "127.0.0.1:0", filepath.Join(t.TempDir(), "s")
	}))
	_ = first
	busyPort := httptest.NewServer(http.NotFoundHandler())
	defer busyPort.Close()
	told := make(chan run.Event, 4)
	s := guarded(t, server.Tokens{}, func(d *server.Deps) {
		d.Address, d.Path = busyPort.Listener.Addr().String(), filepath.Join(t.TempDir(), "s")
		d.Tell = func(e run.Event) { told <- e }
	})
	client := listening(t, s)
	select {
	case e := <-told:
		if e.Kind != run.ListenTrouble || !strings.Contains(e.Hint, "server.listen") {
			t.Errorf("told %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was told")
	}
	if h, err := client.Health(t.Context(), false); err != nil || !h.OK {
		t.Errorf("the socket goes on: %+v, %v", h, err)
	}
}

// drain reads a body to its end.
func drain(t *testing.T, body io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
