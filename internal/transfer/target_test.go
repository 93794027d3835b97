package transfer

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// asked gives the request line that a URL leads to.
func asked(t *testing.T, cfg Config, rawURL string) string {
	t.Helper()
	c := newClient(t, cfg)
	var line string
	onPipes(t, c, func(conn net.Conn) {
		line, _ = readRequest(t, conn)
		fmt.Fprint(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	failed(t, c, rawURL, &memPart{}, Gone)
	return line
}

func TestRequestTargetIsSentByteForByte(t *testing.T) {
	for _, target := range []string{
		"/private/production/1/render.png?token=exp=1~hmac=ab12",
		"/a.png?token=exp_1~hmac_ab12",
		"/a.png?token=exp%3D1%7Ehmac%3dAb12&preview=true&size=420",
		"/a%2fb%2Fc/~user/a+b;c=d,e!$&'()*.png?x=a+b;c%20d",
		"//double//slash///x.png?a=1",
		`//odd"slash.png?a=1`,
		"/./a/../b/../../c.png",
		"/bad%escape%/%zz.png?%",
		"/a[1]{2}|3^4`5\\6<7>\"8.png?q=[1]{2}|3^4`5\\6<7>\"8",
		"/trailing?",
		"/two??marks?x",
		"/?x",
		"/",
		"/a:b@c=d",
		"/%E2%9C%93/%e2%9c%93",
	} {
		want := "GET " + target + " HTTP/1.1"
		if strings.HasPrefix(target, `//odd"`) {
			want = "GET http://cdn.test" + target + " HTTP/1.1" // the absolute form, exact all the same
		}
		if got := asked(t, Config{}, "http://cdn.test"+target); got != want {
			t.Errorf("%s\nasked %s\nwant  %s", target, got, want)
		}
	}
}

func TestWhatMayNotStandInARequestIsEncodedAsBrowsersDo(t *testing.T) {
	got := asked(t, Config{}, "http://cdn.test/a b/✓.png?x=ü y#fragment")
	if want := "GET /a%20b/%E2%9C%93.png?x=%C3%BC%20y HTTP/1.1"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	got = asked(t, Config{}, "http://cdn.test?x#y")
	if want := "GET /?x HTTP/1.1"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestProxiedRequestNamesTheWholeURLExactly(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: "proxy.test:3128"}
	got := asked(t, Config{Proxy: proxy}, "http://cdn.test//a%2fb~.png?token=exp=1~hmac=ab")
	if want := "GET http://cdn.test//a%2fb~.png?token=exp=1~hmac=ab HTTP/1.1"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestAnyPrintableTargetArrivesUnchanged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tail := rapid.StringMatching(`[!"$-~]{0,40}`).Draw(rt, "tail") // no space, no #
		parsed, err := parseTarget("https://cdn.test/" + tail)
		if err != nil {
			rt.Fatalf("parseTarget: %v", err)
		}
		got := parsed.url(false).RequestURI()
		got = strings.TrimPrefix(got, "https://cdn.test")
		if got != "/"+tail {
			rt.Fatalf("sent %q, want %q", got, "/"+tail)
		}
	})
}

func TestURLsThatCannotBeFetched(t *testing.T) {
	c := newClient(t, Config{})
	for raw, class := range map[string]Class{
		"":                             Nothing,
		"render.png":                   Nothing,
		"/private/render.png":          Nothing,
		"//cdn.test/render.png":        Nothing,
		"https:///render.png":          Nothing,
		"https:render.png":             Nothing,
		"https://":                     Nothing,
		"https://cdn.test\\@evil.test": Nothing,
		"https://a b/":                 Nothing,
		"https://[::1/":                Nothing,
		"https://cdn.test/\r\nX: y":    Nothing,
		"https://cdn.test/\x00":        Nothing,
		"https://%31%32%37.0.0.1/":     Nothing,
		"ftp://cdn.test/render.png":    Rule,
		"file:///etc/passwd":           Rule,
		"data:image/png;base64":        Nothing,
		"data:image/png;base64,A":      Nothing,
		"gopher://127.0.0.1/":          Rule,
	} {
		_, err := c.Fetch(t.Context(), request(raw), &memPart{}, nil)
		if f := failure(t, err, class); f.Status != 0 {
			t.Errorf("%q: status %d", raw, f.Status)
		}
	}
}

func TestRedirectsResolveAsRFC3986Says(t *testing.T) {
	base, err := parseTarget("https://cdn.test/a/b/c.png?x=1")
	if err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		"https://other.test/x?y~%7e": "https://other.test/x?y~%7e",
		"HTTPS://Other.Test:8443/X":  "https://other.test:8443/X",
		"//other.test/x":             "https://other.test/x",
		"/x%2fy?z":                   "https://cdn.test/x%2fy?z",
		"?z":                         "https://cdn.test/a/b/c.png?z",
		"d.png":                      "https://cdn.test/a/b/d.png",
		"../d.png":                   "https://cdn.test/a/d.png",
		"https://other.test/x#frag":  "https://other.test/x",
	} {
		got, err := base.follow(location)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", location, got, err, want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"https://cdn.test/a?b#c", "http://u:p@[::1%25eth0]:80//x", "https://1.2.3.4.", "x:", "https://é.test/%"} {
		f.Add(s, "/x")
	}
	f.Add("https://a/b", "../../c?d")
	f.Fuzz(func(t *testing.T, raw, location string) {
		at, err := parseTarget(raw)
		if err != nil {
			return
		}
		uri := at.url(false).RequestURI()
		if strings.ContainsAny(uri, " \r\n#\x00") {
			t.Fatalf("request target %q from %q", uri, raw)
		}
		if again, err := parseTarget(at.String()); err != nil || again.String() != at.String() {
			t.Fatalf("%q reads as %q, and that as %q (%v)", raw, at, again, err)
		}
		if next, err := at.follow(location); err == nil && next.scheme != "http" && next.scheme != "https" {
			t.Fatalf("followed to %q", next)
		}
	})
}
