package server_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhookKey is what webhookSecret stands for.
func webhookKey() []byte {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(webhookSecret, "whsec_"))
	if err != nil {
		panic(err)
	}
	return key
}

// poked are the runs that were to be polled at once.
type poked struct {
	ids []run.ID
	err error
}

func (p *poked) Poke(_ context.Context, id run.ID) error {
	p.ids = append(p.ids, id)
	return p.err
}

// delivery is a signed request, as the API sends it.
func delivery(t *testing.T, id string, sent time.Time, body string) *http.Request {
	t.Helper()
	signer, err := webhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(id, sent, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return request("POST", "/webhooks/magnific", body, "Host", "hooks.example", "Content-Type", "application/json",
		"webhook-id", id, "webhook-timestamp", strconv.FormatInt(sent.Unix(), 10), "webhook-signature", signature)
}

// dropped is what stands in the drop directory.
func dropped(t *testing.T, s *server.Server) (text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.DropDir, "add-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text += string(data)
	}
	return text
}

func TestAWebhookHandsAnUnknownRunInAndHasAKnownOnePolled(t *testing.T) {
	for name, body := range map[string]string{
		"run_id":        `{"event": "finished", "run_id": "%", "result": {"images": []}}`,
		"data.run_id":   `{"type": "finished", "data": {"run_id": "%"}}`,
		"workflow":      `{"workflow_run_identifier": "%"}`,
		"data.workflow": `{"data": {"workflow_run_identifier": "%"}, "run_id": 7}`,
		"data is text":  `{"data": "initialized", "run_id": "%"}`,
	} {
		var p poked
		s := guarded(t, server.Tokens{All: allToken}, func(d *server.Deps) { d.Poker = &p })
		w := answer(s.Handler(), delivery(t, "msg_1", time.Now(), strings.ReplaceAll(body, "%", "unknown001")))
		if w.Code != http.StatusAccepted || dropped(t, s) != "unknown001\n" || len(p.ids) != 0 {
			t.Errorf("%s: unknown: %d %s, handed in %q, polled %v", name, w.Code, w.Body, dropped(t, s), p.ids)
		}
		w = answer(s.Handler(), delivery(t, "msg_2", time.Now(), strings.ReplaceAll(body, "%", "run000001")))
		if w.Code != http.StatusAccepted || len(p.ids) != 1 || p.ids[0] != "run000001" || dropped(t, s) != "unknown001\n" {
			t.Errorf("%s: known: %d %s, polled %v", name, w.Code, w.Body, p.ids)
		}
	}
}

func TestAWebhookThatIsNotGenuineIsRefused(t *testing.T) {
	const body = `{"run_id": "unknown001"}`
	now := time.Now()
	for name, spoil := range map[string]func(*http.Request) *http.Request{
		"no signature":       func(r *http.Request) *http.Request { r.Header.Del("webhook-signature"); return r },
		"no ID":              func(r *http.Request) *http.Request { r.Header.Del("webhook-id"); return r },
		"no timestamp":       func(r *http.Request) *http.Request { r.Header.Del("webhook-timestamp"); return r },
		"another ID":         func(r *http.Request) *http.Request { r.Header.Set("webhook-id", "msg_2"); return r },
		"another time":       func(r *http.Request) *http.Request { r.Header.Set("webhook-timestamp", "1"); return r },
		"another signature":  func(r *http.Request) *http.Request { r.Header.Set("webhook-signature", "v1,AAAA"); return r },
		"a version we don't": func(r *http.Request) *http.Request { r.Header.Set("webhook-signature", "v9,AAAA"); return r },
		"another body": func(r *http.Request) *http.Request {
			other := request("POST", "/webhooks/magnific", `{"run_id": "unknown002"}`)
			other.Header = r.Header
			return other
		},
		"too old":    func(*http.Request) *http.Request { return delivery(t, "msg_1", now.Add(-6*time.Minute), body) },
		"from later": func(*http.Request) *http.Request { return delivery(t, "msg_1", now.Add(6*time.Minute), body) },
	} {
		s := guarded(t, server.Tokens{})
		w := answer(s.Handler(), spoil(delivery(t, "msg_1", now, body)))
		if w.Code != http.StatusUnauthorized || dropped(t, s) != "" {
			t.Errorf("%s: %d %s, handed in %q", name, w.Code, w.Body, dropped(t, s))
		}
	}
	s := guarded(t, server.Tokens{})
	r := delivery(t, "msg_1", now, body)
	wrong := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	r.Header.Set("webhook-signature", wrong+" "+r.Header.Get("webhook-signature")) // the secret is being changed
	if w := answer(s.Handler(), r); w.Code != http.StatusAccepted {
		t.Errorf("one of two signatures fits: %d %s", w.Code, w.Body)
	}
}

func TestTheServersClockJudgesHowOldAWebhookIs(t *testing.T) {
	ahead := time.Now().Add(time.Hour)
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Clock = func() time.Time { return ahead } })
	if w := answer(s.Handler(), delivery(t, "msg_1", ahead, `{"run_id": "unknown001"}`)); w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAReplayIsRefusedAndAMessageSentAgainIsNot(t *testing.T) {
	var p poked
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Poker = &p })
	const body = `{"run_id": "run000001"}`
	sent := time.Now().Add(-time.Minute)
	for i, c := range []struct {
		id   string
		sent time.Time
		code int
	}{
		{"msg_1", sent, http.StatusAccepted},
		{"msg_1", sent, http.StatusConflict},                  // somebody who has recorded it
		{"msg_1", sent.Add(30 * time.Second), http.StatusOK},  // its sender, who did not get our answer
		{"msg_2", sent.Add(time.Second), http.StatusAccepted}, // another one of the same run
	} {
		if w := answer(s.Handler(), delivery(t, c.id, c.sent, body)); w.Code != c.code {
			t.Errorf("delivery %d: %d %s, want %d", i, w.Code, w.Body, c.code)
		}
	}
	if len(p.ids) != 2 {
		t.Errorf("polled %d times, want 2", len(p.ids))
	}
}

func TestAWebhookThatCouldNotBeTakenIsAskedForAgain(t *testing.T) {
	p := poked{err: errors.New("the queue is full")}
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Poker, d.DropDir = &p, filepath.Join(t.TempDir(), "gone") })
	for _, id := range []string{"run000001", "unknown001"} {
		w := answer(s.Handler(), delivery(t, "msg_"+id, time.Now(), `{"run_id": "`+id+`"}`))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
	p.err = nil // and then it is taken, although it is the same message
	if w := answer(s.Handler(), delivery(t, "msg_run000001", time.Now(), `{"run_id": "run000001"}`)); w.Code != http.StatusAccepted {
		t.Errorf("again: %d %s", w.Code, w.Body)
	}
}

func TestAWebhookThatNamesNoRunIsTold(t *testing.T) {
	var told []run.Event
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Tell = func(e run.Event) { told = append(told, e) } })
	for i, body := range []string{`{}`, `{"run_id": "../../x"}`, `[]`, `not JSON`, `{"run_id": null, "data": [1]}`} {
		if w := answer(s.Handler(), delivery(t, "msg_"+strconv.Itoa(i), time.Now(), body)); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if len(told) != 5 || told[0].Kind != run.WebhookOdd {
		t.Errorf("told %v", told)
	}
}

func TestWithoutASecretThereIsNoReceiver(t *testing.T) {
	s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.WebhookKeys = nil })
	if w := answer(s.Handler(), delivery(t, "msg_1", time.Now(), `{"run_id": "unknown001"}`)); w.Code != http.StatusNotFound {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func FuzzAWebhooksBodyNamesAValidRunOrNone(f *testing.F) {
	for _, body := range []string{`{"run_id": "unknown001"}`, `{"data": {"run_id": 7}}`, `{"data": null}`, ``, `"x"`, `{"run_id": {"run_id": "abcd"}}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := guarded(t, server.Tokens{})
		w := answer(s.Handler(), delivery(t, "msg_1", time.Now(), body))
		switch id := strings.TrimSuffix(dropped(t, s), "\n"); {
		case w.Code == http.StatusAccepted && (run.ValidID(id) || id == ""): // known ones are not handed in
		case w.Code == http.StatusUnprocessableEntity && id == "":
		default:
			t.Errorf("%q: %d %s, handed in %q", body, w.Code, w.Body, id)
		}
	})
}
