package get

import (
	"errors"
	"fmt"

	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Events that only this package emits. RunStatus has the API's status of a run in Note, and
// comes when that changes; Leftover has the first ten runs' IDs there.
const (
	RunStatus run.EventKind = "run status"
	Leftover  run.EventKind = "left by an earlier call, not fetched now"
)

// reportStatus reports the API's status of a run that has not ended, if it has changed, and
// the state of one that is settled.
func (g *getter) reportStatus(r run.Run) {
	status := string(r.Status)
	if !r.State.Settled() && (r.Ended() || status == "") {
		return // the end has its own event
	}
	g.mu.Lock()
	last, reported := g.status[r.ID]
	g.status[r.ID] = status
	g.mu.Unlock()
	if !reported || last != status {
		g.Tell(run.Event{Kind: RunStatus, Run: r.ID, State: r.State, Note: fmt.Sprintf("%.64s", signedurl.Redact(status))})
	}
}

// note applies an event of the stages and passes it on, with hints for somebody who waits.
func (g *getter) note(e run.Event) {
	var refusal *run.Refusal
	missing := e.Kind == run.PollRefused && errors.As(e.Err, &refusal) && (refusal.Kind == run.NotFound || refusal.Kind == run.Rejected)
	switch {
	case missing, e.Kind == run.RunGivenUp:
		e.Hint = fmt.Sprintf("is the ID right, may this key see the run, and do api.base_url (%s) and api.runs_path (%s) fit?",
			signedurl.Redact(g.Config.API.BaseURL), pipeline.RunsPath(g.Config))
	case e.Kind == run.AssetGone:
		e.Hint = "the run's manifest names it, and the next call tries it again"
	case e.Kind == run.RunSettled:
		g.mu.Lock()
		close(g.settled)
		g.settled = make(chan struct{})
		g.mu.Unlock()
	}
	g.health.Note(e)
	g.reasons.note(e)
	g.mu.Lock()
	refused := g.key.note(e)
	g.mu.Unlock()
	if refused {
		g.cancel(fmt.Errorf("%w: %w", ErrKeyRefused, e.Err))
	}
	g.Tell(e)
}

// keyCheck distinguishes a refused key from a refused run: a 401 is always about the key, a
// 403 may be about one run.
type keyCheck struct {
	runs      map[run.ID]bool // the given runs; true: answered 403 since polling stopped
	forbidden int             // of these
	stops     int             // calls answered 403 that stopped polling, or kept it stopped; none answered since
}

// note applies an event and reports whether the key counts as refused: at a 401; at a 403
// once every given run got one; and if another run got one a second later, while nothing
// was answered in between.
func (k *keyCheck) note(e run.Event) bool {
	var refusal *run.Refusal
	if e.Kind == run.APIBack {
		k.stops, k.forbidden = 0, 0
		for id := range k.runs {
			k.runs[id] = false
		}
	}
	if !errors.As(e.Err, &refusal) {
		return false
	}
	switch {
	case e.Kind == run.APIRefused && refusal.Kind == run.Unauthorized:
		return true
	case e.Kind == run.APIRefused:
		k.stops++
		return k.stops > 1
	case e.Kind == run.PollRefused && refusal.Kind == run.Forbidden && k.stops > 0:
		if had, mine := k.runs[e.Run]; mine && !had {
			k.runs[e.Run] = true
			k.forbidden++
		}
		return k.forbidden == len(k.runs)
	}
	return false
}
