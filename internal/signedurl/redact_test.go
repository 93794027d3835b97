package signedurl

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const planted = "PLANTED5ecret"

func TestSourceKeepsSchemeHostAndPathAlone(t *testing.T) {
	for in, want := range map[string]string{
		"https://h/p/a.png?token=" + planted:                "https://h/p/a.png",
		"https://h/p/a.png#" + planted:                      "https://h/p/a.png",
		"https://u:" + planted + "@h:8443/p?x":              "https://h:8443/p",
		"https://u:p%40" + planted + "@h/p":                 "https://h/p",
		"https://" + planted + "@[::1]:80/p":                "https://[::1]:80/p",
		"https://u:" + planted + "?x@h/p":                   "https://u",
		"HTTPS://H?" + planted:                              "HTTPS://H",
		"https://h/a%3Fb.png":                               "https://h/a%3Fb.png",
		"https://h/a.png%3Ftoken%3D" + planted:              "https://h/a.png",
		"https://h/a b\n?" + planted:                        "https://h/a b\n",
		"https://h/@scope/a.png":                            "https://h/@scope/a.png",
		"https://h/token=exp=1~hmac=" + planted + "/v.mp4":  "https://h/token=[redacted]",
		"https%3A%2F%2Fu%3A" + planted + "%40h%2Fp%3Fx%3D1": "https%3A%2F%2Fh%2Fp",
		"data:image/png;base64," + planted:                  "data:",
		"/p/a.png?" + planted:                               "/p/a.png",
		"?" + planted:                                       "",
		"":                                                  "",
	} {
		if got := Source(in); got != want {
			t.Errorf("Source(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRedactKeepsTheTextAroundAURL(t *testing.T) {
	_, badURL := url.Parse(strings.Join([]string{"https://h/p?token=", planted, "\n"}, ""))
	for in, want := range map[string]string{
		`Get "https://h/p?token=` + planted + `": dial tcp: timeout`: `Get "https://h/p": dial tcp: timeout`,
		"Get https://h/p?token=" + planted + ": EOF":                 "Get https://h/p: EOF",
		"(see https://h/p#" + planted + ").":                         "(see https://h/p).",
		"https://a/1?x=" + planted + " https://b/2?y=" + planted:     "https://a/1 https://b/2",
		"https://a/1,https://u:" + planted + "@b/2?y=" + planted:     "https://a/1,https://b/2",
		`["https://a/1?x=` + planted + `","https://b/2"]`:            `["https://a/1","https://b/2"]`,
		`{\"url\":\"https://a/1?x=` + planted + `\"}`:                `{\"url\":\"https://a/1\"}`,
		`{"url":"https:\/\/a\/1?x=` + planted + `"}`:                 `{"url":"https:\/\/a\/1"}`,
		`'https://a/1?x=y z=` + planted + `' is bad`:                 `'https://a/1' is bad`,
		`"https://a/1?x="&y=` + planted + `" is bad`:                 `"https://a/1" is bad`,
		"https://a/1?x&\ny=" + planted + " is bad":                   "https://a/1 is bad",
		"https://a/1?x=y b&z=" + planted + " is bad":                 "https://a/1 is bad",
		"https://h:443: connection refused":                          "https://h:443: connection refused",
		"to https%3A%2F%2Fh%2Fp%3Ftoken%3D" + planted + " it went":   "to https%3A%2F%2Fh%2Fp it went",
		"https://h/fetch/https%3A%2F%2Fc%2Fp%3Fx%3D" + planted:       "https://h/fetch/https%3A%2F%2Fc%2Fp",
		"bad token=" + planted + ", sorry":                           "bad token=[redacted], sorry",
		"exp=1~hmac_" + planted + " sorry":                           "exp=1~hmac_[redacted] sorry",
		"what? a=b & c#d, 1://":                                      "what? a=b & c#d, 1://",
		"server.token_file is missing":                               "server.token_file is missing",
		badURL.Error():                                               `parse "https://h/p": net/url: invalid control character in URL`,
		"":                                                           "",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q)\n got %q\nwant %q", in, got, want)
		}
	}
}

// A URL may stand anywhere and hold anything; its token is not seen again.
func TestAPlantedTokenNeverSurvives(t *testing.T) {
	noise := rapid.StringOfN(rapid.RuneFrom([]rune("ab/?#&=~%@:.,;\n\t\\'\"<>[](){}é世")), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		separator := rapid.SampledFrom([]string{"://", `:\/\/`, "%3A%2F%2F", "%3a%2f%2F", ":%2F%2F", "%253A%252F%252F"}).Draw(t, "separator")
		query := rapid.SampledFrom([]string{"?", "#", "?token="}).Draw(t, "query")
		secret := rapid.SampledFrom([]string{"/p" + query + noise.Draw(t, "before") + planted, "", "/p"}).Draw(t, "secret")
		if secret == "" || secret == "/p" {
			secret = "/p?" + planted
		}
		rawURL := "https" + separator + "host" + secret + noise.Draw(t, "after")
		text := noise.Draw(t, "left") + " " + rawURL + " " + noise.Draw(t, "right")
		for _, got := range []string{Redact(text), Source(rawURL), Redact(rawURL)} {
			if strings.Contains(got, planted) {
				t.Fatalf("%q still tells %q", text, got)
			}
		}
		quoted := "x " + strconv.Quote(rawURL) + ": y"
		if got := Redact(quoted); strings.Contains(got, planted) || !strings.HasSuffix(got, "y") {
			t.Fatalf("%q became %q", quoted, got)
		}
	})
}

func TestUserinfoNeverSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringMatching(`[a-z%:@~=&.]{0,6}`).Draw(t, "user")
		rawURL := "https://" + user + planted + "@host/p"
		if got := Redact("to " + rawURL + " and back"); got != "to https://host/p and back" {
			t.Fatalf("%q became %q", rawURL, got)
		}
	})
}

func TestRedactTakesLinearTime(t *testing.T) {
	for _, part := range []string{"://", "a://b? ", "'a://b", "x://%3F@"} {
		if got := Redact(strings.Repeat(part, 1<<17/len(part))); len(got) > 1<<18 {
			t.Errorf("%q grew to %d bytes", part, len(got))
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{
		`Get "https://u:p@h/p?token=exp=1~hmac=2": EOF`, "https%3A%2F%2Fh%2Fp%3Fx", `https:\/\/h\/p?x`, "a://b://c?d", "x://u@://b?c", "token=hmac_1", "'://?'",
	} {
		f.Add(s, "t=")
	}
	f.Fuzz(func(t *testing.T, text, before string) {
		once := Redact(text)
		if again := Redact(once); again != once {
			t.Fatalf("%q became %q, then %q", text, once, again)
		}
		if strings.Contains(text+before, planted) || strings.ContainsRune(before, ' ') {
			return
		}
		if got := Redact(text + " https://h/p?" + before + planted); strings.Contains(got, planted) {
			t.Fatalf("%q still told: %q", text, got)
		}
		if got := Source(text + "?" + before + planted); strings.Contains(got, planted) {
			t.Fatalf("source still told: %q", got)
		}
	})
}
