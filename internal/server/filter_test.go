package server_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// mixed is one run in each state, two apps, labels, and damage.
type mixed struct{ crowd }

func (mixed) List(_ context.Context, state run.State, after run.ID, _ int) (found []run.Run, err error) {
	for _, r := range []run.Run{
		{ID: "wait", State: run.Waiting, App: "a", Labels: map[string]string{"shot": "1"}},
		{ID: "xdow", State: run.Downloading, App: "b", Labels: map[string]string{"shot": "2"}},
		{ID: "xfai", State: run.FailedRun, App: "a", Labels: map[string]string{"shot": "3", "who": "x"}},
		{ID: "ypar", State: run.PartialRun, App: "c", Marked: 2},
		{ID: "zsto", State: run.StoredRun, App: "a", BadRecord: "manifest.json is missing"},
	} {
		if r.ID > after && (state == "" || r.State == state) {
			found = append(found, r)
		}
	}
	return found, nil
}

func TestCase_E8_AParameterThatIsRepeatedOrHoldsCommasMeansAllOfIt(t *testing.T) {
	s := open(t, server.Deps{Runs: mixed{}, Checks: checks{}, Now: busy{}})
	for query, want := range map[string]string{
		"":                                  "wait xdow xfai ypar zsto",
		"state=partial&state=failed":        "xfai ypar",
		"state=partial,failed":              "xfai ypar",
		"state=partial,%20failed,partial":   "xfai ypar",
		"state=waiting,stored&state=failed": "wait xfai zsto",
		"state=failed":                      "xfai",
		"state=":                            "wait xdow xfai ypar zsto",
		"app=b&app=c":                       "xdow ypar",
		"app=b,c":                           "xdow ypar",
		"app=a&state=failed,stored":         "xfai zsto",
		"label=shot%3D1&label=shot%3D3":     "wait xfai",
		"label=shot%3D3&label=who%3Dx":      "xfai",
		"label=shot%3D1&label=who%3Dx":      "",
		"damaged=true":                      "ypar zsto",
		"damaged=true&state=stored":         "zsto",
		"damaged=false":                     "wait xdow xfai ypar zsto",
	} {
		var page server.Page
		if err := json.Unmarshal(ask(t, s, "/api/v1/runs?"+query).Body.Bytes(), &page); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		var got []string
		for _, r := range page.Runs {
			got = append(got, string(r.RunID))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %q, want %q", query, text, want)
		}
	}
}

func TestCase_E7_DamageIsInTheList(t *testing.T) {
	s := open(t, server.Deps{Runs: mixed{}, Checks: checks{}, Now: busy{}})
	var page server.Page
	if err := json.Unmarshal(ask(t, s, "/api/v1/runs?damaged=true").Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(page.Runs, []string{"2 ", "0 manifest.json is missing"}, func(r server.Run, want string) bool {
		return string(rune('0'+r.Damaged))+" "+r.BadRecord == want
	}) {
		t.Errorf("%+v", page.Runs)
	}
}
