package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/run"
)

// Accepted is what was handed in: it is safe on disk, and in the queue unless that
// cannot be written at the moment.
type Accepted struct {
	Count int      `json:"count"`
	Runs  []run.ID `json:"run_ids"` // the first 1,000
}

// form is the name of a drop file of a content type's form; empty: it has none.
func form(kind string) string {
	switch kind {
	case "application/json":
		return "body.json"
	case "application/x-ndjson", "application/jsonl":
		return "body.jsonl"
	case "text/plain":
		return "body.txt"
	}
	return ""
}

// handIn takes what a drop file may hold, and writes one: there is one way in. It is
// on the disk before the answer goes out. Nothing is handed in where anything in it is
// wrong.
func (s *Server) handIn(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	name := form(kind)
	if err != nil || name == "" {
		w.Header().Set("Accept-Post", "application/json, application/x-ndjson, text/plain")
		problem(w, http.StatusUnsupportedMediaType, fmt.Sprintf("content type %.60q: send application/json, application/x-ndjson or text/plain (curl -H 'Content-Type: application/json')", r.Header.Get("Content-Type")))
		return
	}
	body, ok := s.body(w, r, dropfile.MaxSize)
	if !ok {
		return
	}
	found := dropfile.Parse(name, body)
	if !found.OK() || len(found.HandIns) == 0 {
		status := http.StatusUnprocessableEntity // where it is nothing but labels beyond a limit
		var faults []string
		for _, f := range found.Faults {
			f.Done = "" // nothing was
			faults = append(faults, f.String())
			if !f.Labels {
				status = http.StatusBadRequest
			}
		}
		if len(faults) == 0 {
			status = http.StatusBadRequest
		}
		problem(w, status, fmt.Sprintf("nothing was handed in: %s, %s that could be read",
			english.Plural(len(found.Faults)+found.Hidden, "fault", ""), english.Plural(len(found.HandIns), "run ID", "")), faults...)
		return
	}
	if !s.drop(r.Context(), w, found.HandIns) {
		return
	}
	answer := Accepted{Count: len(found.HandIns)}
	for _, in := range found.HandIns[:min(len(found.HandIns), pageSize)] {
		answer.Runs = append(answer.Runs, in.ID)
	}
	if answer.Count == 1 {
		w.Header().Set("Location", "/api/v1/runs/"+string(answer.Runs[0]))
	}
	reply(w, http.StatusAccepted, answer)
}

// Intake takes what is written into the drop directory.
type Intake interface {
	// Await returns nil once all run IDs of these drop files are in the queue.
	Await(ctx context.Context, paths []string) error
}

// So many drop files are written at a time, and for so long a request waits for its
// turn: where the drop directory hangs, no more requests hang with it. And for so long
// it waits for the queue, before it is answered without.
const (
	maxWriting  = 16
	writingTurn = 5 * time.Second
	queueTurn   = 5 * time.Second
)

// drop writes a drop file, and returns once its runs are in the queue, so that they can
// be asked for: at once, unless the queue cannot be written. Where the file cannot be
// written, it has answered so that the client tries again.
func (s *Server) drop(ctx context.Context, w http.ResponseWriter, in []run.HandIn) bool {
	paths, err := s.write(ctx, in)
	if err != nil {
		s.tell(run.Event{Kind: run.DropTrouble, File: s.DropDir, Err: err, Hint: "what was handed in over HTTP was refused: its sender has to try again"})
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, "not taken, try again: "+err.Error())
		return false
	}
	if s.Intake != nil {
		ctx, cancel := context.WithTimeout(ctx, queueTurn)
		defer cancel()
		_ = s.Intake.Await(ctx, paths) // else they are safe on disk, and taken later
	}
	return true
}

func (s *Server) write(ctx context.Context, in []run.HandIn) (paths []string, err error) {
	turn := time.NewTimer(writingTurn)
	defer turn.Stop()
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-turn.C:
		return nil, fmt.Errorf("%s does not answer: %d drop files are being written and none gets done", s.DropDir, maxWriting)
	}
	defer func() { <-s.writing }()
	return dropfile.Write(s.DropDir, in)
}

// body reads a request's body of a bounded size; where it cannot, it has answered.
func (s *Server) body(w http.ResponseWriter, r *http.Request, most int64) ([]byte, bool) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes: send it in parts", most))
	case err != nil:
		problem(w, http.StatusBadRequest, "the body could not be read to its end: "+err.Error())
	}
	return data, err == nil
}
