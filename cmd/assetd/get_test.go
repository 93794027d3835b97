package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func TestCase_E5_GetSaysWhyARunIsNotStoredAndEndsWithTheCodeForIt(t *testing.T) {
	stored := run.Run{ID: "good", State: run.StoredRun, Status: run.Completed, Assets: 2, Stored: 2}
	empty := run.Run{ID: "none", State: run.StoredRun, Status: run.Completed}
	failed := run.Run{ID: "fail", State: run.FailedRun, Status: run.Failed, ErrorMessage: "out of memory"}
	silent := run.Run{ID: "mute", State: run.FailedRun, Status: run.Failed}
	cancelled := run.Run{ID: "canc", State: run.FailedRun, Status: run.Cancelled, ErrorMessage: "by\nuser"}
	unknown := run.Run{ID: "typo", State: run.FailedRun, GaveUp: `nothing but "not found (HTTP 404)" for 30s`}
	lost := run.Run{ID: "lost", State: run.PartialRun, Status: run.Completed, Assets: 3, Stored: 2, Lost: 1}
	all := run.Run{ID: "gone", State: run.PartialRun, Status: run.Completed, Assets: 2, Lost: 2}
	half := run.Run{ID: "half", State: run.PartialRun, Status: run.Failed, Assets: 1, Stored: 1, ErrorMessage: "see https://x/y?token=plantedsecret"}
	both := run.Run{ID: "both", State: run.FailedRun, Status: run.Failed, Assets: 1, Lost: 1, ErrorMessage: "no credits"}
	for name, c := range map[string]struct {
		runs []run.Run
		code int
		says []string
	}{
		"stored":                {[]run.Run{stored, empty}, exitDone, nil},
		"nothing":               {nil, exitDone, nil},
		"failed":                {[]run.Run{failed}, exitRunFailed, []string{"1 of 1 run failed", "fail: failed: the API says failed: out of memory"}},
		"failed without reason": {[]run.Run{silent}, exitRunFailed, []string{"mute: failed: the API says failed, and not why"}},
		"cancelled":             {[]run.Run{cancelled}, exitRunFailed, []string{"canc: failed: the API says cancelled: by user"}},
		"given up":              {[]run.Run{unknown}, exitRunFailed, []string{`typo: failed: given up: nothing but "not found (HTTP 404)" for 30s`}},
		"one of several failed": {[]run.Run{stored, failed, unknown}, exitRunFailed, []string{"2 of 3 runs failed", "fail: ", "typo: "}},
		"lost":                  {[]run.Run{lost}, exitLost, []string{"1 asset lost: ", "lost: partial: 1 asset lost"}},
		"all lost":              {[]run.Run{all}, exitLost, []string{"2 assets lost", "gone: partial: 2 assets lost"}},
		"did not complete":      {[]run.Run{half}, exitLost, []string{"1 of 1 run incomplete", "half: partial: the API says failed: see https://x/y"}},
		"not all was taken":     {[]run.Run{{ID: "oddd", State: run.PartialRun, Status: run.Completed}}, exitLost, []string{"oddd: partial: not all that"}},
		"failed and lost":       {[]run.Run{both}, exitLost, []string{"1 asset lost, 1 of 1 run failed", "both: failed: 1 asset lost; the API says failed: no credits"}},
		"a lost and a failed":   {[]run.Run{failed, stored, lost}, exitLost, []string{"1 asset lost, 1 of 3 runs failed", "fail: ", "lost: "}},
		"incomplete and failed": {[]run.Run{half, failed}, exitLost, []string{"1 of 2 runs incomplete, 1 of 2 runs failed"}},
	} {
		err := getOutcome(c.runs)
		if code := exitCode(t.Context(), err); code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, code, c.code)
		}
		for _, want := range c.says {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "plantedsecret") {
				t.Errorf("%s: %v, want %q in it", name, err, want)
			}
		}
	}
	many := make([]run.Run, 1000)
	for i := range many {
		many[i] = failed
	}
	if err := getOutcome(many); err == nil || strings.Count(err.Error(), "\n") != namedRuns+1 || !strings.HasSuffix(err.Error(), "and 980 more") || !errors.As(err, new(codedError)) {
		t.Errorf("1000 failed runs: %v", err)
	}
}
