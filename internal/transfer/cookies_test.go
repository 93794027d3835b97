package transfer

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// gate redirects to where the request is until it brings the cookie, and sets it.
func gate(cookie http.Cookie, status int, location func(*http.Request) string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if got, err := r.Cookie(cookie.Name); err == nil && got.Value == cookie.Value {
			h(w, r)
			return
		}
		http.SetCookie(w, &cookie)
		to(status, location(r))(w, r)
	}
}

func TestCase_A19_RedirectThatSetsACookieIsFollowedWithIt(t *testing.T) {
	body, h := sized(big, `"v1"`)
	same := func(r *http.Request) string { return r.RequestURI }
	for name, h := range map[string]http.HandlerFunc{
		"302":        gate(http.Cookie{Name: "s", Value: "1"}, 302, same, h),
		"301":        gate(http.Cookie{Name: "s", Value: "1", Path: "/"}, 301, same, h),
		"303":        gate(http.Cookie{Name: "s", Value: "1", HttpOnly: true, SameSite: http.SameSiteStrictMode}, 303, same, h),
		"307":        gate(http.Cookie{Name: "s", Value: "1", MaxAge: 60}, 307, same, h),
		"308":        gate(http.Cookie{Name: "s", Value: "1", Path: "/private"}, 308, same, h),
		"domain":     gate(http.Cookie{Name: "s", Value: "1", Domain: "127.0.0.1"}, 302, same, h),
		"absolute":   gate(http.Cookie{Name: "s", Value: "1"}, 302, func(r *http.Request) string { return "http://" + r.Host + r.RequestURI }, h),
		"query only": gate(http.Cookie{Name: "s", Value: "1"}, 302, func(r *http.Request) string { return "?" + r.URL.RawQuery }, h),
		"two in turn": gate(http.Cookie{Name: "a", Value: "1", Path: "/"}, 302, same,
			gate(http.Cookie{Name: "b", Value: "2", Path: "/"}, 302, same, h)),
		"another value": func() http.HandlerFunc {
			second := gate(http.Cookie{Name: "s", Value: "2", Path: "/"}, 302, same, h)
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Cookie") == "" {
					http.SetCookie(w, &http.Cookie{Name: "s", Value: "1", Path: "/"})
					to(302, r.RequestURI)(w, r)
					return
				}
				second(w, r)
			}
		}(),
		"over a login page": func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/login":
				http.SetCookie(w, &http.Cookie{Name: "s", Value: "1", Path: "/"})
				to(302, "/private/render.png?"+secret)(w, r)
			case r.Header.Get("Cookie") != "s=1":
				to(302, "/login")(w, r)
			default:
				h(w, r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			part := &memPart{}
			mustBe(t, fetched(t, newClient(t, Config{}), serve(t, h), part), part, body)
		})
	}
}

// A port is another server: a shared machine has several.
func TestCase_A19_CookieGoesToTheHostThatSetItAlone(t *testing.T) {
	_, h := sized(100, "")
	var got atomic.Value
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Cookie"))
		h(w, r)
	})
	first := serve(t, gate(http.Cookie{Name: "s", Value: "1", Domain: "127.0.0.1", Path: "/"}, 302, func(r *http.Request) string { return r.RequestURI }, to(302, other)))
	fetched(t, newClient(t, Config{}), first, &memPart{})
	if got.Load() != "" {
		t.Errorf("another host got %q", got.Load())
	}
}

func TestCase_A19_CookieLivesForOneFetch(t *testing.T) {
	_, h := sized(100, "")
	var first []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		first = append(first, r.Header.Get("Cookie"))
		gate(http.Cookie{Name: "s", Value: "1", Path: "/"}, 302, func(r *http.Request) string { return r.RequestURI }, h)(w, r)
	})
	c := newClient(t, Config{})
	for range 2 {
		fetched(t, c, url, &memPart{})
	}
	if fmt.Sprint(first) != "[ s=1  s=1]" {
		t.Errorf("cookies sent: %q", first)
	}
}

// Within one fetch the cookie is kept, also for further connections.
func TestCase_A19_ParallelConnectionsBringTheCookie(t *testing.T) {
	body, h := sized(minParallel+(4<<20), `"v1"`)
	var redirects atomic.Int32
	url := serve(t, gate(http.Cookie{Name: "s", Value: "1", Path: "/"}, 302, func(r *http.Request) string {
		redirects.Add(1)
		return r.RequestURI
	}, h))
	part := &memPart{}
	mustBe(t, fetched(t, newClient(t, Config{Connections: 4}), url, part), part, body)
	if redirects.Load() != 1 {
		t.Errorf("redirected %d times, want once", redirects.Load())
	}
}

func TestCase_A19_TrueLoopsEnd(t *testing.T) {
	n := 0
	for name, h := range map[string]http.HandlerFunc{
		"the same cookie each time": func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "s", Value: "1", Path: "/"})
			to(302, r.RequestURI)(w, r)
		},
		"another one each time": func(w http.ResponseWriter, r *http.Request) {
			n++
			http.SetCookie(w, &http.Cookie{Name: "s", Value: fmt.Sprint(n), Path: "/"})
			to(302, r.RequestURI)(w, r)
		},
		"one for another host": func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "s", Value: "1", Path: "/elsewhere"})
			to(302, r.RequestURI)(w, r)
		},
		"one that is over": func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "s", Value: "1", Path: "/", MaxAge: -1})
			to(302, r.RequestURI)(w, r)
		},
		"one too large": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "s="+strings.Repeat("x", maxCookies)+"; Path=/")
			to(302, r.RequestURI)(w, r)
		},
	} {
		asked := 0
		f := failed(t, newClient(t, Config{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			h(w, r)
		}), &memPart{}, RedirectLoop)
		if asked > maxHops+1 || f.Status != 302 {
			t.Errorf("%s: %d requests, %v", name, asked, f)
		}
	}
}
