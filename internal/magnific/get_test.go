package magnific

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

const runID = run.ID("omps2OH829")

// api serves handler and gives a client for it.
func api(t *testing.T, handler http.HandlerFunc) (*Client, *events) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	told := &events{}
	return newClient(t, srv.URL, told), told
}

func refusal(t *testing.T, err error) *run.Refusal {
	t.Helper()
	var r *run.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%T %v, want a refusal", err, err)
	}
	return r
}

func TestTheCallIsTheDocumentedOne(t *testing.T) {
	var got *http.Request
	date := time.Now().UTC().Truncate(time.Second).Add(3 * time.Minute)
	c, told := api(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Date", date.Format(http.TimeFormat))
		fmt.Fprint(w, `{"data":{"run_id":"omps2OH829","status":"running","app_id":"app"}}`)
	})
	a, err := c.Get(t.Context(), runID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run.Answer{Run: runID, App: "app", Status: run.Running, Date: date}, a); diff != "" {
		t.Error(diff)
	}
	if got.Method != http.MethodGet || got.URL.String() != "/v1/ai/apps/runs/omps2OH829" {
		t.Errorf("%s %s", got.Method, got.URL)
	}
	want := http.Header{
		"X-Magnific-Api-Key": {testKey}, "Accept": {"application/json"},
		"Accept-Encoding": {"identity"}, "User-Agent": {"assetd"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Error(diff)
	}
	if skew, ok := c.clock.Skew(c.Host()); !ok || (skew-3*time.Minute).Abs() > 2*time.Second {
		t.Errorf("the clock was not told: %v %v", skew, ok)
	}
	if _, err := c.Get(t.Context(), runID); err != nil {
		t.Fatal(err)
	}
	if e := told.of(run.ClockSkewed); len(e) != 1 || e[0].Note != "the local clock is 3m0s behind the server's" &&
		e[0].Note != "the local clock is 3m1s behind the server's" {
		t.Errorf("skew told: %+v", e)
	}
}

func TestEachStatusIsItsRefusal(t *testing.T) {
	for status, want := range map[int]run.RefusalKind{
		401: run.Unauthorized, 403: run.Forbidden, 404: run.NotFound, 429: run.RateLimited,
		500: run.ServerError, 502: run.ServerError, 503: run.ServerError, 504: run.ServerError, 599: run.ServerError,
		201: run.Unusable, 204: run.Unusable, 206: run.Unusable,
		301: run.Unusable, 302: run.Unusable, 304: run.Unusable, 307: run.Unusable, 308: run.Unusable,
	} {
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if status != 204 && status != 304 {
				fmt.Fprint(w, `{"message":"it is so"}`)
			}
		})
		_, err := c.Get(t.Context(), runID)
		r := refusal(t, err)
		if r.Kind != want || r.Status != status || time.Since(r.Date).Abs() > time.Minute {
			t.Errorf("%d: %+v", status, r)
		}
		if status >= 400 && !strings.Contains(r.Error(), "it is so") {
			t.Errorf("%d does not say what the server said: %v", status, r)
		}
	}
}

func TestCase_A12_AnyOther4xxIsAboutTheRun(t *testing.T) {
	others := map[int]run.RefusalKind{
		401: run.Unauthorized, 403: run.Forbidden, 404: run.NotFound, 408: run.ServerError, 425: run.ServerError, 429: run.RateLimited,
	}
	status := 400
	c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	for ; status < 500; status++ {
		want := others[status]
		if want == "" {
			want = run.Rejected
		}
		_, err := c.Get(t.Context(), runID)
		if r := refusal(t, err); r.Kind != want || r.Status != status {
			t.Errorf("%d: %+v, want %q", status, r, want)
		}
	}
}

func TestErrorBodiesInEveryFormThatOccursAreQuoted(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":"it ran out"}`:                                                             "it ran out",
		`{"error":"it ran out"}`:                                                               "it ran out",
		`{"error":{"code":410,"message":"it ran out"}}`:                                        "it ran out",
		`{"errors":[{"detail":"it ran out"},{"detail":"second"}]}`:                             "it ran out",
		`{"type":"https://h/problems/gone","title":"Gone","status":410,"detail":"it ran out"}`: "it ran out",
		`{"type":"about:blank","title":"it ran out","status":410}`:                             "it ran out",
		`{"detail":[{"loc":["path","id"],"msg":"it ran out","type":"value_error"}]}`:           "it ran out",
		`{"message":["it ran out"],"statusCode":410}`:                                          "it ran out",
		"\uFEFF" + `{"score":NaN,"message":" it ran out\n"}` + "\x00\x00":                      "it ran out",
		`{"message":null,"detail":"see https://h/x?token=s3cret"}`:                             "see https://h/x",
		`<html>gone</html>`: "Gone",
		``:                  "Gone",
		`{"message":""}`:    "Gone",
		`[]`:                "Gone",
		`{"a":`:             "Gone",
	} {
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, body)
		})
		_, err := c.Get(t.Context(), runID)
		if got := refusal(t, err).Error(); got != "run refused (HTTP 410): "+want {
			t.Errorf("%s: %s", body, got)
		}
	}
}

func TestASuccessOtherThan200IsReadLikeOne(t *testing.T) {
	for _, status := range []int{201, 202, 203} {
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"data":{"run_id":"omps2OH829","status":"pending"}}`)
		})
		if a, err := c.Get(t.Context(), runID); err != nil || a.Status != run.Pending {
			t.Errorf("%d: %+v, %v", status, a, err)
		}
	}
}

func TestRetryAfterComesWithTheRefusal(t *testing.T) {
	date := time.Now().UTC().Truncate(time.Second).Add(-time.Hour) // by the server's clock, not ours
	for value, want := range map[string]time.Duration{
		"17": 17 * time.Second, date.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		"whenever": 0, "99999999": 15 * time.Minute,
	} {
		for _, status := range []int{429, 503} {
			c, told := api(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				w.Header().Set("Retry-After", value)
				w.WriteHeader(status)
			})
			_, err := c.Get(t.Context(), runID)
			if r := refusal(t, err); r.RetryAfter != want || !r.Date.Equal(date) {
				t.Errorf("%d %q: %+v", status, value, r)
			}
			held := max(c.budget.held(time.Now()), 0)
			if status == 503 {
				want = 0 // one run's trouble holds nobody else back
			}
			if (held - want).Abs() > 5*time.Second {
				t.Errorf("%d %q: all held back for %v", status, value, held)
			}
			if lowered := told.of(run.RateLowered); len(lowered) != map[int]int{429: 1, 503: 0}[status] {
				t.Errorf("%d: told %+v", status, lowered)
			}
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer other.Close()
	c, _ := api(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed.Add(1)
		}
		http.Redirect(w, r, other.URL+"/elsewhere?token=s3cret&k="+r.Header.Get(keyHeader), http.StatusTemporaryRedirect)
	})
	_, err := c.Get(t.Context(), runID)
	r := refusal(t, err)
	if r.Kind != run.Unusable || r.Status != 307 || !strings.Contains(r.Error(), "redirect") {
		t.Errorf("%v", r)
	}
	if strings.Contains(r.Error(), "s3cret") || strings.Contains(r.Error(), testKey) || followed.Load() != 0 {
		t.Errorf("%v, followed %d times", r, followed.Load())
	}
}

func TestErrorsHoldNeitherKeyNorQuery(t *testing.T) {
	for _, said := range []string{
		"the key " + testKey + " is unknown", "unknown: " + strings.ToUpper(testKey), "key " + testKey[:12] + "... was revoked",
		"see https://h/x?token=s3cret", "a token=s3cret b", "line\nbreak\x00\u202e end",
	} {
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"message":%q}`, said)
		})
		_, err := c.Get(t.Context(), runID)
		text := refusal(t, err).Error()
		if strings.Contains(strings.ToLower(text), testKey[:12]) || strings.Contains(text, "s3cret") || strings.ContainsAny(text, "\n\x00\u202e") {
			t.Errorf("%q", text)
		}
	}
	c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"run_id":"https://h/?token=s3cret-%s","status":"running"}`, testKey)
	})
	_, err := c.Get(t.Context(), runID)
	if text := refusal(t, err).Error(); strings.Contains(text, "s3cret") || strings.Contains(text, testKey) {
		t.Errorf("%q", text)
	}
}

func TestAnUnreachableAPIIsSaidToBe(t *testing.T) {
	c, _ := api(t, func(http.ResponseWriter, *http.Request) {})
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("dial tcp: connection refused")
	}
	for range stale + 1 {
		_, err := c.Get(t.Context(), runID)
		r := refusal(t, err)
		if r.Kind != run.Unreachable || r.Status != 0 || !r.Date.IsZero() || r.Cause.Error() != "dial tcp: connection refused" {
			t.Errorf("%+v", r)
		}
	}
}

// dead is a transport over which nothing is answered.
type dead struct{ givenUp int }

func (d *dead) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
func (d *dead) CloseIdleConnections()                           { d.givenUp++ }

func TestIdleConnectionsAreGivenUpWhereCallsKeepFailing(t *testing.T) {
	c := newClient(t, "https://api.test", nil)
	d := &dead{}
	c.http.Transport = d
	for n := range stale + 1 {
		if _, err := c.Get(t.Context(), runID); refusal(t, err).Kind != run.Unreachable {
			t.Fatal(err)
		}
		if want := max(0, n+2-stale); d.givenUp != want {
			t.Errorf("after %d failures: given up %d times", n+1, d.givenUp)
		}
	}
}

func TestWithoutAUsableKeyNothingIsSent(t *testing.T) {
	var asked atomic.Int32
	c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, `{"status":"running"}`)
	})
	for key, want := range map[string]string{"": "api.key_file", "two\nlines": "line break", "sp ace": "space", "é": "byte"} {
		c.SetKey(key)
		_, err := c.Get(t.Context(), runID)
		if r := refusal(t, err); r.Kind != run.Unauthorized || !strings.Contains(r.Error(), want) || key != "" && strings.Contains(r.Error(), key) {
			t.Errorf("%q: %v", key, r)
		}
	}
	c.SetKey(testKey)
	if _, err := c.Get(t.Context(), "../admin"); refusal(t, err).Kind != run.Unusable {
		t.Errorf("%v", err)
	}
	if asked.Load() != 0 {
		t.Errorf("%d requests went out", asked.Load())
	}
	if _, err := c.Get(t.Context(), runID); err != nil || asked.Load() != 1 {
		t.Errorf("with a key again: %v", err)
	}
}

func TestADateThatCannotBeBelievedIsReplacedByTheKnownClock(t *testing.T) {
	for name, header := range map[string]http.Header{
		"none":       {"Date": nil},
		"garbage":    {"Date": {"yesterday"}},
		"1970":       {"Date": {"Thu, 01 Jan 1970 00:00:00 GMT"}},
		"from cache": {"Date": {time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}, "Age": {"3600"}},
	} {
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header()[k] = v
			}
			fmt.Fprint(w, `{"status":"running"}`)
		})
		a, err := c.Get(t.Context(), runID)
		if err != nil || time.Since(a.Date).Abs() > time.Minute {
			t.Errorf("%s: %v %v", name, a.Date, err)
		}
	}
}

func TestTheProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "api.test" {
			proxied.Add(1)
		}
		fmt.Fprint(w, `{"status":"running"}`)
	}))
	defer proxy.Close()
	if c := newClient(t, "http://api.test", nil); c.http.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy nobody configured")
	}
	cfg := config("http://api.test")
	cfg.Proxy = proxy.URL
	c, err := New(cfg, testKey, newClient(t, "http://api.test", nil).clock, (&events{}).tell)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(t.Context(), runID); err != nil || proxied.Load() != 1 {
		t.Errorf("through the configured proxy: %d, %v", proxied.Load(), err)
	}
}

func TestConfigureChangesTheTimeout(t *testing.T) {
	block := make(chan struct{})
	c, _ := api(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	defer close(block)
	cfg := config(c.base.String())
	cfg.Timeout = 20 * time.Millisecond
	c.Configure(cfg)
	_, err := c.Get(t.Context(), runID)
	if r := refusal(t, err); r.Kind != run.Unreachable || !strings.Contains(r.Error(), "api.timeout (20ms)") {
		t.Errorf("%v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, runID); err != context.Canceled {
		t.Errorf("%v, want the context's own error", err)
	}
}

func TestTheAPIIsAskedOverHTTP2(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":%q}`, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger := newClient(t, srv.URL, nil)
	if _, err := stranger.Get(t.Context(), runID); refusal(t, err).Kind != run.Unreachable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate nobody signed: %v", err)
	}
	c := newClient(t, srv.URL, nil)
	c.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	a, err := c.Get(t.Context(), runID)
	if err != nil || a.Status != "HTTP/2.0" {
		t.Errorf("%q %v", a.Status, err)
	}
}
