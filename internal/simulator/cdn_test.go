package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

func TestEveryTokenFormIsAdmittedAsItCameAndTellsItsEnd(t *testing.T) {
	for _, g := range []Signing{
		{}, {Form: Underscores}, {Form: Encoded}, {Form: Fields}, {Form: Opaque}, {Query: "preview=true&size=420"}, {Form: Encoded, Query: "a=%20b"},
	} {
		s := New(g)
		add(t, s, "runs1", Image("a", 0))
		u := target(t, s, key("runs1", run.Images, "a"))
		want := time.Now().Add(12 * time.Hour)
		switch expiry, ok := signedurl.Expiry("https://h" + u); {
		case g.Form == Opaque && ok:
			t.Errorf("form %d tells its end: %v", g.Form, expiry)
		case g.Form != Opaque && (!ok || want.Sub(expiry).Abs() > 2*time.Second):
			t.Errorf("form %d dies at %v, %v", g.Form, expiry, ok)
		}
		if w := ask(s.CDN(), u); w.Code != http.StatusOK {
			t.Errorf("form %d: %d, %v", g.Form, w.Code, s.Requests())
		}
		if g.Query != "" && !strings.Contains(u, "?"+g.Query+"&token=") {
			t.Error(u)
		}
	}
}

func TestTheCDNRefusesAnythingButItsOwnLivingTokens(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", 0), Image("b", 0), Image("e", 0, Signing{Form: Encoded}))
	a, b, e := target(t, s, key("runs1", run.Images, "a")), target(t, s, key("runs1", run.Images, "b")), target(t, s, key("runs1", run.Images, "e"))
	pathA, queryA, _ := strings.Cut(a, "?")
	pathB, _, _ := strings.Cut(b, "?")
	plain, err := neturl.PathUnescape(e)
	must(t, err)
	for target, why := range map[string]string{
		pathA:                                   "no token",
		pathA + "?token=":                       "no token",
		pathA + "?token=exp=1~hmac=zz":          "no token",
		pathB + "?" + queryA:                    "signature",
		strings.Replace(a, "exp=1", "exp=2", 1): "signature",
		a[:len(a)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(a, "0")]: "signature",
		a + "&x=1":                        "token not sent as it came",
		strings.ReplaceAll(a, "~", "%7E"): "token not sent as it came",
		plain:                             "token not sent as it came",
		"/private/production/1/render.png?" + queryA: "no such object",
	} {
		w := ask(s.CDN(), target)
		requests := s.Requests()
		if got := requests[len(requests)-1].Refused; got != why {
			t.Errorf("%s: refused for %q, want %q", target, got, why)
		}
		if why == "no such object" {
			if w.Code != http.StatusNotFound {
				t.Errorf("%s: %d", target, w.Code)
			}
		} else if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "text/html" || !strings.Contains(w.Body.String(), "Access Denied") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	s.Revoke()
	if w := ask(s.CDN(), a); w.Code != http.StatusForbidden {
		t.Errorf("a revoked token got %d", w.Code)
	}
	if w := ask(s.CDN(), target(t, s, key("runs1", run.Images, "a"))); w.Code != http.StatusOK {
		t.Errorf("one signed after that got %d", w.Code)
	}
	head := httptest.NewRequest(http.MethodHead, a, nil)
	if w := askWith(s.CDN(), head); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("HEAD, for which nothing is signed, got %d", w.Code)
	}
}

// today lets a bubble's clock, which begins in 2000, reach a time whose expiries
// are plausible.
func today() time.Time {
	at := time.Date(2026, 2, 25, 0, 0, 0, 0, time.UTC)
	time.Sleep(time.Until(at))
	return at
}

func TestTokensDieByTheCDNsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := today()
		s := New(Signing{Life: 10 * time.Minute}, WithSkew(0, -5*time.Minute))
		add(t, s, "runs1", Image("a", 0))
		u := target(t, s, key("runs1", run.Images, "a"))
		if expiry, _ := signedurl.Expiry("h" + u); !expiry.Equal(now.Add(5 * time.Minute)) {
			t.Errorf("dies at %v by a clock that is five minutes behind", expiry)
		}
		code := func() int { return ask(s.CDN(), u).Code }
		time.Sleep(10 * time.Minute)
		if got := code(); got != http.StatusOK {
			t.Errorf("in its last second: %d", got)
		}
		time.Sleep(time.Second)
		if got := code(); got != http.StatusForbidden {
			t.Errorf("a second later: %d", got)
		}
		if got := s.Requests()[1].Refused; got != "expired" {
			t.Errorf("refused for %q", got)
		}
		s.SetSkew(0, -time.Hour)
		if got := code(); got != http.StatusOK {
			t.Errorf("with the clock put back: %d", got)
		}
	})
}

func TestPollingRenewsURLsAsTheSigningSays(t *testing.T) {
	for name, c := range map[string]struct {
		signing Signing
		want    string // minutes of life left at the polls, one each 30 minutes
	}{
		"never":          {Signing{Life: time.Hour}, "60 30 0 -30"},
		"always":         {Signing{Life: time.Hour, Renewal: RenewAlways}, "60 60 60 60"},
		"near death":     {Signing{Life: time.Hour, Renewal: RenewNear, Near: 10 * time.Minute}, "60 30 60 30"},
		"when dead":      {Signing{Life: 40 * time.Minute, Renewal: RenewNear}, "40 10 40 10"},
		"dead at first":  {Signing{Life: time.Hour, Dead: 2}, "-1 -1 60 30"},
		"dead, then new": {Signing{Life: time.Hour, Dead: 1, Renewal: RenewAlways}, "-1 60 60 60"},
		"midnight":       {Signing{Life: time.Hour, Midnight: true, Renewal: RenewAlways}, "120 90 60 1470"},
	} {
		synctest.Test(t, func(t *testing.T) {
			today()
			s := New()
			add(t, s, "runs1", c.signing, Image("a", 0))
			time.Sleep(22 * time.Hour)
			var got []string
			for range 4 {
				expiry, _ := signedurl.Expiry(decode(t, poll(s, "runs1").Body.Bytes()).Result.Images[0].URL)
				got = append(got, fmt.Sprint(time.Until(expiry).Minutes()))
				time.Sleep(30 * time.Minute)
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		})
	}
}

func TestTheAssetsOwnSigningGoesBeforeTheRunsAndThatBeforeAll(t *testing.T) {
	s := New(Signing{Form: Fields})
	add(t, s, "runs1", Image("a", 0))
	add(t, s, "runs2", Signing{Form: Underscores}, Image("a", 0), Image("b", 0, Signing{Form: Encoded}))
	for k, want := range map[run.Key]string{
		key("runs1", run.Images, "a"): "token=st=", key("runs2", run.Images, "a"): "token=exp_", key("runs2", run.Images, "b"): "token=exp%3D",
	} {
		if u := target(t, s, k); !strings.Contains(u, want) {
			t.Errorf("%v: %s", k, u)
		}
	}
}

func TestTheFirewallThrottlesLiveTokensAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithFirewall(Firewall{Requests: 5, Window: time.Minute, Pause: 3 * time.Minute}))
		add(t, s, "runs1", Image("a", 0))
		u := target(t, s, key("runs1", run.Images, "a"))
		var codes []string
		get := func(after time.Duration) {
			time.Sleep(after)
			codes = append(codes, fmt.Sprint(ask(s.CDN(), u).Code))
		}
		for range 6 {
			get(15 * time.Second) // five in 60 s are not more than five within a minute
		}
		for _, after := range []time.Duration{0, 0, time.Minute, time.Minute, time.Minute} {
			get(after)
		}
		if got, want := strings.Join(codes, " "), "200 200 200 200 200 200 200 403 403 403 200"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := s.Requests()[8]; got.Refused != "firewall" {
			t.Errorf("on record: %v", got)
		}
	})
}

func TestRangesFollowTheRFC(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", 10_000))
	u := target(t, s, key("runs1", run.Images, "a"))
	whole := ask(s.CDN(), u)
	body, etag := whole.Body.Bytes(), whole.Header().Get("ETag")
	if len(body) != 10_000 || whole.Header().Get("Accept-Ranges") != "bytes" || whole.Header().Get("Content-Type") != "image/png" || !strings.HasPrefix(etag, `"`) {
		t.Fatalf("%d bytes, %v", len(body), whole.Header())
	}
	for _, c := range []struct{ ranged, ifRange, want string }{
		{"bytes=0-", "", "0-9999"},
		{"bytes=0-0", "", "0-0"},
		{"bytes=9999-", "", "9999-9999"},
		{"bytes=100-199", "", "100-199"},
		{"bytes=9000-20000", "", "9000-9999"},
		{"bytes=-1", "", "9999-9999"},
		{"bytes=-20000", "", "0-9999"},
		{"bytes=100-", etag, "100-9999"},
		{"bytes=100-", `"other"`, "all"},
		{"bytes=100-", "W/" + etag, "all"},
		{"bytes=100-", "Sat, 01 Jan 2000 00:00:00 GMT", "all"},
		{"bytes=10000-", "", "none"},
		{"bytes=-0", "", "none"},
		{"bytes=5-4", "", "all"},
		{"bytes=0-1,5-6", "", "all"},
		{"bytes=x-", "", "all"},
		{"bytes=", "", "all"},
		{"lines=1-2", "", "all"},
		{"bytes=99999999999999999999-", "", "all"},
	} {
		w := ask(s.CDN(), u, "Range", c.ranged, "If-Range", c.ifRange)
		var from, to int
		got := "all"
		switch told := w.Header().Get("Content-Range"); {
		case w.Code == http.StatusRequestedRangeNotSatisfiable && told == "bytes */10000":
			got = "none"
		case w.Code == http.StatusPartialContent:
			if _, err := fmt.Sscanf(told, "bytes %d-%d/10000", &from, &to); err != nil {
				t.Fatal(err)
			}
			got = fmt.Sprintf("%d-%d", from, to)
		case w.Code == http.StatusOK:
			to = len(body) - 1
		}
		if got != c.want || got != "none" && !bytes.Equal(w.Body.Bytes(), body[from:to+1]) {
			t.Errorf("%s if %s: %s, want %s", c.ranged, c.ifRange, got, c.want)
		}
	}
}

func TestARunningTransferIsCutAtExpiryOnlyWhereAsked(t *testing.T) {
	for _, cuts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			opts := []Option{Signing{Life: 10 * time.Second}, WithConnRate(10_000)}
			if cuts {
				opts = append(opts, WithCutAtExpiry())
			}
			s := New(opts...)
			add(t, s, "runs1", Image("a", 200_000))
			k := key("runs1", run.Images, "a")
			u := target(t, s, k)
			func() {
				defer func() {
					if got := recover(); (got == http.ErrAbortHandler) != cuts {
						t.Errorf("cuts %v: ended by %v", cuts, got)
					}
				}()
				ask(s.CDN(), u)
			}()
			r := s.Downloads(k)[0]
			if want := map[bool]time.Duration{false: 20 * time.Second, true: 10 * time.Second}[cuts]; (r.Took-want).Abs() > 100*time.Millisecond || r.Complete == cuts {
				t.Errorf("cuts %v: took %v, want %v: %v", cuts, r.Took, want, r)
			}
		})
	}
}

// FuzzCDN holds that no request makes the CDN panic, and that only a query that
// it signed gets bytes of an object.
func FuzzCDN(f *testing.F) {
	const path = "/private/production/1/render.png"
	for _, query := range []string{"", "token=", "token=exp=1~hmac=00", "token=exp_9999999999~hmac_00", "token=%zz", "a&token=exp%3D1%7Ehmac%3D", "token=AAAA"} {
		f.Add(path, query, "bytes=0-", `"x"`)
	}
	f.Add("/hop/1"+path, "", "bytes=-5", "")
	f.Add("/hop/99999999999999999999/", "token=", "bytes=5-1", "W/")
	s := New(WithRecordLimit(1))
	if err := s.AddRun("runs1", Image("a", 0)); err != nil {
		f.Fatal(err)
	}
	own, _ := s.URL(key("runs1", run.Images, "a"))
	ownPath, ownQuery, _ := strings.Cut(own, "?")
	f.Add(ownPath, ownQuery, "bytes=0-0", "")
	f.Fuzz(func(t *testing.T, path, query, ranged, ifRange string) {
		if query == ownQuery {
			return
		}
		for _, p := range []string{path, ownPath} {
			r := &http.Request{Method: http.MethodGet, URL: &neturl.URL{Path: p, RawQuery: query}, Header: http.Header{"Range": {ranged}, "If-Range": {ifRange}}}
			w := askWith(s.CDN(), r)
			if w.Code != http.StatusForbidden && w.Code != http.StatusNotFound {
				t.Fatalf("%s?%s: %d", p, query, w.Code)
			}
		}
		if off, n, ok := parseRange(ranged, 100); ok && n > 0 && (off < 0 || off+n > 100) {
			t.Fatalf("%s: %d bytes from %d of 100", ranged, n, off)
		}
	})
}
