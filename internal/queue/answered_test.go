package queue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestIndexesFollowTheFirstTerminalAnswer(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd")
	list := func(names ...string) (all []run.Listed) {
		for _, name := range names {
			kind, id, _ := strings.Cut(name, "/")
			all = append(all, run.Listed{Kind: run.Kind(kind), ID: id, URL: "https://cdn.example/" + id})
		}
		return all
	}
	at := noon()
	indexes := func(v run.Verdict) map[string]int {
		t.Helper()
		at = at.Add(time.Minute)
		v.At = at
		c, err := q.Answered(t.Context(), "abcd", v)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, a := range c.Assets {
			got[string(a.Key.Kind)+"/"+a.Key.ID] = a.Index
		}
		return got
	}
	indexes(run.Verdict{Answer: &run.Answer{Status: run.Running, Assets: list("images/first")}})
	early := indexes(run.Verdict{Answer: &run.Answer{Status: run.Running, Assets: list("images/early", "images/z")}})
	if want := map[string]int{"images/first": 0, "images/early": 0, "images/z": 0}; !cmp.Equal(early, want) {
		t.Errorf("before the end: %v", early)
	}
	ended := indexes(run.Verdict{Terminal: true, Answer: &run.Answer{Status: run.Completed, Assets: list("images/z", "videos/v", "images/a")}})
	if want := map[string]int{"images/z": 1, "images/a": 2, "images/first": 3, "images/early": 4, "videos/v": 1}; !cmp.Equal(ended, want) {
		t.Errorf("at the end: %v", ended)
	}
	after := indexes(run.Verdict{Terminal: true, Answer: &run.Answer{Status: run.Failed, Assets: list("images/0", "videos/0", "images/a")}})
	if want := map[string]int{"images/z": 1, "images/a": 2, "images/first": 3, "images/early": 4, "images/0": 5, "videos/v": 1, "videos/0": 2}; !cmp.Equal(after, want) {
		t.Errorf("after it: %v", after)
	}
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Status != run.Completed || r.State != run.Downloading {
		t.Errorf("%+v", r)
	}
	assets := must(q.Assets(t.Context(), "abcd"))(t)
	var order []string
	for _, a := range assets {
		order = append(order, a.Key.ID)
	}
	if want := []string{"z", "a", "first", "early", "0", "v", "0"}; !slices.Equal(order, want) {
		t.Errorf("%q", order)
	}
}

func TestAVerdictWithTenThousandAssetsIsOneCommit(t *testing.T) {
	q := opened(t, quick(t), Options{})
	add(t, q, "abcd")
	before := commits(t, q)
	c, err := q.Answered(t.Context(), "abcd", run.Verdict{Answer: answerOf("abcd", 10_000), Terminal: true, At: noon()})
	if err != nil || len(c.Assets) != 10_000 || !c.Ended || c.Run.Open() != 10_000 || c.Assets[9_999].Index != 10_000 {
		t.Fatalf("%d assets of %+v, %v", len(c.Assets), c.Run, err)
	}
	if n := commits(t, q) - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	var batch []run.Named
	var keys []run.Key
	for _, a := range c.Assets {
		batch, keys = append(batch, named(a.Key)), append(keys, a.Key)
	}
	if _, err := q.Verified(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	ready, err := q.Stored(t.Context(), keys)
	if err != nil || !slices.Equal(ready, []run.ID{"abcd"}) {
		t.Errorf("%q, %v", ready, err)
	}
}

func TestAGivenUpRunThatEndsAfterAllIsJudgedByItsEnd(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd")
	given, err := q.Answered(t.Context(), "abcd", run.Verdict{GiveUp: "72 h", At: noon(), Service: time.Hour})
	if err != nil || !given.Ended || given.Run.GaveUp != "72 h" || given.Run.Judge() != run.OutcomeFailed {
		t.Fatalf("%+v, %v", given, err)
	}
	if ids, err := q.Ready(t.Context(), 9); err != nil || len(ids) != 1 {
		t.Errorf("%q, %v", ids, err)
	}
	c, err := q.Answered(t.Context(), "abcd", run.Verdict{
		Answer: answerOf("abcd", 1), Terminal: true, At: noon().Add(time.Hour), Service: 2 * time.Hour, GiveUp: "again",
	})
	if err != nil || !c.Ended || c.Run.GaveUp != "" || c.Run.Status != run.Completed || !c.Run.EndedAt.Equal(noon()) || c.Run.EndedService != time.Hour {
		t.Errorf("%+v, %v", c.Run, err)
	}
	if ids, err := q.Ready(t.Context(), 9); err != nil || len(ids) != 0 || c.Run.State != run.Downloading {
		t.Errorf("%q, %v, %s", ids, err, c.Run.State)
	}
}

func TestNamesAreUniqueWithoutRegardToCase(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd", "other")
	verify := func(id run.ID, asset, file string) error {
		t.Helper()
		k := run.Key{Run: id, Kind: run.Images, ID: asset}
		refused, err := q.Verified(t.Context(), []run.Named{{Whole: run.Whole{Key: k, Size: 1, At: noon()}, File: file}})
		if err != nil {
			t.Fatal(err)
		}
		return refused[0]
	}
	for _, id := range []run.ID{"abcd", "other"} {
		if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 9), At: noon()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify("abcd", "0", "images/Kelvins.png"); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"images/Kelvins.png", "IMAGES/kelvins.PNG", "images/\u212aelvins.png", "images/Kelvin\u017f.png", "manifest.json", "Manifest.JSON", "SHA256SUMS"} {
		if err := verify("abcd", "1", file); !errors.Is(err, run.ErrNameTaken) {
			t.Errorf("%q: %v", file, err)
		}
	}
	for _, file := range []string{"", ".", "/abs", "../up", "a//b", strings.Repeat("x", 5000)} {
		if err := verify("abcd", "1", file); err == nil || errors.Is(err, run.ErrNameTaken) {
			t.Errorf("%q: %v", file, err)
		}
	}
	if err := verify("other", "0", "images/Kelvins.png"); err != nil {
		t.Errorf("in another run: %v", err)
	}
	if _, err := q.Again(t.Context(), run.Key{Run: "abcd", Kind: run.Images, ID: "0"}, "neither part nor file"); err != nil {
		t.Error(err)
	}
	if err := verify("abcd", "1", "images/kelvins.png"); err != nil {
		t.Errorf("freed: %v", err)
	}
	k := run.Key{Run: "abcd", Kind: run.Images, ID: "2"}
	twice, err := q.Verified(t.Context(), []run.Named{{Whole: run.Whole{Key: k}, File: "a"}, {Whole: run.Whole{Key: k}, File: "b"}, {File: "c"}})
	if err != nil || twice[0] != nil || !errors.Is(twice[1], run.ErrStale) || !errors.Is(twice[2], run.ErrUnknown) {
		t.Errorf("%v, %v", twice, err)
	}
}
