package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/assetd/assetd/internal/run"
)

// Page is one page of runs. Next is what to pass as after for the following one,
// empty at the end. A page can have fewer runs than asked for, and even none, and a
// next one all the same.
type Page struct {
	Runs []Run  `json:"runs"`
	Next run.ID `json:"next,omitempty"`
}

// lookedAt is how many runs one request looks at, at most, for those that pass its
// filter.
const lookedAt = 20_000

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	filter, err := filterOf(q)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	limit := pageSize
	if text := q.Get(paramLimit); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > pageSize {
			problem(w, http.StatusBadRequest, fmt.Sprintf("limit %.40q is not a number from 1 to %d", text, pageSize))
			return
		}
		limit = n
	}
	risks := s.risks()
	source := s.Runs.List
	if filter.AtRisk {
		source = among{s.Runs, slices.Sorted(maps.Keys(risks))}.list
	}
	page, err := s.page(r.Context(), source, filter, run.ID(q.Get(paramAfter)), limit, risks)
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, http.StatusOK, page)
}

// lister gives runs in the order of their IDs, as Runs.List does.
type lister func(ctx context.Context, state run.State, after run.ID, limit int) ([]run.Run, error)

// page gathers a page of those that pass.
func (s *Server) page(ctx context.Context, from lister, f Filter, after run.ID, limit int, risks map[run.ID]atRisk) (Page, error) {
	page := Page{Runs: make([]Run, 0, limit)}
	for looked := 0; ; {
		found, err := from(ctx, f.State(), after, pageSize)
		if err != nil || len(found) == 0 {
			return page, err
		}
		for _, r := range found {
			after = r.ID
			if !f.Match(r) {
				continue
			}
			v, err := s.summary(ctx, r, risks[r.ID])
			if err != nil {
				return page, err
			}
			if page.Runs = append(page.Runs, v); len(page.Runs) == limit {
				page.Next = after
				return page, nil
			}
		}
		if looked += len(found); looked >= lookedAt {
			page.Next = after
			return page, nil
		}
	}
}

// summary is a run as a list shows it.
func (s *Server) summary(ctx context.Context, r run.Run, risk atRisk) (Run, error) {
	v, err := Summary(ctx, s.Runs, r)
	v.live(r, s.Now)
	v.AtRisk = len(risk)
	return v, err
}

// Summary is a run as a list shows it: without its assets, but with when the first
// of those that are still to come dies.
func Summary(ctx context.Context, runs Runs, r run.Run) (Run, error) {
	var assets []run.Asset
	if !r.State.Settled() && r.Open() > 0 {
		var err error
		if assets, err = runs.Assets(ctx, r.ID); err != nil && !errors.Is(err, run.ErrUnknown) {
			return Run{}, err
		}
	}
	v := ViewRun(r, assets)
	v.AssetList = nil
	return v, nil
}

// among lists some runs alone.
type among struct {
	runs Runs
	ids  []run.ID // sorted
}

func (a among) list(ctx context.Context, _ run.State, after run.ID, limit int) (found []run.Run, err error) {
	from, known := slices.BinarySearch(a.ids, after)
	if known {
		from++
	}
	for _, id := range a.ids[from:] {
		r, err := a.runs.Get(ctx, id)
		if errors.Is(err, run.ErrUnknown) { // it was removed
			continue
		}
		if err != nil {
			return nil, err
		}
		if found = append(found, r); len(found) == limit {
			break
		}
	}
	return found, nil
}

// atRisk are the assets of a run of which it was told that they may not be there
// before their URLs die.
type atRisk map[run.Key]bool

func (s *Server) risks() map[run.ID]atRisk {
	risks := map[run.ID]atRisk{}
	if s.Risks == nil {
		return risks
	}
	for _, key := range s.Risks.AtRisk() {
		if risks[key.Run] == nil {
			risks[key.Run] = atRisk{}
		}
		risks[key.Run][key] = true
	}
	return risks
}
