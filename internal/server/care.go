package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/assetd/assetd/internal/run"
)

// Care does what people want done to a run. Both fail with run.ErrUnknown; Retry
// with run.ErrVolumeOffline where a damaged file has to be moved first; Remove with
// run.ErrOpenRun where the run is not settled and force is false.
type Care interface {
	Retry(ctx context.Context, id run.ID) (run.Retried, error)
	Remove(ctx context.Context, id run.ID, force bool) (run.Run, error)
}

// Stock is what `assetd verify` asks of the daemon: which volume to look at, and to
// record what it found there, which fails with run.ErrStale where the run is not
// settled, or was settled anew, since.
type Stock interface {
	Volume() Volume
	Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error
}

// Volume says which volume the daemon stores on.
type Volume struct {
	Dir     string `json:"dir"`     // storage.dir
	Mounted bool   `json:"mounted"` // storage.mounted
	Queue   string `json:"queue"`   // the queue that its marker must name
}

// Retried is what a retry did, as the API and `--json` show it.
type Retried struct {
	Run
	Tried        bool     `json:"tried"`              // false: it is open and tried anyway, or nothing of it is missing
	LostAgain    int      `json:"lost_again"`         // assets that were lost and are tried again
	DamagedAgain int      `json:"damaged_again"`      // damaged or missing files that are fetched anew
	Aside        []string `json:"moved_to,omitempty"` // where damaged files lie now, below storage.dir
}

// ViewRetried is what a retry did, as the queue alone can show it.
func ViewRetried(r run.Retried) Retried {
	return Retried{Run: ViewRun(r.Run, nil), Tried: r.Tried, LostAgain: r.Lost, DamagedAgain: r.Damaged, Aside: r.Aside}
}

// Findings is the body of POST /api/v1/runs/{id}/findings: what was found of files
// of the run as it was with that revision.
type Findings struct {
	Revision int       `json:"revision"`
	Findings []Finding `json:"findings"`
}

// Finding is what was found of one file; of manifest.json and SHA256SUMS where kind
// and ID are empty.
type Finding struct {
	Kind   run.Kind `json:"kind,omitempty"`
	ID     string   `json:"id,omitempty"`
	Damage string   `json:"damage,omitempty"` // empty: it is whole
}

// findingsBytes bounds the body with findings.
const findingsBytes = 64 << 20

func (s *Server) careRoutes() []route {
	return []route{
		{"POST", "/api/v1/runs/{id}/retry", owners, s.retry},
		{"POST", "/api/v1/runs/{id}/findings", owners, s.mark},
		{"DELETE", "/api/v1/runs/{id}", owners, s.remove},
		{"GET", "/api/v1/volume", owners, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Stock.Volume()) }},
	}
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) {
	done, err := s.Care.Retry(r.Context(), run.ID(r.PathValue("id")))
	if err != nil {
		careProblem(w, run.ID(r.PathValue("id")), err)
		return
	}
	v := ViewRetried(done)
	v.live(done.Run, s.Now)
	reply(w, http.StatusOK, v)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	force := false
	if text := r.URL.Query().Get("force"); text != "" {
		var err error
		if force, err = strconv.ParseBool(text); err != nil {
			problem(w, http.StatusBadRequest, fmt.Sprintf("force %.40q is neither true nor false", text))
			return
		}
	}
	was, err := s.Care.Remove(r.Context(), run.ID(r.PathValue("id")), force)
	if err != nil {
		careProblem(w, run.ID(r.PathValue("id")), err)
		return
	}
	reply(w, http.StatusOK, ViewRun(was, nil))
}

func (s *Server) mark(w http.ResponseWriter, r *http.Request) {
	id := run.ID(r.PathValue("id"))
	var body Findings
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, findingsBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf("findings: %v", err))
		return
	}
	found := make([]run.Finding, 0, len(body.Findings))
	for _, f := range body.Findings {
		found = append(found, run.Finding{Key: run.Key{Run: id, Kind: f.Kind, ID: f.ID}, Damage: f.Damage})
	}
	if err := s.Stock.Mark(r.Context(), id, body.Revision, found); err != nil {
		careProblem(w, id, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// careProblem answers with why something could not be done to a run.
func careProblem(w http.ResponseWriter, id run.ID, err error) {
	switch {
	case errors.Is(err, run.ErrUnknown):
		problem(w, http.StatusNotFound, fmt.Sprintf("run %q is not in the queue", id))
	case errors.Is(err, run.ErrOpenRun), errors.Is(err, run.ErrStale):
		problem(w, http.StatusConflict, err.Error())
	case errors.Is(err, run.ErrVolumeOffline), errors.Is(err, run.ErrNoRoom):
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		problem(w, http.StatusInternalServerError, err.Error())
	}
}

func runPath(id run.ID) string { return "/api/v1/runs/" + url.PathEscape(string(id)) }

// Retry tries a settled run once more: run.ErrUnknown where the queue has none such.
func (c *Client) Retry(ctx context.Context, id run.ID) (Retried, error) {
	var r Retried
	err := c.do(ctx, http.MethodPost, runPath(id)+"/retry", nil, &r)
	return r, err
}

// Remove forgets a run and returns it as it was: run.ErrUnknown where the queue has
// none such, run.ErrStale where it is not settled and force is false.
func (c *Client) Remove(ctx context.Context, id run.ID, force bool) (Run, error) {
	var r Run
	err := c.do(ctx, http.MethodDelete, runPath(id)+"?force="+strconv.FormatBool(force), nil, &r)
	return r, err
}

// Volume says which volume the daemon stores on.
func (c *Client) Volume(ctx context.Context) (Volume, error) {
	var v Volume
	err := c.get(ctx, "/api/v1/volume", &v)
	return v, err
}

// Mark records what was found of a run's files: run.ErrUnknown where the queue has
// none such, run.ErrStale where the run is not settled or was settled anew since.
func (c *Client) Mark(ctx context.Context, id run.ID, revision int, found []run.Finding) error {
	body := Findings{Revision: revision, Findings: make([]Finding, 0, len(found))}
	for _, f := range found {
		body.Findings = append(body.Findings, Finding{Kind: f.Key.Kind, ID: f.Key.ID, Damage: f.Damage})
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, runPath(id)+"/findings", bytes.NewReader(data), nil)
}
