package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/server"
)

// mac is the signature of a delivery with a key, in base64.
func mac(key []byte, id string, sent time.Time, body string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + strconv.FormatInt(sent.Unix(), 10) + "." + body))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// signedWith is a delivery with these signatures, one header for each.
func signedWith(id string, sent time.Time, body string, signatures ...string) *http.Request {
	r := request("POST", "/webhooks/magnific", body, "Host", "hooks.example",
		"webhook-id", id, "webhook-timestamp", strconv.FormatInt(sent.Unix(), 10))
	for _, s := range signatures {
		r.Header.Add("webhook-signature", s)
	}
	return r
}

// Which version stands before a signature says nothing about whether it fits: the vendor
// names with it which secret signed, and proxies join headers.
func TestCase_D2_EverySignatureIsComparedWithEveryKey(t *testing.T) {
	const id, body = "msg_1", `{"run_id": "unknown001"}`
	sent := time.Now()
	old, fresh, foreign := []byte("the old secret of 28 bytes!!"), []byte("0123456789abcdef0123456789abcdef"), []byte("somebody else's secret!!")
	a, b, x := mac(old, id, sent, body), mac(fresh, id, sent, body), mac(foreign, id, sent, body)
	for name, c := range map[string]struct {
		signatures []string
		code       int
	}{
		"v1 is the old secret's":       {[]string{"v1," + a + " v2," + x}, http.StatusAccepted},
		"v2 is the new secret's":       {[]string{"v1," + x + " v2," + b}, http.StatusAccepted},
		"v2 alone":                     {[]string{"v2," + a}, http.StatusAccepted},
		"v17 last of three":            {[]string{"v1," + x + " v2," + x + " v17," + b}, http.StatusAccepted},
		"another scheme's before":      {[]string{"v1a," + base64.StdEncoding.EncodeToString(make([]byte, 64)) + " v1," + b}, http.StatusAccepted},
		"no version":                   {[]string{b}, http.StatusAccepted},
		"without padding":              {[]string{"v1," + strings.TrimRight(a, "=")}, http.StatusAccepted},
		"several blanks":               {[]string{"v1," + x + "   v2," + a + " "}, http.StatusAccepted},
		"the header twice":             {[]string{"v1," + x, "v2," + b}, http.StatusAccepted},
		"joined by a proxy":            {[]string{"v1," + x + ", v2," + b}, http.StatusAccepted},
		"joined without a blank":       {[]string{"v1," + x + ",v2," + b}, http.StatusAccepted},
		"none that fits":               {[]string{"v1," + x + " v2," + x}, http.StatusUnauthorized},
		"of another message":           {[]string{"v1," + mac(fresh, "msg_2", sent, body)}, http.StatusUnauthorized},
		"cut short":                    {[]string{"v1," + b[:20]}, http.StatusUnauthorized},
		"the right one with more":      {[]string{"v1," + base64.StdEncoding.EncodeToString(make([]byte, 31)) + b}, http.StatusUnauthorized},
		"a version and nothing":        {[]string{"v1,"}, http.StatusUnauthorized},
		"empty":                        {[]string{""}, http.StatusUnauthorized},
		"signed with an empty key":     {[]string{"v1," + mac(nil, id, sent, body)}, http.StatusUnauthorized},
		"many that do not fit and one": {[]string{strings.Repeat("v1,"+x+" ", 100) + "v9," + a}, http.StatusAccepted},
	} {
		s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.WebhookKeys = [][]byte{old, fresh} })
		if w := answer(s.Handler(), signedWith(id, sent, body, c.signatures...)); w.Code != c.code {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.code)
		}
	}
}
