package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
)

// Headers of a signed delivery (Standard Webhooks specification, "Webhook metadata").
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// errSignature is why a delivery is not believed.
var errSignature = errors.New("the signature does not fit any secret in webhook.secret_file")

// signed checks that one of the signatures of a delivery is the HMAC-SHA256 of
// id.timestamp.body with one of the keys. What stands before a signature (v1, v2) may be
// the scheme's version or name which secret signed: it decides nothing, each signature is
// compared with each key. The comparison takes the same time wherever they differ (CWE-208).
func signed(keys [][]byte, h http.Header, body []byte) error {
	id, timestamp, values := h.Get(headerID), h.Get(headerTimestamp), h.Values(headerSignature)
	if id == "" || timestamp == "" || len(values) == 0 {
		return errors.New("the headers " + headerID + ", " + headerTimestamp + " and " + headerSignature + " are needed")
	}
	shown := signatures(values)
	if len(shown) == 0 {
		return errors.New(headerSignature + " holds no signature, like v1,<base64>")
	}
	fits := false
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, signature := range shown {
			fits = hmac.Equal(signature, want) || fits
		}
	}
	if !fits {
		return errSignature
	}
	return nil
}

// signatures decodes what the header holds: versions and signatures, separated by spaces
// and commas. A header that came several times may have been joined by a proxy.
func signatures(values []string) (found [][]byte) {
	for _, value := range values {
		for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
			data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(word, "="))
			if err == nil && len(data) == sha256.Size {
				found = append(found, data)
			}
		}
	}
	return found
}
