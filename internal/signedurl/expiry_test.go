package signedurl

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const base = "https://pikaso.cdnpk.net/private/production/1/render.png"

func TestExpiryIsReadInEveryKnownForm(t *testing.T) {
	policy := base64.StdEncoding.EncodeToString([]byte(
		`{"Statement":[{"Resource":"https://h/*","Condition":{"DateLessThan":{"AWS:EpochTime":1772064000}}}]}`))
	policy = strings.NewReplacer("+", "-", "=", "_", "/", "~").Replace(policy)
	for _, query := range []string{
		"token=exp=1772064000~hmac=0f",
		"token=exp_1772064000~hmac_0f",
		"token=exp%3D1772064000~hmac%3D0f",
		"token=exp%3D1772064000%7Ehmac%3D0f",
		"token=exp%253D1772064000%257Ehmac%253D0f",
		"token%3Dexp%3D1772064000~hmac%3D0f",
		"token=st=1772020800~exp=1772064000~acl=/private/*~data=a~hmac=0f",
		"preview=true&size=420&token=hmac=0f~exp=1772064000",
		"hdnts=EXP=1772064000~hmac=0f",
		"exp=1772064000", "exp=1772064000000", "exp=1772064000000000", "exp=1772064000.000", `exp="1772064000"`,
		"exp=2026-02-26T00:00:00Z", "exp=2026-02-26T01:00:00+01:00", "exp=2026-02-26T00%3A00%3A00.000Z",
		"token=exp=2026-02-26T00:00:00Z~hmac=0f",
		"Expires=1772064000&Signature=x&Key-Pair-Id=K",
		"Policy=" + policy + "&Signature=x",
		"Policy=" + url.QueryEscape(policy),
		"se=2026-02-26T00%3A00%3A00Z&sig=x",
		"X-Amz-Date=20260225T120000Z&X-Amz-Expires=43200&X-Amz-Signature=x",
		"X-Goog-Expires=43200&X-Goog-Date=20260225T120000Z",
		"exp=1772064000#exp=1700000000",
		"exp=1772064000&expires=1772064001",
	} {
		got, ok := Expiry(base + "?" + query)
		if want := time.Date(2026, 2, 26, 0, 0, 0, 0, time.UTC); !ok || got != want {
			t.Errorf("%s: %v %v, want %v", query, got, ok, want)
		}
	}
}

func TestExpiryIsUnknownWhereItIsImplausible(t *testing.T) {
	for _, query := range []string{
		"", "token=abc", "exp=", "exp=-1772064000", "exp=0", "exp=3600", "exp=32503680000", "exp=9999999999999999999999",
		"exp=9223372036854775807", "exp=never", "exp=1e10", "exp=1772064000x", "exp=9999-12-31T23:59:59Z", "exp=0001-01-01T00:00:00Z",
		"expired=1772064000", "st=1772064000", "id=1772064000", "X-Amz-Expires=43200", "X-Amz-Date=20260225T120000Z",
		"X-Amz-Date=20260225T120000Z&X-Amz-Expires=-1", "X-Amz-Date=20260225T120000Z&X-Amz-Expires=99999999999",
		"X-Amz-Date=20260225T120000Z&X-Goog-Expires=43200", "Policy=!!", "Policy=e30_", "%", "%zz=%z", "&&&", "~~~",
	} {
		if got, ok := Expiry(base + "?" + query); ok {
			t.Errorf("%s: %v, want unknown", query, got)
		}
	}
	for _, rawURL := range []string{"", "?", base, base + "#exp=1772064000", "https://h/exp=1772064000", base + "?" + strings.Repeat("a", maxURL) + "&exp=1772064000"} {
		if got, ok := Expiry(rawURL); ok {
			t.Errorf("%.60s: %v, want unknown", rawURL, got)
		}
	}
}

func TestExpiryReadsBackWhatWasSigned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unix := rapid.Int64Range(minUnix, maxUnix-1).Draw(t, "unix")
		at := time.Unix(unix, 0).UTC()
		form := rapid.SampledFrom([]string{
			fmt.Sprint(unix), fmt.Sprint(at.UnixMilli()), at.Format(time.RFC3339),
		}).Draw(t, "form")
		sign := rapid.SampledFrom([]string{"=", "%3D", "%3d", "%253D"}).Draw(t, "sign")
		if got, ok := Expiry(base + "?token=exp" + sign + form + "~hmac=0f"); !ok || !got.Equal(at) {
			t.Fatalf("%v %v, want %v", got, ok, at)
		}
	})
}

func FuzzExpiry(f *testing.F) {
	for _, s := range []string{
		base + "?token=exp=1772064000~hmac=0f", "?exp_1772064000", "?exp=1772064000000", "?X-Amz-Date=20260225T120000Z&X-Amz-Expires=43200",
		"?Policy=eyJTdGF0ZW1lbnQiOlt7fV19", "?se=2026-02-26T00%3A00%3A00Z", "?%25%32%35", "?exp=-1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rawURL string) {
		at, ok := Expiry(rawURL)
		switch {
		case ok != !at.IsZero():
			t.Fatalf("told %v with %v", at, ok)
		case ok && (at.Unix() < minUnix || at.Unix() >= maxUnix || at.Location() != time.UTC):
			t.Fatalf("implausible: %v", at)
		}
	})
}
