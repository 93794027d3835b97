package simulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// The events of a run's webhook.
const (
	EventInitialized = "initialized"
	EventFinished    = "finished"
	EventFailed      = "failed"
)

// WebhookSecret is what a delivery is signed with.
type WebhookSecret struct {
	Text string // as it is shown to the account's owner
	// Decoded has the key be what Text stands for in base64, after an optional whsec_, as
	// Standard Webhooks has it. Else the key is the bytes of Text, as the vendor documents.
	Decoded bool
}

// key is the key of the HMAC.
func (s WebhookSecret) key() ([]byte, error) {
	if !s.Decoded {
		return []byte(s.Text), nil
	}
	return base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Text, "whsec_"))
}

// Webhook is one delivery. The signatures are v1,… v2,… in the order of the secrets, each
// version naming which secret signed.
type Webhook struct {
	To      string // URL
	ID      string // of the message
	Event   string
	Secrets []WebhookSecret
}

// Deliver sends a webhook about a run as the API does when the run starts or ends, by the
// API's clock, and returns the status of the answer. What it says of the run is how the run
// ends, whatever was polled. A delivery is sent once: the caller sends it again.
func (s *Sim) Deliver(ctx context.Context, id run.ID, w Webhook) (status int, err error) {
	body, at, err := s.webhookBody(id, w.Event)
	if err != nil {
		return 0, err
	}
	sent := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for i, secret := range w.Secrets {
		key, err := secret.key()
		if err != nil {
			return 0, fmt.Errorf("secret %d: %w", i+1, err)
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", w.ID, sent, body)
		signatures = append(signatures, fmt.Sprintf("v%d,%s", i+1, base64.StdEncoding.EncodeToString(mac.Sum(nil))))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.To, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "webhook-id": w.ID, "webhook-timestamp": sent, "webhook-signature": strings.Join(signatures, " "),
	} {
		r.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// webhookBody is what a webhook says of a run, and when.
func (s *Sim) webhookBody(id run.ID, event string) (body []byte, at time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[id]
	if r == nil {
		return nil, time.Time{}, fmt.Errorf("run %s is not there", id)
	}
	doc := map[string]any{"event": event, "run_id": r.answerID}
	if event == EventFinished {
		listings := r.listings
		doc["result"] = r.result(r.phases[len(r.phases)-1])
		r.listings = listings // this is no poll
	}
	return encodeJSON(doc), s.apiTime(), nil
}
