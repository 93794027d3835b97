package get

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/run"
)

func TestCase_E3_GetSaysWhatItWaitsForAtTheAPIAndUntilWhen(t *testing.T) {
	c := &config.Config{}
	c.Poll = config.Poll{MinInterval: 3 * time.Second, MaxInterval: time.Minute, GiveUpAfter: 72 * time.Hour, NotFoundAfter: 30 * time.Second}
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, time.Local)
	const asked = "asked every 3s to 1m0s"
	abouts := map[string]string{}
	for name, w := range map[string]struct {
		run        run.Run
		held       []string
		what, till string
	}{
		"nothing yet": {run.Run{}, nil, "the API's first answer", "it comes"},
		"running": {
			run.Run{Status: run.Running, Polls: run.Polls{Count: 3, OpenFor: run.Stopwatch{Total: time.Hour}}},
			nil,
			"its end: the API says running, " + asked, "it ends, or is given up 2026-02-28 11:00 (poll.give_up_after)",
		},
		"pending": {run.Run{Status: run.Pending, Polls: run.Polls{Count: 1}}, nil, "its end: the API says pending, " + asked, "it ends, or is given up 2026-02-28 12:00 (poll.give_up_after)"},
		"404": {
			run.Run{Polls: run.Polls{Count: 2, NotFound: 2, MissingFor: run.Stopwatch{Total: 10 * time.Second}, LastError: "not found (HTTP 404)"}},
			nil,
			"the API to know it: the API does not know it (not found (HTTP 404)), " + asked, "it is answered, or given up at 12:00:20, after 30s of such answers",
		},
		"own 403": {
			run.Run{Polls: run.Polls{Count: 2, NotFound: 2, NoAccess: true, LastError: "forbidden (HTTP 403)"}},
			nil,
			"the API to know it: the key may not see it (forbidden (HTTP 403)), " + asked, "it is answered, or given up at 12:00:30, after 30s of such answers",
		},
		"429":     {run.Run{Polls: run.Polls{Count: 2, LastError: "rate limited (HTTP 429)"}}, nil, "the API's answer: rate limited (HTTP 429), " + asked, "it is answered"},
		"503":     {run.Run{Polls: run.Polls{Count: 2, LastError: "server error (HTTP 503)"}}, nil, "the API's answer: server error (HTTP 503), " + asked, "it is answered"},
		"garbled": {run.Run{Polls: run.Polls{Count: 2, LastError: "unusable answer (HTTP 200): HTML"}}, nil, "the API's answer: unusable answer (HTTP 200): HTML, " + asked, "it is answered"},
		"down": {
			run.Run{Polls: run.Polls{Count: 9, LastError: "unreachable"}},
			[]string{"API cannot be reached: no such host (since 11:00)"},
			"the API's answer; API cannot be reached: no such host (since 11:00)", "that is over; time in which the API does not answer does not count",
		},
	} {
		got := waitForAPI(c, w.run, w.held, now)
		if got.For != w.what || got.Until != w.till {
			t.Errorf("%s: for %q until %q,\nwant %q until %q", name, got.For, got.Until, w.what, w.till)
		}
		if other, taken := abouts[got.About]; taken {
			t.Errorf("%s and %s are about the same: %q", name, other, got.About)
		}
		abouts[got.About] = name
	}
}

func TestGet_NamesWhyAnAssetIsNotFetched(t *testing.T) {
	r := reasons{assets: map[run.Key]string{}, hosts: map[string]string{}}
	a := run.Asset{Key: run.Key{Run: "aaaa", Kind: run.Images, ID: "x"}, Source: "https://CDN.example:8443/x.png"}
	expect := func(want string) {
		t.Helper()
		if got := r.of(a); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	expect("")
	r.note(run.Event{Kind: run.AssetRetry, Asset: a.Key, Err: errors.New("answered 404"), Note: "again in 3s"})
	expect("asset not there yet: answered 404: again in 3s")
	r.note(run.Event{Kind: run.HostSlowed, Host: "cdn.example:8443", Err: errors.New("answered 429"), Note: "next request in 4s"})
	expect("CDN.example:8443: host slows down, waiting: answered 429: next request in 4s")
	r.note(run.Event{Kind: run.HostBack, Host: "cdn.example:8443"})
	expect("asset not there yet")
	r.note(run.Event{Kind: run.AssetStarted, Asset: a.Key})
	expect("")
	for i := range 3 * maxReasons {
		r.note(run.Event{Kind: run.AssetRetry, Asset: run.Key{Run: "bbbb", ID: strings.Repeat("x", i)}})
		r.note(run.Event{Kind: run.HostSlowed, Host: strings.Repeat("h", i)})
	}
	if len(r.assets) > maxReasons || len(r.hosts) > maxReasons {
		t.Errorf("%d assets and %d hosts are remembered", len(r.assets), len(r.hosts))
	}
}
