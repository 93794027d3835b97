package notify

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/assetd/assetd/internal/run"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func poster(t *testing.T, url, secret string) *post {
	t.Helper()
	p, err := newPost(url, secret, 30*time.Second, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func TestAPostIsSignedAsStandardWebhooksHasIt(t *testing.T) {
	receiver, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := receiver.Verify(body, r.Header); err != nil {
			t.Error(err)
		} else {
			verified++
		}
		if receiver.Verify(append(body, ' '), r.Header) == nil {
			t.Error("verifies another body")
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("webhook-id") != "key-1" || r.URL.RawQuery != "token=1" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "word" {
			t.Errorf("user %q", user)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	url := strings.Replace(server.URL, "http://", "http://me:word@", 1) + "/hook?token=1"
	m := composed(t, run.Notice{Kind: run.RunStored, At: noon(), Run: "abcd"}, run.Run{})
	if err := poster(t, url, secret).send(t.Context(), m); err != nil || verified != 1 {
		t.Errorf("%v, verified %d", err, verified)
	}
}

func TestWithoutASecretAPostIsNotSigned(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-signature") != "" || r.Header.Get("webhook-id") != "key-1" || r.Header.Get("webhook-timestamp") == "" {
			t.Errorf("%v", r.Header)
		}
	}))
	defer server.Close()
	if err := poster(t, server.URL, "").send(t.Context(), composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})); err != nil {
		t.Error(err)
	}
}

func TestOnlyA2xxSaysThatAPostWasTaken(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/moved":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/cut":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	for path, want := range map[string]refusal{
		"/busy": {wait: 7 * time.Second, err: errors.New("HTTP 503")}, "/gone": {gone: true, err: errors.New("HTTP 410")},
		"/moved": {err: errors.New("HTTP 307")}, "/cut": {err: errors.New("EOF")},
	} {
		err := poster(t, server.URL+path+"?plantedsecret", "").send(t.Context(), composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{}))
		var got *refusal
		if errors.As(err, &got) && (got.gone != want.gone || got.wait != want.wait) || err == nil || err.Error() != want.err.Error() {
			t.Errorf("%s: %v", path, err)
		}
	}
	if elsewhere != 0 {
		t.Errorf("followed to another server %d times", elsewhere)
	}
}

func TestNoErrorShowsWhatTheURLHoldsAndAStopIsNoFailure(t *testing.T) {
	nobody := httptest.NewServer(nil)
	nobody.Close()
	p := poster(t, strings.Replace(nobody.URL, "http://", "http://plantedsecret:plantedsecret@", 1)+"/plantedsecret?plantedsecret", "")
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	err := p.send(t.Context(), m)
	if err == nil || strings.Contains(err.Error()+p.name(), "plantedsecret") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, %s", err, p.name())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.send(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"not base64 plantedsecret", "whsec_plantedsecret!"} {
		if _, err := newPost("https://x.example/plantedsecret", bad, time.Second, time.Now); err == nil || strings.Contains(err.Error(), "plantedsecret") {
			t.Errorf("%v", err)
		}
	}
	if _, err := newPost("http://plantedsecret@:x\x7f", "", time.Second, time.Now); err == nil || strings.Contains(err.Error(), "plantedsecret") {
		t.Errorf("%v", err)
	}
}
