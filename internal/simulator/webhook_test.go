package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDeliver_SignsWithEachSecretInItsOwnWay(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.AddRun("webhook01", Image("img1", 1000)); err != nil {
		t.Fatal(err)
	}
	const raw, standard = "0123456789abcdef0123456789abcdef", "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var want []string
		for _, c := range [][2]string{{"v1", raw}, {"v2", "0123456789abcdef"}} {
			mac := hmac.New(sha256.New, []byte(c[1]))
			mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(body)))
			want = append(want, c[0]+","+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		}
		if got := r.Header.Get("webhook-signature"); got != strings.Join(want, " ") || r.Header.Get("webhook-id") != "msg_1" {
			t.Errorf("%v, want %s", r.Header, want)
		}
		var said struct {
			Event  string
			RunID  string `json:"run_id"`
			Result struct{ Images []struct{ URL string } }
		}
		if err := json.Unmarshal(body, &said); err != nil || said.Event != EventFinished || said.RunID != "webhook01" || len(said.Result.Images) != 1 {
			t.Errorf("%s: %v", body, err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer receiver.Close()
	w := Webhook{To: receiver.URL, ID: "msg_1", Event: EventFinished, Secrets: []WebhookSecret{{Text: raw}, {Text: standard, Decoded: true}}}
	if status, err := s.Deliver(t.Context(), "webhook01", w); status != http.StatusAccepted || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	if _, err := s.Deliver(t.Context(), "unknown01", w); err == nil {
		t.Error("an unknown run was delivered")
	}
}
