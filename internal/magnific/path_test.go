package magnific

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

// places is an API that answers each of its paths in its own way.
type places struct {
	mu          sync.Mutex
	apps, flows int // status; 200: the run, 299: a page under 200
	asked       []string
}

func (p *places) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, status := "apps", p.apps
	if strings.HasPrefix(r.URL.Path, FlowsPath) {
		name, status = "flows", p.flows
	}
	p.asked = append(p.asked, name)
	switch status {
	case 200:
		fmt.Fprint(w, `{"data":{"run_id":"omps2OH829","status":"running"}}`)
	case 299:
		fmt.Fprint(w, "<!DOCTYPE html><html></html>")
	case 302:
		w.Header().Set("Location", "/login")
		w.WriteHeader(status)
	default:
		w.WriteHeader(status)
	}
}

func (p *places) set(apps, flows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apps, p.flows, p.asked = apps, flows, nil
}

func (p *places) took() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

func autoClient(t *testing.T, url string) *Client {
	t.Helper()
	cfg := config(url)
	cfg.RunsPath = AutoPath
	c, err := New(cfg, testKey, clock.New(), (&events{}).tell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCase_D3_TheOtherPathIsAskedUntilOneHasAnswered(t *testing.T) {
	p := &places{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	both, first := []string{"apps", "flows"}, []string{"apps"}
	for _, c := range []struct {
		apps, flows int
		asked       []string
		want        run.RefusalKind // empty: answered
		then        []string        // asked at the next call
	}{
		{200, 404, first, "", first},
		{404, 200, both, "", []string{"flows"}},
		{403, 200, both, "", []string{"flows"}},
		{302, 200, both, "", []string{"flows"}},
		{299, 200, both, "", []string{"flows"}},
		{405, 200, both, "", []string{"flows"}},
		{404, 404, both, run.NotFound, both},
		{403, 404, both, run.NotFound, both},
		{404, 403, both, run.NotFound, both},
		{299, 404, both, run.NotFound, both},
		{404, 302, both, run.NotFound, both},
		{404, 299, both, run.NotFound, both},
		{403, 410, both, run.Rejected, both},
		{403, 403, both, run.Forbidden, both},
		{404, 401, both, run.Unauthorized, both},
		{404, 503, both, run.ServerError, both},
		{404, 429, both, run.RateLimited, both},
		{299, 299, both, run.Unusable, both},
		{401, 200, first, run.Unauthorized, first},
		{503, 200, first, run.ServerError, first},
		{429, 200, first, run.RateLimited, first},
	} {
		p.set(c.apps, c.flows)
		client := autoClient(t, srv.URL)
		_, err := client.Get(t.Context(), runID)
		if c.want == "" && err != nil || c.want != "" && refusal(t, err).Kind != c.want {
			t.Errorf("%d and %d: %v, want %q", c.apps, c.flows, err, c.want)
		}
		if diff := cmp.Diff(c.asked, p.took()); diff != "" {
			t.Errorf("%d and %d: %s", c.apps, c.flows, diff)
		}
		if _, err := client.Get(t.Context(), runID); (err == nil) != (c.want == "") {
			t.Errorf("%d and %d, then: %v", c.apps, c.flows, err)
		}
		if diff := cmp.Diff(c.then, p.took()); diff != "" {
			t.Errorf("%d and %d, then: %s", c.apps, c.flows, diff)
		}
	}
}

func TestCase_D3_ARefusalOfBothPathsNamesBoth(t *testing.T) {
	p := &places{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.set(403, 404)
	_, err := autoClient(t, srv.URL).Get(t.Context(), runID)
	if got, want := refusal(t, err).Error(), "not found (HTTP 404): HTTP 403 at /v1/ai/apps/runs, HTTP 404 at /v1/ai/flows/runs"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCase_D3_ThePathIsRememberedWithItsKey(t *testing.T) {
	p := &places{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.set(404, 200)
	proven := map[string]bool{}
	remember := func(c *Client) *Client {
		c.Remember("salt", func(f string) bool { return proven[f] })
		return c
	}
	c := remember(autoClient(t, srv.URL))
	before := c.Fingerprint("salt")
	if _, err := c.Get(t.Context(), runID); err != nil {
		t.Fatal(err)
	}
	p.took()
	proven[c.Fingerprint("salt")] = true
	if before == c.Fingerprint("salt") {
		t.Error("what was not found out yet has the fingerprint of a path")
	}

	// After a restart it is asked at once, and alone: its 404 counts.
	p.set(200, 404)
	c = remember(autoClient(t, srv.URL))
	_, err := c.Get(t.Context(), runID)
	if r := refusal(t, err); r.Kind != run.NotFound || !slices.Equal(p.took(), []string{"flows"}) {
		t.Errorf("after a restart: %v", r)
	}
	// The same key again changes nothing; another one starts from the first path; the
	// first one is still known.
	for _, step := range []struct {
		key  string
		want []string
	}{{testKey, []string{"flows"}}, {"another-key", []string{"apps"}}, {testKey, []string{"flows"}}} {
		c.SetKey(step.key)
		_, _ = c.Get(t.Context(), runID)
		if got := p.took(); !slices.Equal(got, step.want) {
			t.Errorf("with %s: %q, want %q", step.key, got, step.want)
		}
	}
}

// While nothing has answered each request costs one of the budget.
func TestCase_D3_BothRequestsAreOfTheBudget(t *testing.T) {
	p := &places{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.set(404, 404)
	c := autoClient(t, srv.URL)
	c.Configure(Config{Rate: 1, Burst: 20, Timeout: 10 * time.Second})
	_, before := c.Budget()
	for range 5 {
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Get(t.Context(), runID)
	}
	if _, left := c.Budget(); before-left < 8 || len(p.took()) != 10 {
		t.Errorf("%v of the budget went out", before-left)
	}
}
