package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Events that only Get emits. RunStands has the API's word in Note, and comes when that
// changes; LeftOver has the runs' IDs there, the first ten.
const (
	RunStands run.EventKind = "run stands"
	LeftOver  run.EventKind = "left by an earlier call, not fetched now"
)

// stands tells the API's word about a run that has not ended, where it is another
// than before, and the state of one that is settled.
func (g *getter) stands(r run.Run) {
	word := string(r.Status)
	if !r.State.Settled() && (r.Ended() || word == "") {
		return // its end is told as such
	}
	g.mu.Lock()
	last, told := g.words[r.ID]
	news := !told || last != word
	g.words[r.ID] = word
	g.mu.Unlock()
	if news {
		g.Tell(run.Event{Kind: RunStands, Run: r.ID, State: r.State, Note: fmt.Sprintf("%.64s", signedurl.Redact(word))})
	}
}

// tell passes events on, with hints that fit somebody who waits, and sees in them
// what ends the call or a wait.
func (g *getter) tell(e run.Event) {
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
		close(g.done)
		g.done = make(chan struct{})
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

// keyCheck tells a key that is refused from a run that is: a 401 is always about
// the key, a 403 may be about one run.
type keyCheck struct {
	runs      map[run.ID]bool // asked for by this call; true: answered 403 since polling stopped
	forbidden int             // of these
	stops     int             // calls answered 403 that stopped polling, or kept it stopped; none answered since
}

// note takes an event and reports whether the key counts as refused by it: at a
// 401; at a 403 where every run asked for got one; and where a second later another
// run got one too, while nothing was answered in between.
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

// tellStart reports how the runs asked for are, and which an earlier call left.
func (g *getter) tellStart(ctx context.Context, left []run.ID) error {
	runs, err := g.runs(ctx)
	if err != nil {
		return err
	}
	for _, r := range runs {
		g.stands(r)
	}
	if len(left) > 0 {
		g.Tell(run.Event{Kind: LeftOver, Count: len(left), Note: firstIDs(left)})
	}
	return nil
}

// pulse reports how the runs asked for stand. An error is told by whoever waits for
// them.
func (g *getter) pulse(ctx context.Context) {
	if runs, err := g.runs(ctx); err == nil {
		g.Pulse(runs)
	}
}
