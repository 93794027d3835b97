package queue

import (
	"context"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// What is listed before a run ends is provisional in the file, too: a restart between
// any two steps goes on from what it says.
func TestCase_A3_ProvisionalAssetsOutliveARestart(t *testing.T) {
	ctx, dir := t.Context(), quick(t)
	const url = "https://cdn.example/1.png?token=exp=1~hmac=2"
	listed := run.Listed{Kind: run.Images, ID: "a", URL: url, Source: "https://cdn.example/1.png"}
	key := run.Key{Run: "abcd", Kind: run.Images, ID: "a"}
	q := opened(t, dir, Options{Now: noon})
	again := func() {
		t.Helper()
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = opened(t, dir, Options{Now: noon})
	}
	answer := func(status run.Status, assets ...run.Listed) run.Change {
		t.Helper()
		v := run.Verdict{Answer: &run.Answer{Run: "abcd", Status: status, Assets: assets}, Terminal: status.Terminal(), At: noon()}
		c, err := q.Answered(ctx, "abcd", v)
		if err != nil {
			t.Fatal(err)
		}
		again()
		return c
	}
	is := func(state run.AssetState, provisional, unlisted bool) {
		t.Helper()
		a := must(q.Asset(ctx, key))(t)
		if a.State != state || (a.Provisional != nil) != provisional || a.Unlisted != unlisted {
			t.Errorf("%s, provisional %+v, unlisted %v; want %s, %v, %v", a.State, a.Provisional, a.Unlisted, state, provisional, unlisted)
		}
		counts := must(q.Counts(ctx))(t)
		if counts.Assets[state] != 1 {
			t.Errorf("counts %v", counts.Assets)
		}
	}
	if _, err := q.Add(ctx, []run.HandIn{{ID: "abcd"}}); err != nil {
		t.Fatal(err)
	}
	answer(run.Running, listed)
	is(run.AssetWaiting, false, false)
	if _, err := q.Tried(ctx, key, run.Trial{Early: true, Final: true, Refused: true, Error: "404"}); err != nil {
		t.Fatal(err)
	}
	if a := must(q.Asset(ctx, key))(t); a.Evidence != (run.Evidence{}) || a.Attempts != 1 || a.LastError != "404" {
		t.Errorf("an early trial: %+v", a)
	}
	kept := run.Provisional{Size: 7, SHA256: "ab", Object: signedurl.Object(url), Validator: `"1"`, Warnings: []string{"see https://x/?token=secret"}}
	if _, err := q.KeepProvisional(ctx, key, kept); err != nil {
		t.Fatal(err)
	}
	again()
	is(run.AssetProvisional, true, false)
	if w, _, err := q.Waiting(ctx, "", 9); err != nil || len(w) != 0 {
		t.Errorf("it waits: %v, %v", w, err)
	}
	if a := must(q.Asset(ctx, key))(t); a.Provisional.Warnings[0] != "see https://x/" {
		t.Errorf("a secret is in the file: %q", a.Provisional.Warnings)
	}
	listed.URL = "https://cdn.example/1.png?token=exp=9~hmac=8"
	if c := answer(run.Running, listed); len(c.Assets) != 0 {
		t.Errorf("signed again, it is fetched again: %+v", c.Assets)
	}
	is(run.AssetProvisional, true, false)
	answer(run.Running)
	is(run.AssetProvisional, true, false)
	if c := answer(run.Completed); !c.Ended || len(c.Assets) != 1 || c.Run.State != run.Downloading {
		t.Errorf("the end: %+v", c)
	}
	is(run.AssetWaiting, true, true)
	if _, err := q.KeepProvisional(ctx, key, kept); err != nil { // a transfer that the end overtook
		t.Fatal(err)
	}
	is(run.AssetWaiting, true, true)
	named := run.Named{Whole: run.Whole{Key: key, Size: 7, SHA256: "ab"}, File: "images/a.png"}
	if refused := must(q.Verified(ctx, []run.Named{named}))(t); refused[0] != nil {
		t.Fatal(refused[0])
	}
	again()
	is(run.AssetVerified, true, true)
	if ready := must(q.Stored(ctx, []run.Key{key}))(t); len(ready) != 1 {
		t.Errorf("ready: %v", ready)
	}
	is(run.AssetStored, false, true)
	if err := q.Audit(context.Background()); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// A run's end clears what was held against its assets before it, and another object
// that is listed while it goes on is fetched.
func TestCase_A5_TheEndOfARunClearsWhatWasHeldAgainstItsAssets(t *testing.T) {
	for _, v := range []run.Verdict{
		{Answer: &run.Answer{Run: "abcd", Status: run.Completed}, Terminal: true, At: noon()},
		{Answer: &run.Answer{Run: "abcd", Status: run.Failed}, Terminal: true, At: noon()},
		{GiveUp: "no end in sight", At: noon()},
	} {
		ctx := t.Context()
		q := opened(t, quick(t), Options{Now: noon})
		if _, err := q.Add(ctx, []run.HandIn{{ID: "abcd"}}); err != nil {
			t.Fatal(err)
		}
		key := run.Key{Run: "abcd", Kind: run.Images, ID: "a"}
		going := run.Verdict{Answer: &run.Answer{Run: "abcd", Status: run.Running, Assets: []run.Listed{{Kind: run.Images, ID: "a", URL: "https://cdn/1?token=x"}}}, At: noon()}
		must(q.Answered(ctx, "abcd", going))(t)
		for range 5 { // an earlier version counted these
			must(q.Tried(ctx, key, run.Trial{Final: true, Refused: true, Error: "404"}))(t)
		}
		must(q.Answered(ctx, "abcd", v))(t)
		if a := must(q.Asset(ctx, key))(t); a.Evidence != (run.Evidence{}) || a.Attempts != 5 || a.State != run.AssetWaiting {
			t.Errorf("%+v: %+v", v, a)
		}
		must(q.Tried(ctx, key, run.Trial{Final: true}))(t)
		must(q.Answered(ctx, "abcd", run.Verdict{Answer: &run.Answer{Run: "abcd", Status: run.Completed}, Terminal: true, At: noon()}))(t)
		if a := must(q.Asset(ctx, key))(t); a.Evidence.Finals != 1 {
			t.Errorf("what came after the end is forgotten: %+v", a.Evidence)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
