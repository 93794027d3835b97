package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

const (
	ownersToken   = "owners-token-0123456789"
	addersToken   = "adders-token-0123456789"
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// listener is a daemon that serves an address, with tokens and the webhook receiver.
type listener struct {
	*rig
	url string
}

func newListener(t *testing.T, settings ...string) *listener {
	t.Helper()
	addr := freeAddr(t)
	r := newRig(t, append([]string{"server.listen=" + addr}, settings...))
	for file, text := range map[string]string{"owners": ownersToken, "adders": addersToken, "signing": signingSecret} {
		plant(t, filepath.Join(r.dir, file), text+"\n")
	}
	r.settings = append(r.settings, "server.token_file="+filepath.Join(r.dir, "owners"),
		"server.add_token_file="+filepath.Join(r.dir, "adders"), "webhook.secret_file="+filepath.Join(r.dir, "signing"))
	return &listener{r, "http://" + addr}
}

// ask makes a request with a token, and returns the answer's status and body.
func (l *listener) ask(method, path, token, body string, headers ...string) (int, string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestARunIsHandedInOverHTTPFollowedAndSeen(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	if err := l.sim.AddRun("http000001", simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
		t.Fatal(err)
	}
	p := l.start().ready()
	events := l.follow()
	if code, body := l.ask("POST", "/api/v1/runs", addersToken, `{"run_id": "http000001", "labels": {"shot": "12"}}`, "Content-Type", "application/json"); code != http.StatusAccepted {
		t.Fatalf("handed in: %d %s", code, body)
	}
	events.waitFor(string(run.RunSettled), "http000001")
	for token, want := range map[string]int{ownersToken: http.StatusOK, addersToken: http.StatusForbidden, "": http.StatusUnauthorized} {
		code, body := l.ask("GET", "/api/v1/runs/http000001", token, "")
		if code != want || code == http.StatusOK && (!strings.Contains(body, `"state":"stored"`) || !strings.Contains(body, `"shot":"12"`)) {
			t.Errorf("with %q: %d %s", token, code, body)
		}
	}
	if code, body := l.ask("GET", "/api/v1/status", ownersToken, ""); code != http.StatusOK || !strings.Contains(body, `"stored":1`) {
		t.Errorf("status: %d %s", code, body)
	}
	if code, _ := l.ask("GET", "/healthz", "", ""); code != http.StatusOK {
		t.Errorf("healthz without a token: %d", code)
	}
	if code := p.stop(); code != 0 { // with a stream that is open
		t.Errorf("exit %d", code)
	}
}

func TestAWebhookAloneBringsARunHome(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	if err := l.sim.AddRun("hook000001", simulator.App("app1"), simulator.Video("v", 50_000)); err != nil {
		t.Fatal(err)
	}
	p := l.start().ready()
	const body = `{"event": "finished", "run_id": "hook000001", "result": {"images": [], "videos": [{"url": "https://evil.example/x"}]}}`
	signer, err := webhooks.NewWebhook(signingSecret)
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	signature, err := signer.Sign("msg_1", sent, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	headers := []string{"webhook-id", "msg_1", "webhook-timestamp", strconv.FormatInt(sent.Unix(), 10), "webhook-signature", signature}
	if code, text := l.ask("POST", "/webhooks/magnific", "", body+" ", headers...); code != http.StatusUnauthorized {
		t.Errorf("another body: %d %s", code, text)
	}
	if code, text := l.ask("POST", "/webhooks/magnific", "", body, headers...); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := l.ask("POST", "/webhooks/magnific", "", body, headers...); code != http.StatusConflict {
		t.Errorf("replayed: %d %s", code, text)
	}
	l.waitSettled(1, time.Minute)
	if stdout, _, code := l.output("show", "hook000001", "--json"); code != 0 || !strings.Contains(stdout, `"state":"stored"`) {
		t.Errorf("%d %s", code, stdout)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestATokenThatIsNoneKeepsTheDaemonFromStarting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ setting, text, says string }{
		"short":     {"server.token_file", "secret", "can be guessed"},
		"empty":     {"server.add_token_file", "\n", "is empty"},
		"two lines": {"server.token_file", ownersToken + "\n" + addersToken, "write the secret into it and nothing else"},
		"guessable": {"webhook.secret_file", "whsec_c2hvcnQ=", "can be guessed"},
	} {
		r := newRig(t, nil)
		file := filepath.Join(r.dir, "token")
		plant(t, file, c.text)
		_, stderr, code := r.output("run", "--set", c.setting+"="+file)
		if code != exitConfig || !strings.Contains(stderr, c.says) || strings.Contains(stderr, strings.TrimSpace(c.text)) && len(c.text) > 2 {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
	}
}

// following is a stream of events that is read as it comes.
type following struct {
	l    *listener
	body *bufio.Scanner
}

func (l *listener) follow() *following {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.url+"/api/v1/events", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+ownersToken)
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { resp.Body.Close() })
	f := &following{l, bufio.NewScanner(resp.Body)}
	if !f.body.Scan() || resp.StatusCode != http.StatusOK { // its first line: it is there
		l.t.Fatalf("events: HTTP %d, %v", resp.StatusCode, f.body.Err())
	}
	return f
}

// waitFor reads until an event of a kind comes for a run.
func (f *following) waitFor(kind string, id run.ID) {
	f.l.t.Helper()
	for f.body.Scan() {
		line := f.body.Text()
		if strings.Contains(line, fmt.Sprintf("%q:%q", "kind", kind)) && strings.Contains(line, string(id)) {
			return
		}
	}
	f.l.t.Fatalf("the stream ended before %q: %v", kind, f.body.Err())
}

// The vendor's way to sign: the bytes of the secret, and which secret by version.
func TestCase_D1_AWebhookSignedWithTheSecretsBytesIsBelieved(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	current := strings.Repeat("0123456789abcdef", 4)
	plant(t, filepath.Join(l.dir, "signing"), "# until the key is rotated\n"+signingSecret+"\r\n\n"+current+"\n")
	p := l.start().ready()
	foreign := simulator.WebhookSecret{Text: strings.Repeat("fedcba9876543210", 4)}
	status := 0
	for id, c := range map[run.ID]struct {
		secrets []simulator.WebhookSecret
		code    int
	}{
		"bytes00001": {[]simulator.WebhookSecret{{Text: current}}, http.StatusAccepted},
		"second0001": {[]simulator.WebhookSecret{foreign, {Text: current}}, http.StatusAccepted},
		"base640001": {[]simulator.WebhookSecret{foreign, {Text: signingSecret, Decoded: true}}, http.StatusAccepted},
		"foreign001": {[]simulator.WebhookSecret{foreign, foreign}, http.StatusUnauthorized},
	} {
		if err := l.sim.AddRun(id, simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
			t.Fatal(err)
		}
		w := simulator.Webhook{To: l.url + "/webhooks/magnific", ID: "msg_" + string(id), Event: simulator.EventInitialized, Secrets: c.secrets}
		var err error
		for range 200 { // the address is opened while the daemon gets ready
			if status, err = l.sim.Deliver(t.Context(), id, w); err == nil {
				break
			}
			pause(t, 25*time.Millisecond)
		}
		if status != c.code || err != nil {
			t.Errorf("%s: %d, %v, want %d", id, status, err, c.code)
		}
	}
	l.waitSettled(3, time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}
