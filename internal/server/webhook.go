package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/pyjson"
	"github.com/assetd/assetd/internal/run"
)

const webhookPath = "/webhooks/magnific"

// tolerance is how old, or how far ahead, a delivery's timestamp may be, as the
// Standard Webhooks specification has it; deliveriesKept is how many are remembered
// until they are too old to come again.
const (
	tolerance      = 5 * time.Minute
	deliveriesKept = 20_000
	webhookBytes   = 4 << 20 // a payload can carry a whole result
)

// Poker has a run polled at once that is known already.
type Poker interface {
	Poke(ctx context.Context, id run.ID) error
}

// receiver takes the API's webhooks: signed as in the Standard Webhooks specification
// (https://github.com/standard-webhooks/standard-webhooks). What it is told is a hint to
// poll a run now, never the truth.
type receiver struct {
	server *Server
	keys   [][]byte // any of which may have signed

	mu   sync.Mutex
	seen map[string]delivery // by ID
}

// delivery is one that was taken.
type delivery struct {
	run   run.ID
	sent  string // its timestamp: another one means that the sender sent it again
	until time.Time
}

// receive answers 2xx only once the run is safe: known, or in a drop file on the disk.
// Until then the same message may come again as it will. After that the very same
// request is a replay and refused; the same message with another timestamp is the
// sender's retry, whose first answer was lost: it gets 2xx again, and nothing is done.
func (v *receiver) receive(w http.ResponseWriter, r *http.Request) {
	body, ok := v.server.body(w, r, webhookBytes)
	if !ok {
		return
	}
	now := v.server.Clock()
	id, sent := r.Header.Get(headerID), r.Header.Get(headerTimestamp)
	if err := v.genuine(body, r.Header, sent, now); err != nil {
		w.Header().Set("WWW-Authenticate", "StandardWebhooks")
		problem(w, http.StatusUnauthorized, "not taken: "+err.Error())
		return
	}
	about, err := runOf(body)
	if err != nil {
		v.server.tell(run.Event{Kind: run.WebhookOdd, Err: err, Hint: "the sender is told so; if the API has changed, hand runs in by drop files and report this"})
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	switch was, known := v.known(id, now); {
	case known && was.run != about: // another message in spite of its ID: no run is lost for that
	case known && was.sent == sent:
		problem(w, http.StatusConflict, "this very delivery was taken before")
		return
	case known:
		reply(w, http.StatusOK, Accepted{Runs: []run.ID{}})
		return
	}
	if !v.take(r.Context(), w, about) {
		return
	}
	v.remember(id, delivery{about, sent, now.Add(2 * tolerance)}, now)
	reply(w, http.StatusAccepted, Accepted{Count: 1, Runs: []run.ID{about}})
}

// genuine checks signature and timestamp.
func (v *receiver) genuine(body []byte, h http.Header, sent string, now time.Time) error {
	if err := signed(v.keys, h, body); err != nil {
		return err
	}
	unix, err := strconv.ParseInt(sent, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp %.20q is no number of seconds", sent)
	}
	if off := now.Sub(time.Unix(unix, 0)); off.Abs() > tolerance {
		return fmt.Errorf("it was sent at %s, which is more than %v from now", time.Unix(unix, 0).UTC().Format(time.RFC3339), tolerance)
	}
	return nil
}

func (v *receiver) known(id string, now time.Time) (was delivery, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, known = v.seen[id]
	return was, known && now.Before(was.until)
}

func (v *receiver) remember(id string, d delivery, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) >= deliveriesKept {
		for other, old := range v.seen {
			if !now.Before(old.until) || len(v.seen) >= deliveriesKept {
				delete(v.seen, other)
			}
		}
	}
	v.seen[id] = d
}

// take hands an unknown run in and has a known one polled; where it could do neither it
// has answered so that the sender tries again.
func (v *receiver) take(ctx context.Context, w http.ResponseWriter, id run.ID) bool {
	_, err := v.server.Runs.Get(ctx, id)
	if errors.Is(err, run.ErrUnknown) {
		return v.server.drop(ctx, w, []run.HandIn{{ID: id}})
	}
	if err == nil {
		err = v.server.Poker.Poke(ctx, id)
	}
	if err != nil {
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, "not taken, try again: "+err.Error())
	}
	return err == nil
}

// runOf finds the run that a payload is about. Its shape is not documented: every place
// that public code has it in is looked at.
func runOf(body []byte) (run.ID, error) {
	type names struct {
		RunID    any `json:"run_id"`
		Workflow any `json:"workflow_run_identifier"`
	}
	var payload struct {
		names
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(pyjson.Strict(body), &payload); err != nil {
		return "", fmt.Errorf("the payload is no JSON object: %w", err)
	}
	var data names
	_ = json.Unmarshal(payload.Data, &data) // of another shape: it says nothing
	for _, candidate := range []any{payload.RunID, data.RunID, payload.Workflow, data.Workflow} {
		if id, ok := candidate.(string); ok && run.ValidID(id) {
			return run.ID(id), nil
		}
	}
	return "", errors.New("the payload names no run: run_id, data.run_id or workflow_run_identifier is looked for")
}
