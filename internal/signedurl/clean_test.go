package signedurl

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCase_A17_EndsOfAURLAreCleaned(t *testing.T) {
	const plain = base + "?token=exp=1772064000~hmac=0f"
	_, rest, _ := strings.Cut(plain, ":")
	for raw, want := range map[string]string{
		plain: plain, plain + "\n": plain, plain + "\r\n": plain, "\n" + plain: plain, "  " + plain: plain, "\t " + plain + " \t": plain,
		plain + "\x00": plain, "\x01\x1f" + plain + "\x7f": plain, "\u0085" + plain: plain,
		"\ufeff" + plain: plain, plain + "\u200b": plain, "\u00a0" + plain + "\u2028": plain, "\u2060\u3000" + plain: plain,
		rest: plain, " " + rest + "\n": plain, "\n//cdn.test:8443/a?b": "https://cdn.test:8443/a?b",
		"": "", " \r\n": "", "/private/render.png": "/private/render.png", "http://h/a ": "http://h/a",
		"https://h/a b?c d": "https://h/a b?c d", "https://h/\na": "https://h/\na", "https://h/é?t=%0a": "https://h/é?t=%0a",
		" data:image/png;base64,AAAA\n": "data:image/png;base64,AAAA",
	} {
		if got := Clean(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
	for _, raw := range []string{plain + "\n", " " + plain, rest + "\u200b"} {
		if at, ok := Expiry(Clean(raw)); !ok || at != time.Date(2026, 2, 26, 0, 0, 0, 0, time.UTC) {
			t.Errorf("%q: %v, %v", raw, at, ok)
		}
		if got := Source(Clean(raw)); got != base {
			t.Errorf("%q: %s", raw, got)
		}
	}
}

func TestCleanChangesNothingTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once := Clean(rapid.String().Draw(t, "raw"))
		if again := Clean(once); again != once {
			t.Fatalf("%q, then %q", once, again)
		}
	})
}

func TestCase_A17_IsURL(t *testing.T) {
	for text, want := range map[string]bool{
		"https://h/a": true, " http://h\n": true, "//h/a": true, "\t//h/a": true, "data:image/png;base64,AAAA": true, "DATA:,x": true,
		"render.png": false, "/a/b": false, "": false, "a: b": false, "database": false,
	} {
		if got := IsURL(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestCase_A18_SourceOfADataURLIsItsScheme(t *testing.T) {
	for _, raw := range []string{
		"data:image/png;base64,AAAA", "DATA:Image/PNG;BASE64,AAAA", "data:,secret", "data:AAAA/BBBB+secret?token=1;x", "data:image/png",
		`data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"><!-- token=5ecret -->`,
	} {
		if got := Source(raw); got != "data:" {
			t.Errorf("%.60q: %q", raw, got)
		}
	}
}

func TestCase_A18_DataURLsInATextAreCutDown(t *testing.T) {
	const payload = "iVBORw0KGgo5ecret+/="
	for text, want := range map[string]string{
		"fetch data:image/png;base64," + payload + " failed":   "fetch data: failed",
		`{"url":"data:image/png;base64,` + payload + `"}`:      `{"url":"data:"}`,
		"Data:;BASE64," + payload:                              "data:",
		"data:video/mp4;codecs=avc1;base64," + payload + ", x": "data: x",
		"metadata: a, b":        "metadata: a, b",
		"the data: one,two":     "the data: one,two",
		"see https://h/a?b, ok": "see https://h/a, ok",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
