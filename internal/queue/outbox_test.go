package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func TestNothingIsWrittenWhileNobodyIsToBeTold(t *testing.T) {
	q := fresh(t)
	before := commits(t, q)
	if err := q.Post(t.Context(), run.Notice{Kind: run.VolumeGone, At: noon()}); err != nil || commits(t, q) != before {
		t.Errorf("%v, %d commits", err, commits(t, q)-before)
	}
	settle(t, q, "quiet")
	q.SetHooks(run.AllHooks)
	settle(t, q, "loud")
	found := must(q.Outbox(t.Context(), run.CommandHook, 0, 9))(t)
	if len(found) != 1 || found[0].Run != "loud" || found[0].Kind != run.RunStored || found[0].Stored != 2 || found[0].Bytes == 0 {
		t.Errorf("%+v", found)
	}
}

// settle brings a run with two assets to its end.
func settle(t *testing.T, q *Queue, id run.ID) {
	t.Helper()
	if err := live(t.Context(), q, id, func(string, run.ID) {}); err != nil {
		t.Fatal(err)
	}
}

func TestANoticeIsSmallAndHoldsNoSecret(t *testing.T) {
	q := fresh(t)
	q.SetHooks(run.URLHook)
	long := strings.Repeat("é", 5000)
	n := run.Notice{
		Kind: run.AssetsAtRisk, At: noon(), Run: "abcd", App: long, Dir: long, Host: "cdn.example",
		Asset: run.Key{Run: "abcd", Kind: run.Images, ID: long}, Text: "GET https://cdn.example/a.png?token=plantedsecret: " + long,
	}
	for range 100 {
		n.Runs = append(n.Runs, run.ID(strings.Repeat("r", run.MaxID)))
	}
	if err := q.Post(t.Context(), n); err != nil { // inconsistency holds the size
		t.Fatal(err)
	}
	got := must(q.Outbox(t.Context(), run.URLHook, 0, 9))(t)[0]
	if strings.Contains(got.Text, "plantedsecret") || !strings.HasPrefix(got.Text, "GET https://cdn.example/a.png") || len(got.Runs) == 0 || len(got.Asset.ID) > 100 {
		t.Errorf("%+v", got)
	}
}

func TestAHundredThousandNoticesThatAnotherHookTookCostOneLook(t *testing.T) {
	q := opened(t, quick(t), Options{})
	const many = 100_000
	err := q.update(t.Context(), many, func(t *txn) error {
		for i := range many {
			to := run.CommandHook
			if i >= many-3 {
				to = run.AllHooks
			}
			if err := t.post(to, run.Notice{Kind: run.RunStored, At: noon(), Run: "abcd"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	found := must(q.Outbox(t.Context(), run.URLHook, 0, 9))(t)
	if len(found) != 3 || found[0].Seq != many-2 {
		t.Fatalf("%+v", found)
	}
	if again := must(q.Outbox(t.Context(), run.URLHook, found[2].Seq, 9))(t); len(again) != 0 {
		t.Errorf("%+v", again)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Outbox(ctx, run.URLHook, 0, 9); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTheKeyOfANoticeIsItsOwn(t *testing.T) {
	n := run.Notice{Seq: 7, At: time.UnixMilli(1_800_000_000_000)}
	key := n.Key("0123456789abcdef0123456789abcdef")
	if key != "0123456789abcdef-7-1a3185c5000" {
		t.Errorf("%q", key)
	}
	restored := n
	restored.At = n.At.Add(time.Hour)
	if restored.Key("0123456789abcdef") == key {
		t.Error("the same place in a restored queue has the same key")
	}
}

func TestCase_A13_URLsThatAreNoAssetsMakeARunPartialAndAreNotified(t *testing.T) {
	const secret = "https://cdn.example/x.glb?token=s3cret"
	for _, c := range []struct {
		assets int
		status run.Status
		want   run.Outcome
	}{
		{0, run.Completed, run.OutcomePartial},
		{0, "COMPLETED", run.OutcomePartial},
		{0, run.Failed, run.OutcomeFailed},
		{1, run.Completed, run.OutcomeStored},
	} {
		dir := t.TempDir()
		q := opened(t, dir, Options{})
		q.SetHooks(run.URLHook)
		add(t, q, "abcd")
		a := run.Answer{Run: "abcd", Status: c.status, Ignored: map[string]json.RawMessage{"models": json.RawMessage(`"` + secret + `"`)}}
		for i := range c.assets {
			a.Assets = append(a.Assets, run.Listed{Kind: run.Images, ID: fmt.Sprint(i), URL: "https://cdn.example/i.png"})
		}
		change := must(q.Answered(t.Context(), "abcd", run.Verdict{Terminal: true, Answer: &a, At: noon()}))(t)
		change.Run.Stored, change.Run.Assets = c.assets, c.assets
		if got := change.Run.Judge(); got != c.want || change.Run.Ignored != 1 {
			t.Errorf("%d assets, %s: %s, %d ignored", c.assets, c.status, got, change.Run.Ignored)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = opened(t, dir, Options{}) // the settling may come after a restart
		if r := must(q.Get(t.Context(), "abcd"))(t); r.Ignored != 1 {
			t.Errorf("%+v", r)
		}
		found := must(q.Outbox(t.Context(), run.URLHook, 0, 9))(t)
		if len(found) != 1 || found[0].Kind != run.URLsIgnored || found[0].Run != "abcd" || !strings.Contains(found[0].Text, `"models"`) || strings.Contains(found[0].Text, "s3cret") {
			t.Errorf("%+v", found)
		}
	}
}
