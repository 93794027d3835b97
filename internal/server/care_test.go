package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// nurse is what is done to runs, in the order it was asked for.
type nurse struct {
	err  error
	done []string
}

func (n *nurse) Retry(_ context.Context, id run.ID) (run.Retried, error) {
	n.done = append(n.done, "retry "+string(id))
	return run.Retried{Run: run.Run{ID: id, State: run.Waiting}, Tried: true, Lost: 2, Damaged: 1, Aside: []string{"aside/x"}}, n.err
}

func (n *nurse) Remove(_ context.Context, id run.ID, force bool) (run.Run, error) {
	n.done = append(n.done, fmt.Sprint("remove ", id, " ", force))
	return run.Run{ID: id, State: run.StoredRun, Stored: 3}, n.err
}

func (n *nurse) Volume() server.Volume {
	return server.Volume{Dir: "/mnt", Mounted: true, Queue: "q-1"}
}

func (n *nurse) Mark(_ context.Context, id run.ID, revision int, found []run.Finding) error {
	n.done = append(n.done, fmt.Sprint("mark ", id, " ", revision, " ", found))
	return n.err
}

func tended(t *testing.T, n *nurse) *server.Client {
	t.Helper()
	c, _ := serveDeps(t, server.Deps{Runs: shelf{1}, Checks: checks{}, Now: busy{}, Care: n, Stock: n})
	return c
}

func TestRunsAreTriedAgainRemovedAndMarked(t *testing.T) {
	n := &nurse{}
	c := tended(t, n)
	r, err := c.Retry(t.Context(), "run000000")
	if err != nil || !r.Tried || r.LostAgain != 2 || r.DamagedAgain != 1 || r.State != run.Waiting || len(r.Aside) != 1 || len(r.HeldUp) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	was, err := c.Remove(t.Context(), "run000000", true)
	if err != nil || was.Stored != 3 {
		t.Errorf("%+v, %v", was, err)
	}
	found := []run.Finding{
		{Key: run.Key{Run: "run000000", Kind: run.Images, ID: "a/ü"}, Damage: "other bytes"},
		{Key: run.Key{Run: "run000000"}, Damage: "manifest.json is missing"},
	}
	if err := c.Mark(t.Context(), "run000000", 7, found); err != nil {
		t.Error(err)
	}
	v, err := c.Volume(t.Context())
	if d := cmp.Diff(n.Volume(), v); err != nil || d != "" {
		t.Error(err, d)
	}
	want := []string{"retry run000000", "remove run000000 true", fmt.Sprint("mark run000000 7 ", found)}
	if d := cmp.Diff(want, n.done); d != "" {
		t.Error(d)
	}
}

func TestWhatCannotBeDoneToARunIsTold(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{run.ErrUnknown, run.ErrUnknown},
		{run.ErrOpenRun, run.ErrStale},
		{run.ErrStale, run.ErrStale},
		{fmt.Errorf("%w: no marker", run.ErrVolumeOffline), nil},
		{errors.New("disk I/O error"), nil},
	} {
		client := tended(t, &nurse{err: fmt.Errorf("a reason: %w", c.err)})
		_, retry := client.Retry(t.Context(), "run000000")
		_, remove := client.Remove(t.Context(), "run000000", false)
		mark := client.Mark(t.Context(), "run000000", 1, nil)
		for what, err := range map[string]error{"retry": retry, "remove": remove, "mark": mark} {
			switch {
			case err == nil:
				t.Errorf("%s: no error for %v", what, c.err)
			case c.want != nil && !errors.Is(err, c.want):
				t.Errorf("%s: %v, want %v", what, err, c.want)
			case c.want == nil && !strings.Contains(err.Error(), c.err.Error()):
				t.Errorf("%s: %v does not tell %v", what, err, c.err)
			}
		}
	}
}

func TestWhatNobodyMeantIsRefused(t *testing.T) {
	n := &nurse{}
	h := open(t, server.Deps{Runs: shelf{1}, Checks: checks{}, Now: busy{}, Care: n, Stock: n}).Handler()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodDelete, "/api/v1/runs/run000000?force=maybe", "", http.StatusBadRequest},
		{http.MethodPost, "/api/v1/runs/run000000/findings", "{", http.StatusBadRequest},
		{http.MethodPost, "/api/v1/runs/run000000/findings", `{"revision": 1, "finding": []}`, http.StatusBadRequest},
		{http.MethodGet, "/api/v1/runs/run000000/retry", "", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(c.method, c.path, c.body))
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, w.Code, c.status, w.Body)
		}
	}
	if len(n.done) > 0 {
		t.Errorf("done all the same: %v", n.done)
	}
}
