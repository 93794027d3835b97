package transfer

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestEveryRequestToTheHostButTheFirstWaitsForItsTurn(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		var turns atomic.Int64
		req := request(farmURL)
		req.Turn = func(context.Context) error { turns.Add(1); return nil }
		part := &memPart{}
		r, err := c.Fetch(t.Context(), req, part, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, r, part, s.tally().body)
		if got, want := int(turns.Load()), len(s.tally().requests)-1; got != want || want < 15 {
			t.Errorf("%d turns for %d requests beyond the first", got, want)
		}
	})
}

func TestATransferWhoseTurnsAreRareIsWholeAllTheSame(t *testing.T) {
	inFarm(t, Config{}, 64<<20, func(t *testing.T, c *Client, s *farm) {
		req, begun := request(farmURL), time.Now()
		turn := make(chan struct{}, 1)
		req.Turn = func(ctx context.Context) error {
			select {
			case turn <- struct{}{}:
				time.AfterFunc(2*time.Second, func() { <-turn })
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		part := &memPart{}
		r, err := c.Fetch(t.Context(), req, part, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, r, part, s.tally().body)
		took := time.Since(begun)
		if got, most := len(s.tally().requests), 2+int(took/(2*time.Second)); got > most {
			t.Errorf("%d requests in %s, %d turns", got, took, most)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestARedirectToAnotherHostTakesNoTurn(t *testing.T) {
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(picture(1000, 1)) }) //nolint:errcheck // the client tells
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	c := newClient(t, Config{})
	req := request(url)
	req.Turn = func(context.Context) error { return errors.New("asked for a turn") }
	if _, err := c.Fetch(t.Context(), req, &memPart{}, nil); err != nil {
		t.Error(err)
	}
}
