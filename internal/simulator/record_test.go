package simulator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

func TestARequestOnRecordHoldsNoSecret(t *testing.T) {
	s := New(WithKey("the-key"))
	add(t, s, "runs1", Image("a", objectSize, Cut(100).After(5)))
	k := key("runs1", run.Images, "a")
	u := target(t, s, k)
	poll(s, "runs1")
	ask(s.CDN(), u, "User-Agent", "assetd", "Range", "bytes=10-")
	ask(s.CDN(), u, "Referer", "https://h/x.png?token=exp=1~hmac=secret")
	ask(s.CDN(), u, keyHeader, "the-key")
	ask(s.API(), AppsPath+"/runs1?token=exp=1~hmac=secret", "X-Other", "Bearer the-key")
	requests := s.Requests()
	if text := fmt.Sprintf("%v %+v", requests, requests); strings.Contains(text, "the-key") || strings.Contains(text, "hmac") || strings.Contains(text, "exp=") {
		t.Error(text)
	}
	var leaks []string
	for _, r := range requests {
		leaks = append(leaks, r.Leak)
	}
	if d := cmp.Diff([]string{"", "", "Referer", "the key in X-Magnific-Api-Key", "a token in the URL, the key in X-Other"}, leaks); d != "" {
		t.Errorf("leaks (-want +got):\n%s", d)
	}
	if n := len(s.Leaks()); n != 3 {
		t.Errorf("%d requests leaked, want 3", n)
	}
	r := s.Downloads(k)[0]
	if r.Seq != 2 || r.Server != CDN || r.Range != "bytes=10-" || r.Status != 206 || r.Sent != objectSize-10 || !r.Done || !r.Complete || r.UserAgent != "assetd" || r.HasKey || r.Run != "runs1" {
		t.Errorf("%+v", r)
	}
	if p := s.Polls("runs1"); len(p) != 2 || !p[0].HasKey || p[1].Refused != "no key" {
		t.Errorf("polls %v", p)
	}
}

func TestTheRecordKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, n := rapid.IntRange(1, 9).Draw(t, "limit"), rapid.IntRange(0, 30).Draw(t, "n")
		s := New(WithRecordLimit(limit))
		for range n {
			poll(s, "runs1")
		}
		requests := s.Requests()
		if len(requests) != min(n, limit) {
			t.Fatalf("%d of %d on record", len(requests), n)
		}
		for i, r := range requests {
			if want := int64(n - len(requests) + i + 1); r.Seq != want {
				t.Fatalf("at %d stands %d, want %d", i, r.Seq, want)
			}
		}
	})
}

func TestServedCountsWhatWasGivenOfTheObject(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", objectSize, HTML().Times(1), Changed().After(4)))
	k := key("runs1", run.Images, "a")
	u := target(t, s, k)
	page := ask(s.CDN(), u).Body.Len()
	ask(s.CDN(), u, "Range", "bytes=0-99")
	ask(s.CDN(), u, "Range", "bytes=50-149")
	if d := cmp.Diff(Served{Requests: 3, Bytes: int64(page) + 200, Distinct: 150}, s.Served(k)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	ask(s.CDN(), u, "Range", "bytes=150-")
	if got := s.Served(k); !got.Whole || got.Distinct != objectSize {
		t.Errorf("all of it was given: %+v", got)
	}
	ask(s.CDN(), u, "Range", "bytes=0-0") // another object from here on
	if got := s.Served(k); got.Whole || got.Distinct != 1 || got.Requests != 5 {
		t.Errorf("the object changed: %+v", got)
	}
	if got := s.Served(key("nosuch", run.Images, "a")); got != (Served{}) {
		t.Errorf("of an unknown asset: %+v", got)
	}
}

func TestSpansCountEachByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		var plain [64]bool
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			from := rapid.IntRange(0, 60).Draw(t, "from")
			to := rapid.IntRange(from+1, 64).Draw(t, "to")
			s.add(int64(from), int64(to))
			for i := from; i < to; i++ {
				plain[i] = true
			}
		}
		want := int64(0)
		for _, in := range plain {
			if in {
				want++
			}
		}
		if s.sum() != want {
			t.Fatalf("%v holds %d bytes, want %d", s, s.sum(), want)
		}
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	s := New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Await(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go poll(s, "runs1")
	if err := s.Await(t.Context(), func() bool { return len(s.Polls("runs1")) == 1 }); err != nil {
		t.Error(err)
	}
}

func TestExpectedSaysWhatMustBecomeOfEachAsset(t *testing.T) {
	s := New()
	add(t, s, "runs1", App("app1"), Image("fine", 0), Video("heals", 0, Status(404).Times(9)), Image("gone", 0, Status(404)), Image("again", 0), Image("again", 0), Audio("", 0, HTML(), ExpectStored()))
	add(t, s, "runs2", EmptyPolls(1), Ends(run.CompletedWithErrors), Image("a", 0, Cut(10)))
	add(t, s, "runs3", Ends(run.Failed), Image("dead", 0, Signing{Life: -1}), Image("away", 0, ListedURL("https://10.0.0.1/x.png")), Image("said", 0, ExpectLost()))
	add(t, s, "runs4", Ends(run.Running))
	var got []string
	for _, r := range s.Expected() {
		line := fmt.Sprint(r.ID, " ", r.App, " ", r.Status, " ", r.Outcome, ":")
		for _, a := range r.Assets {
			line += fmt.Sprint(" ", a.Key.ID, map[bool]string{true: "-", false: "+"}[a.Lost])
			if a.SHA256 != s.assets[a.Key].now.hash() || len(a.SHA256) != 64 || a.Size != s.assets[a.Key].now.size {
				t.Errorf("%+v", a)
			}
		}
		got = append(got, line)
	}
	if d := cmp.Diff([]string{
		"runs1 app1 completed partial: fine+ heals+ gone- again+ again#2+ audios-1+",
		"runs2 uqzQLDr2Aw completed_with_errors partial: a+",
		"runs3 uqzQLDr2Aw failed failed: dead- away- said-",
		"runs4 uqzQLDr2Aw  :",
	}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
