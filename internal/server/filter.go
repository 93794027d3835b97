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
	States  []run.State         // one of them; empty: every state
	Apps    []string            // the ID of one of them; empty: every app
	Labels  map[string][]string // each of these labels, with one of its values
	Since   time.Time           // handed in then or later, by this machine's clock
	AtRisk  bool                // an asset of it may not be there before its URL dies
	Damaged bool                // a stored file of it was found damaged or missing
}

// Match reports whether a run passes, but for AtRisk: that no queue knows.
func (f Filter) Match(r run.Run) bool {
	switch {
	case len(f.States) > 0 && !slices.Contains(f.States, r.State),
		len(f.Apps) > 0 && !slices.Contains(f.Apps, r.App),
		f.Damaged && r.Marked == 0 && r.BadRecord == "",
		r.HandedIn.Before(f.Since):
		return false
	}
	for name, values := range f.Labels {
		if has, ok := r.Labels[name]; !ok || !slices.Contains(values, has) {
			return false
		}
	}
	return true
}

// State is the only state that passes; empty where several do.
func (f Filter) State() run.State {
	if len(f.States) == 1 {
		return f.States[0]
	}
	return ""
}

// The parameters of GET /api/v1/runs that make a Filter.
const (
	paramState   = "state" // may be repeated, and hold commas
	paramApp     = "app"   // likewise
	paramLabel   = "label" // NAME=VALUE, may be repeated
	paramSince   = "since" // RFC 3339
	paramAtRisk  = "at_risk"
	paramDamaged = "damaged"
)

// The parameters of GET /api/v1/runs that choose a page.
const (
	paramAfter = "after"
	paramLimit = "limit"
)

// values is the filter as parameters.
func (f Filter) values() url.Values {
	q := url.Values{}
	for _, state := range f.States {
		q.Add(paramState, string(state))
	}
	for _, app := range f.Apps {
		q.Add(paramApp, app)
	}
	if !f.Since.IsZero() {
		q.Set(paramSince, f.Since.Format(time.RFC3339Nano))
	}
	if f.AtRisk {
		q.Set(paramAtRisk, "true")
	}
	if f.Damaged {
		q.Set(paramDamaged, "true")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Labels)) {
		for _, value := range f.Labels[name] {
			q.Add(paramLabel, name+"="+value)
		}
	}
	return q
}

// filterOf reads the parameters. The error names the one that is wrong, and says
// what it can be.
func filterOf(q url.Values) (f Filter, err error) {
	known := []string{paramState, paramApp, paramLabel, paramSince, paramAtRisk, paramDamaged, paramAfter, paramLimit}
	lists := []string{paramState, paramApp, paramLabel}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) { // passed over, every run would pass
			return f, fmt.Errorf("%.40q is none of the parameters %s", name, strings.Join(known, ", "))
		}
		if len(q[name]) > 1 && !slices.Contains(lists, name) {
			return f, fmt.Errorf("%s is given %d times: it takes one value", name, len(q[name]))
		}
	}
	if f.States, err = ParseStates(q[paramState]); err != nil {
		return f, err
	}
	f.Apps = ParseList(q[paramApp])
	if text := q.Get(paramSince); text != "" {
		if f.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return f, fmt.Errorf("since %.40q is no time like 2026-02-25T12:00:00Z", text)
		}
	}
	for name, flag := range map[string]*bool{paramAtRisk: &f.AtRisk, paramDamaged: &f.Damaged} {
		switch text := q.Get(name); text {
		case "", "false":
		case "true":
			*flag = true
		default:
			return f, fmt.Errorf("%s %.40q is neither true nor false", name, text)
		}
	}
	f.Labels, err = ParseLabels(q[paramLabel])
	return f, err
}

// ParseList is the values of a parameter that may be repeated and hold commas, each
// once; nil where there is none.
func ParseList(texts []string) (values []string) {
	for _, text := range texts {
		for value := range strings.SplitSeq(text, ",") {
			if value = strings.TrimSpace(value); value != "" && !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	return values
}

// ParseStates reads the states of runs, as ParseList reads values.
func ParseStates(texts []string) (states []run.State, err error) {
	for _, text := range ParseList(texts) {
		state := run.State(text)
		if !state.Valid() {
			return nil, fmt.Errorf("state %.40q is none of waiting, downloading, stored, partial, failed", text)
		}
		states = append(states, state)
	}
	return states, nil
}

// ParseLabels reads labels written as NAME=VALUE. One that is given with several values
// may have any of them.
func ParseLabels(texts []string) (labels map[string][]string, err error) {
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("label %.40q is not written as NAME=VALUE", text)
		}
		if labels == nil {
			labels = map[string][]string{}
		}
		labels[name] = append(labels[name], value)
	}
	return labels, nil
}
