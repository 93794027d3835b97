package run

import "testing"

func TestCase_A15_StatusesCompareWithoutSpelling(t *testing.T) {
	for _, c := range []struct {
		spelled  Status
		want     Status // empty: not documented
		terminal bool
	}{
		{"pending", Pending, false},
		{"PENDING", Pending, false},
		{"Running", Running, false},
		{"RUNNING ", Running, false},
		{"completed", Completed, true},
		{"COMPLETED", Completed, true},
		{"Completed", Completed, true},
		{" completed\n", Completed, true},
		{"completed_with_errors", CompletedWithErrors, true},
		{"COMPLETED_WITH_ERRORS", CompletedWithErrors, true},
		{"completed-with-errors", CompletedWithErrors, true},
		{"Completed With Errors", CompletedWithErrors, true},
		{"CompletedWithErrors", CompletedWithErrors, true},
		{"completedWithErrors", CompletedWithErrors, true},
		{"FAILED", Failed, true},
		{"Failed", Failed, true},
		{"\tfailed", Failed, true},
		{"cancelled", Cancelled, true},
		{"canceled", Cancelled, true},
		{"CANCELED", Cancelled, true},
		{"Canceled", Cancelled, true},
		{"complete", "", false},
		{"succeeded", "", false},
		{"done", "", false},
		{"failing", "", false},
		{"not completed", "", false},
		{"completed_with", "", false},
		{"cancelling", "", false},
		{"", "", false},
		{"_", "", false},
	} {
		if got := c.spelled.Terminal(); got != c.terminal {
			t.Errorf("%q: terminal %v", c.spelled, got)
		}
		if got := c.spelled.Known(); got != (c.want != "") {
			t.Errorf("%q: known %v", c.spelled, got)
		}
		if c.want != "" && !c.spelled.Is(c.want) {
			t.Errorf("%q is %q, want %q", c.spelled, c.spelled.Canonical(), c.want)
		}
	}
}

func TestCase_A15_TheOutcomeDoesNotDependOnTheSpelling(t *testing.T) {
	for _, c := range []struct {
		r    Run
		want Outcome
	}{
		{Run{Status: "COMPLETED"}, OutcomeStored},
		{Run{Status: "Completed", Assets: 2, Stored: 2}, OutcomeStored},
		{Run{Status: "Completed_With_Errors", Assets: 2, Stored: 2}, OutcomePartial},
		{Run{Status: "canceled"}, OutcomeFailed},
		{Run{Status: "CANCELED", Assets: 1, Stored: 1}, OutcomePartial},
		{Run{Status: "FAILED"}, OutcomeFailed},
		{Run{Status: "completed", Ignored: 1}, OutcomePartial}, // A13: its output is somewhere in these
		{Run{Status: "completed", Ignored: 1, Assets: 1, Stored: 1}, OutcomeStored},
		{Run{Status: "failed", Ignored: 1}, OutcomeFailed},
	} {
		if got := c.r.Judge(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
}
