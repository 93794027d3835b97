// Package signedurl reads when a signed URL dies and takes the secrets out of
// URLs and out of texts that hold some.
//
// It guarantees that no input makes it panic or take more than linear time, that
// an expiry is told only where it is plausible, and that what Source and Redact
// give back holds no userinfo, query or fragment of a URL. It is pure, keeps
// nothing, and may be used from many goroutines. What an expiry means for order
// and for loss is left to others: unknown means "soon", never "for ever".
package signedurl

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// maxURL is the longest URL that is read, in bytes: far above what any server
// takes, and a bound for what a hostile answer can cost.
const maxURL = 64 << 10

// A plausible expiry lies in this century. An older one would be a duration or
// an ID read as a date, a later one a way to say "never".
const (
	minUnix = 1_000_000_000 // 2001-09-09
	maxUnix = 4_102_444_800 // 2100-01-01
)

// maxLife bounds the seconds that X-Amz-Expires and its like may give: S3 and
// GCS allow a week.
const maxLife = 366 * 24 * 60 * 60

// Expiry is the moment, in UTC, at which the URL stops being accepted: the
// earliest that its query tells, since all conditions of a signature must hold.
// False means that it tells none that is plausible.
//
// Read are, with names in any case and percent-encoded up to three times:
// Akamai tokens (`token=exp=<time>~hmac=...`, `exp_<time>`, any other fields
// between the ~, any parameter name), `exp`, `Expires` and their like (S3 v2,
// GCS v2, CloudFront canned), `se` (Azure), `X-Amz-Date` or `X-Goog-Date` with
// `-Expires` (signature v4), and CloudFront's `Policy`. A time is Unix seconds
// to nanoseconds, or RFC 3339.
func Expiry(rawURL string) (time.Time, bool) {
	if len(rawURL) > maxURL {
		return time.Time{}, false
	}
	rawURL, _, _ = strings.Cut(rawURL, "#")
	_, query, ok := strings.Cut(rawURL, "?")
	if !ok {
		return time.Time{}, false
	}
	var e expiry
	var amz, goog signatureV4
	for part := range strings.SplitSeq(query, "&") {
		part = unescape(part)
		name, value, _ := strings.Cut(part, "=")
		name = strings.ToLower(name)
		amz.read(name, "x-amz-", value)
		goog.read(name, "x-goog-", value)
		if name == "policy" {
			e.policy(value)
		}
		for field := range strings.SplitSeq(part, "~") {
			e.field(field)
		}
	}
	e.v4(amz)
	e.v4(goog)
	return e.at, !e.at.IsZero()
}

// expiry is the earliest plausible time seen so far; zero: none.
type expiry struct{ at time.Time }

func (e *expiry) saw(at time.Time) {
	if unix := at.Unix(); unix < minUnix || unix >= maxUnix {
		return
	}
	if e.at.IsZero() || at.Before(e.at) {
		e.at = at.UTC()
	}
}

// field reads `exp=<time>`, `exp_<time>` and their like, also behind the names
// of parameters (`token=exp=<time>`).
func (e *expiry) field(field string) {
	for {
		if len(field) > 4 && strings.EqualFold(field[:4], "exp_") {
			e.time(field[4:])
		}
		name, rest, ok := strings.Cut(field, "=")
		if !ok {
			return
		}
		switch strings.ToLower(name) {
		case "exp", "expire", "expires", "expiry", "expiration", "expires_at", "expiresat", "x-expires", "se":
			e.time(rest)
		}
		field = rest
	}
}

// time reads one time in any of its forms.
func (e *expiry) time(s string) {
	s = strings.Trim(s, ` "'`)
	whole, fraction, _ := strings.Cut(s, ".")
	if n, err := strconv.ParseInt(whole, 10, 64); err == nil && digits(fraction) {
		// The ranges of the units do not meet, so the number tells its own.
		for unit := int64(1); unit <= 1_000_000_000; unit *= 1000 {
			if n/unit >= minUnix && n/unit < maxUnix {
				e.saw(time.Unix(n/unit, n%unit*(1_000_000_000/unit)))
				return
			}
		}
		return
	}
	// A + that a form decoder took for a space is put back.
	if at, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+")); err == nil {
		e.saw(at)
	}
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// signatureV4 is the pair of parameters that gives a v4 signature's end.
type signatureV4 struct{ date, life string }

func (v *signatureV4) read(name, prefix, value string) {
	switch rest, ok := strings.CutPrefix(name, prefix); {
	case ok && rest == "date":
		v.date = value
	case ok && rest == "expires":
		v.life = value
	}
}

func (e *expiry) v4(v signatureV4) {
	life, err := strconv.ParseInt(v.life, 10, 64)
	if err != nil || life <= 0 || life > maxLife {
		return
	}
	for _, layout := range []string{"20060102T150405Z", time.RFC3339} {
		if at, err := time.Parse(layout, v.date); err == nil {
			e.saw(at.Add(time.Duration(life) * time.Second))
			return
		}
	}
}

// policy reads a CloudFront custom policy: base64 with - _ ~ for + = /, of a
// JSON document whose conditions name the last moment.
func (e *expiry) policy(value string) {
	value = strings.NewReplacer("-", "+", "_", "=", "~", "/", " ", "+").Replace(value)
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return
	}
	var doc struct {
		Statement []struct {
			Condition struct {
				DateLessThan map[string]json.Number
			}
		}
	}
	if json.Unmarshal(text, &doc) != nil {
		return
	}
	for _, statement := range doc.Statement {
		if at, ok := statement.Condition.DateLessThan["AWS:EpochTime"]; ok {
			e.time(at.String())
		}
	}
}

// unescape decodes percent-encoding, up to three layers of it, and leaves what
// is none as it is: a token is read on a best effort, and a + stays a +.
func unescape(s string) string {
	for range 3 {
		if !strings.Contains(s, "%") {
			break
		}
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) {
				if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b.WriteByte(byte(c))
					i += 2
					continue
				}
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	return s
}
