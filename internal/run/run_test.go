package run_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

func TestValidIDTakesOnlyPlainNamesOf4To64(t *testing.T) {
	for id, want := range map[string]bool{
		"omps2OH829": true, "a_-Z": true, "abc": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
		"": false, "../../x": false, "ab/cd": false, "ab cd": false, "abcé": false, "abcd\n": false, "abc.": false,
	} {
		if got := run.ValidID(id); got != want {
			t.Errorf("ValidID(%q) = %v, want %v", id, got, want)
		}
	}
}

func TestRunStatesMoveOnlyAsTheDesignSays(t *testing.T) {
	states := []run.State{run.Waiting, run.Downloading, run.StoredRun, run.PartialRun, run.FailedRun}
	legal := map[string]bool{}
	for _, s := range states {
		legal[string(s+">"+s)] = true
		legal[string("waiting>"+s)] = true
		if s.Settled() {
			legal[string(s+">waiting")] = true
			legal[string("downloading>"+s)] = true
		}
	}
	for _, from := range append(states, "", "other") {
		for _, to := range append(states, "", "other") {
			if got, want := from.Move(to) == nil, legal[string(from+">"+to)]; got != want {
				t.Errorf("%q to %q: legal %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestAssetStatesMoveOnlyAsTheDesignSays(t *testing.T) {
	states := []run.AssetState{run.AssetWaiting, run.AssetDownloading, run.AssetVerified, run.AssetStored, run.AssetLost, ""}
	legal := map[string]bool{
		"waiting>waiting": true, "waiting>downloading": true, "waiting>verified": true, "waiting>lost": true,
		"downloading>waiting": true, "downloading>downloading": true, "downloading>verified": true, "downloading>lost": true,
		"verified>verified": true, "verified>stored": true, "verified>waiting": true,
		"stored>stored": true, "stored>waiting": true, "lost>lost": true, "lost>waiting": true,
	}
	for _, from := range states {
		for _, to := range states {
			if got, want := from.Move(to) == nil, legal[string(from+">"+to)]; got != want {
				t.Errorf("%q to %q: legal %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestJudgeTakesTheFirstOutcomeThatFits(t *testing.T) {
	for name, c := range map[string]struct {
		r    run.Run
		want run.Outcome
	}{
		"all stored":                  {run.Run{Status: run.Completed, Assets: 2, Stored: 2}, run.OutcomeStored},
		"completed without assets":    {run.Run{Status: run.Completed}, run.OutcomeStored},
		"one lost":                    {run.Run{Status: run.Completed, Assets: 2, Stored: 1, Lost: 1}, run.OutcomePartial},
		"all lost":                    {run.Run{Status: run.Completed, Assets: 1, Lost: 1}, run.OutcomePartial},
		"with errors, all stored":     {run.Run{Status: run.CompletedWithErrors, Assets: 1, Stored: 1}, run.OutcomePartial},
		"with errors, nothing listed": {run.Run{Status: run.CompletedWithErrors}, run.OutcomePartial},
		"failed":                      {run.Run{Status: run.Failed}, run.OutcomeFailed},
		"failed, nothing stored":      {run.Run{Status: run.Failed, Assets: 1, Lost: 1}, run.OutcomeFailed},
		"failed, something stored":    {run.Run{Status: run.Failed, Assets: 1, Stored: 1}, run.OutcomePartial},
		"cancelled":                   {run.Run{Status: run.Cancelled}, run.OutcomeFailed},
		"given up, never answered":    {run.Run{GaveUp: "404"}, run.OutcomeFailed},
		"given up while running":      {run.Run{Status: run.Running, GaveUp: "72h", Assets: 1, Stored: 1}, run.OutcomePartial},
	} {
		if got := c.r.Judge(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestStopwatchCountsOnlyBetweenAnswersInARow(t *testing.T) {
	var s run.Stopwatch
	s = s.Tick(10 * time.Second)
	s = s.Tick(40 * time.Second)
	if s.Total != 30*time.Second {
		t.Fatalf("after 10 s and 40 s: %v, want 30s", s.Total)
	}
	s = s.Stop().Tick(100 * time.Second)
	if s.Total != 30*time.Second {
		t.Fatalf("silence was counted: %v, want 30s", s.Total)
	}
	if s = s.Tick(105 * time.Second); s.Total != 35*time.Second {
		t.Fatalf("after the silence: %v, want 35s", s.Total)
	}
	if s = s.Tick(50 * time.Second); s.Total != 35*time.Second {
		t.Fatalf("a service clock that fell back was counted: %v", s.Total)
	}
}

func TestStopwatchNeverExceedsTimeThatPassed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s run.Stopwatch
		start := time.Duration(-1)
		now := time.Duration(0)
		for _, step := range rapid.SliceOf(rapid.Int64Range(-5, 1000)).Draw(t, "steps") {
			if step < 0 {
				s = s.Stop()
				continue
			}
			now += time.Duration(step)
			if start < 0 {
				start = now
			}
			s = s.Tick(now)
		}
		if s.Total < 0 || start >= 0 && s.Total > now-start {
			t.Fatalf("total %v of %v", s.Total, now-start)
		}
	})
}

var seen = time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)

func TestDeadlineIsAMarginBeforeDeath(t *testing.T) {
	a := run.Asset{FirstSeen: seen, Expiry: seen.Add(12 * time.Hour)}
	if got, want := a.Deadline(2*time.Minute), seen.Add(12*time.Hour-2*time.Minute); !got.Equal(want) {
		t.Errorf("long life: %v, want %v", got, want)
	}
	a.Expiry = seen.Add(4 * time.Minute)
	if got, want := a.Deadline(2*time.Minute), seen.Add(3*time.Minute); !got.Equal(want) {
		t.Errorf("short life: %v, want a quarter before death: %v", got, want)
	}
	a.Expiry = seen.Add(-time.Minute)
	if got := a.Deadline(2 * time.Minute); !got.Equal(a.Expiry) {
		t.Errorf("dead when first seen: %v, want its expiry", got)
	}
	a.Expiry = time.Time{}
	if got := a.Deadline(2 * time.Minute); !got.Equal(seen) {
		t.Errorf("unknown expiry orders as %v, want soon: %v", got, seen)
	}
	if got := a.Death(); !got.Equal(seen.Add(12 * time.Hour)) {
		t.Errorf("unknown expiry dies at %v, want first seen + 12 h", got)
	}
}

func TestEvidenceCountsFinalLookingAnswers(t *testing.T) {
	var e run.Evidence
	e = e.After(run.Trial{Final: true, Service: time.Minute})
	e = e.After(run.Trial{Unanswered: true, Service: 5 * time.Minute})
	e = e.After(run.Trial{Final: true, Service: 6 * time.Minute})
	e.Anew = true
	e = e.After(run.Trial{Final: true, Service: 8 * time.Minute, UnprovenSum: "aa"})
	e = e.After(run.Trial{Refused: true, Service: 9 * time.Minute})
	want := run.Evidence{
		Finals: 3, FinalFor: run.Stopwatch{Total: 2 * time.Minute, Mark: 8 * time.Minute, Running: true},
		Anew: true, FinalAnew: true, Refusals: 1, UnprovenSum: "aa",
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Errorf("evidence (-want +got):\n%s", d)
	}
}

func listed(url string, expiry time.Time) run.Listed {
	return run.Listed{Kind: run.Images, ID: "a", URL: url, Source: "https://cdn/a", Expiry: expiry}
}

func TestSeeBringsALaterURLIn(t *testing.T) {
	death := seen.Add(time.Hour)
	a := run.Asset{}.See(listed("https://cdn/a?1", death), seen)
	if !a.FirstSeen.Equal(seen) || !a.Expiry.Equal(death) || a.Evidence.NoLaterURL {
		t.Fatalf("first answer: %+v", a)
	}
	a.Evidence.Refusals = 3
	after := death.Add(time.Minute)
	same := a.See(listed("https://cdn/a?1", death), after)
	if !same.Evidence.NoLaterURL || same.Evidence.Refusals != 3 {
		t.Errorf("the same dead URL after its death must count as no later one: %+v", same.Evidence)
	}
	later := same.See(listed("https://cdn/a?2", after.Add(time.Hour)), after)
	if later.Evidence.NoLaterURL || later.Evidence.Refusals != 0 || !later.FirstSeen.Equal(after) {
		t.Errorf("a later URL must clear what spoke against the old one: %+v", later)
	}
	early := a.See(listed("https://cdn/a?1", death), seen.Add(time.Minute))
	if early.Evidence.NoLaterURL {
		t.Error("the same living URL was taken as no later one")
	}
	earlier := a.See(listed("https://cdn/a?0", death.Add(-time.Minute)), after)
	if !earlier.Evidence.NoLaterURL {
		t.Error("another URL that dies earlier was taken as later")
	}
	if a.Unseen(after).Evidence.NoLaterURL == false || a.Unseen(seen).Evidence.NoLaterURL {
		t.Error("an answer without a URL says so exactly when the old one is dead")
	}
}

func TestSeeMarksAURLAnewOnlyAfterTheSecondFinalAnswer(t *testing.T) {
	a := run.Asset{}.See(listed("https://cdn/a?1", time.Time{}), seen)
	a.Evidence.Finals = 1
	if a.See(listed("https://cdn/a?1", time.Time{}), seen).Evidence.Anew {
		t.Error("anew after one final-looking answer")
	}
	a.Evidence.Finals = 2
	if !a.See(listed("https://cdn/a?1", time.Time{}), seen).Evidence.Anew {
		t.Error("an answer with the same URL must count as anew")
	}
	none := run.Asset{Evidence: run.Evidence{Finals: 2}}.See(listed("", time.Time{}), seen)
	if !none.Evidence.Anew || none.FirstSeen.IsZero() {
		t.Errorf("nothing to fetch, said once more, must count as anew: %+v", none)
	}
}

func TestUniteRemovesNothingKnown(t *testing.T) {
	one, two := 1, 2
	a := run.Answer{
		Run: "abcd", App: "app", Status: run.Running, StartedAt: "s",
		Assets: []run.Listed{{Kind: run.Images, ID: "1", URL: "u1", Width: &one}, {Kind: run.Images, ID: "2", URL: "u2"}},
		Extra:  map[string]json.RawMessage{"x": json.RawMessage("1"), "y": json.RawMessage("1")},
	}
	b := run.Answer{
		Run: "abcd", Status: run.Completed, CompletedAt: "c",
		Assets: []run.Listed{{Kind: run.Videos, ID: "1", URL: "u3"}, {Kind: run.Images, ID: "1", URL: "u4", Width: &two}, {Kind: run.Images, ID: "2"}},
		Extra:  map[string]json.RawMessage{"y": json.RawMessage("2")},
	}
	want := run.Answer{
		Run: "abcd", App: "app", Status: run.Completed, StartedAt: "s", CompletedAt: "c",
		Assets: []run.Listed{
			{Kind: run.Images, ID: "1", URL: "u4", Width: &two}, {Kind: run.Images, ID: "2", URL: "u2"}, {Kind: run.Videos, ID: "1", URL: "u3"},
		},
		Extra: map[string]json.RawMessage{"x": json.RawMessage("1"), "y": json.RawMessage("2")},
	}
	if d := cmp.Diff(want, a.Unite(b)); d != "" {
		t.Errorf("union (-want +got):\n%s", d)
	}
	if d := cmp.Diff(b, run.Answer{}.Unite(b)); d != "" {
		t.Errorf("union with nothing (-want +got):\n%s", d)
	}
}

func TestKeyHashTellsNeighboursApart(t *testing.T) {
	keys := []run.Key{{Run: "abcd", Kind: "images", ID: "1"}, {Run: "abcd", Kind: "images", ID: "11"}, {Run: "abc", Kind: "dimages", ID: "1"}, {Run: "ABCD", Kind: "images", ID: "1"}}
	hashes := map[string]run.Key{}
	for _, k := range keys {
		if other, twice := hashes[k.Hash()]; twice {
			t.Errorf("%v and %v share a hash", k, other)
		}
		hashes[k.Hash()] = k
	}
}

func TestRefusalNamesKindStatusAndCause(t *testing.T) {
	cause := errors.New("why")
	r := &run.Refusal{Kind: run.ServerError, Status: 502, Cause: cause}
	if got, want := r.Error(), "server error (HTTP 502): why"; got != want || !errors.Is(r, cause) {
		t.Errorf("%q, want %q wrapping its cause", got, want)
	}
}

func TestBecause_SaysItsCauseAndIsOfItsClass(t *testing.T) {
	cause := errors.New("it is full")
	err := run.Because(run.ErrNoRoom, cause)
	if err.Error() != "it is full" || !errors.Is(err, run.ErrNoRoom) || !errors.Is(err, cause) || errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("%v", err)
	}
}

func TestNoMessageSaysAWordTwice(t *testing.T) {
	said := &run.Refusal{Kind: run.NotFound, Status: 404, Cause: errors.New("Not Found")}
	if got, want := said.Error(), "not found (HTTP 404)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for want, e := range map[string]run.Event{
		"volume is back": {Kind: run.VolumeBack},
		"volume offline, downloads wait: /x is gone": {
			Kind: run.VolumeOffline, Err: run.Because(run.ErrVolumeOffline, errors.New("/x is gone")),
		},
		"volume offline, downloads wait: writing /x: it is gone": {
			Kind: run.VolumeOffline, Err: fmt.Errorf("writing /x: %w", run.Because(run.ErrVolumeOffline, errors.New("it is gone"))),
		},
		"no room, downloads wait: no room: a file of that name": { // an error is never edited
			Kind: run.DiskLow, Err: errors.New("no room: a file of that name"),
		},
		"key not accepted, polling stopped: unauthorized (HTTP 401): why": {
			Kind: run.APIRefused, Err: &run.Refusal{Kind: run.Unauthorized, Status: 401, Cause: errors.New("why")},
		},
		"key not accepted, polling stopped: forbidden (HTTP 403)": {
			Kind: run.APIRefused, Err: &run.Refusal{Kind: run.Forbidden, Status: 403, Cause: errors.New("Forbidden")},
		},
	} {
		if got := e.Text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
