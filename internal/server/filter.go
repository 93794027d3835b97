package server

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Filter chooses runs: those for which all of it holds. The zero value takes every
// run.
type Filter struct {
	State  run.State
	App    string            // its ID
	Labels map[string]string // a run must have each of them, with this value
	Since  time.Time         // handed in then or later, by this machine's clock
	AtRisk bool              // an asset of it may not be there before its URL dies
}

// Match reports whether a run passes, but for AtRisk: that no queue knows.
func (f Filter) Match(r run.Run) bool {
	if f.State != "" && r.State != f.State || f.App != "" && r.App != f.App || r.HandedIn.Before(f.Since) {
		return false
	}
	for name, value := range f.Labels {
		if has, ok := r.Labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// The parameters of GET /api/v1/runs that make a Filter.
const (
	paramState  = "state"
	paramApp    = "app"
	paramLabel  = "label" // NAME=VALUE, may be repeated
	paramSince  = "since" // RFC 3339
	paramAtRisk = "at_risk"
)

// The parameters of GET /api/v1/runs that choose a page.
const (
	paramAfter = "after"
	paramLimit = "limit"
)

// values is the filter as parameters.
func (f Filter) values() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set(paramState, string(f.State))
	set(paramApp, f.App)
	if !f.Since.IsZero() {
		set(paramSince, f.Since.Format(time.RFC3339Nano))
	}
	if f.AtRisk {
		set(paramAtRisk, "true")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Labels)) {
		q.Add(paramLabel, name+"="+f.Labels[name])
	}
	return q
}

// filterOf reads the parameters. The error names the one that is wrong, and says
// what it can be.
func filterOf(q url.Values) (f Filter, err error) {
	known := []string{paramState, paramApp, paramLabel, paramSince, paramAtRisk, paramAfter, paramLimit}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) { // passed over, every run would pass
			return f, fmt.Errorf("%.40q is none of the parameters %s", name, strings.Join(known, ", "))
		}
	}
	f.State, f.App = run.State(q.Get(paramState)), q.Get(paramApp)
	if f.State != "" && !f.State.Valid() {
		return f, fmt.Errorf("state %.40q is none of waiting, downloading, stored, partial, failed", f.State)
	}
	if text := q.Get(paramSince); text != "" {
		if f.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return f, fmt.Errorf("since %.40q is no time like 2026-02-25T12:00:00Z", text)
		}
	}
	switch text := q.Get(paramAtRisk); text {
	case "", "false":
	case "true":
		f.AtRisk = true
	default:
		return f, fmt.Errorf("at_risk %.40q is neither true nor false", text)
	}
	f.Labels, err = ParseLabels(q[paramLabel])
	return f, err
}

// ParseLabels reads labels written as NAME=VALUE.
func ParseLabels(texts []string) (labels map[string]string, err error) {
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("label %.40q is not written as NAME=VALUE", text)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
}
