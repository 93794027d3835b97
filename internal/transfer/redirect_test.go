package transfer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// to redirects there, with that status.
func to(status int, location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{location}
		w.WriteHeader(status)
	}
}

func TestRedirectToAnotherHostCarriesNothing(t *testing.T) { // N13, P3.10
	body, h := sized(big, `"v1"`)
	for _, status := range []int{301, 302, 303, 307, 308} {
		var got http.Header
		var asked string
		other := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got, asked = r.Header.Clone(), r.RequestURI
			h(w, r)
		})
		first := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
			to(status, strings.Replace(other, secret, "theirs=1~2%3d", 1))(w, r)
		})
		part := &memPart{}
		mustBe(t, fetched(t, newClient(t, Config{}), first, part), part, body)
		want := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "Range": {"bytes=0-"}, "User-Agent": {"assetd"}}
		if fmt.Sprint(got) != fmt.Sprint(want) || asked != "/private/render.png?theirs=1~2%3d" {
			t.Errorf("%d: asked for %s with %v", status, asked, got)
		}
	}
}

func TestUserinfoGoesToItsOwnHostOnly(t *testing.T) {
	_, h := sized(100, "")
	var first, second string
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		second = r.Header.Get("Authorization")
		h(w, r)
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		first = user + ":" + password
		to(302, other)(w, r)
	})
	fetched(t, newClient(t, Config{}), strings.Replace(url, "http://", "http://studio:p%40ss@", 1), &memPart{})
	if first != "studio:p@ss" || second != "" {
		t.Errorf("sent %q to the first, %q to the second", first, second)
	}
}

func TestResumeGoesOnThroughARedirect(t *testing.T) {
	body, h := sized(big, `"v1"`)
	other := serve(t, each(cut(300_000, h), h))
	var a asking
	url := serve(t, a.record(to(302, other)))
	c := newClient(t, Config{})
	part := &memPart{}
	failed(t, c, url, part, Network)
	mustBe(t, fetched(t, c, url, part), part, body)
	a.want(t, "bytes=0-", `bytes=300000- "v1"`)
}

func TestRedirectsThatLeadNowhere(t *testing.T) { // N13
	hops := func(n int) http.HandlerFunc {
		at := 0
		return func(w http.ResponseWriter, r *http.Request) {
			if at++; at > n {
				_, h := sized(100, "")
				h(w, r)
				return
			}
			to(302, fmt.Sprintf("/hop%d?%s", at, secret))(w, r)
		}
	}
	fetched(t, newClient(t, Config{}), serve(t, hops(maxHops)), &memPart{})
	for name, tc := range map[string]struct {
		h     http.HandlerFunc
		class Class
		says  string
	}{
		"too many":      {hops(maxHops + 1), RedirectLoop, "more than 5"},
		"to itself":     {to(302, "?"+secret), RedirectLoop, "circle"},
		"round":         {each(to(302, "/a?"+secret), to(302, "/b?"+secret), to(302, "/a?"+secret)), RedirectLoop, "circle"},
		"no Location":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }, RedirectLoop, "without Location"},
		"unreadable":    {to(301, "https://"), RedirectLoop, "no host"},
		"bad escape":    {to(301, "x/%zz/..?"+secret), RedirectLoop, ""},
		"to ftp":        {to(302, "ftp://cdn.test/a?"+secret), Rule, "scheme ftp"},
		"to a file":     {to(302, "file:///etc/passwd"), Rule, "scheme file"},
		"to metadata":   {to(302, "http://169.254.169.254/latest/meta-data?"+secret), Rule, "169.254.169.254 is not a public"},
		"to a decimal":  {to(302, "http://3232235777/?"+secret), Rule, "192.168.1.1 is not a public"},
		"to our socket": {to(302, "http://[::1]:7433/?"+secret), Rule, "::1 is not a public"},
	} {
		f := failed(t, newClient(t, Config{}), serve(t, tc.h), &memPart{}, tc.class)
		if !strings.Contains(f.Error(), tc.says) {
			t.Errorf("%s: %v", name, f)
		}
		if tc.class == RedirectLoop && f.Status/100 != 3 {
			t.Errorf("%s: status %d", name, f.Status)
		}
	}
}
