package signedurl

import (
	"strings"
	"unicode"
)

// Clean is a URL as it was meant: without the blanks, controls and invisible
// characters at its ends, and with https where it begins with // and leaves the
// scheme to the page it stands on. All else stays as it came: a token that is written
// in another way can be refused.
func Clean(raw string) string {
	raw = strings.TrimFunc(raw, func(r rune) bool { return unicode.In(r, unicode.Z, unicode.Cc, unicode.Cf) })
	if strings.HasPrefix(raw, "//") {
		raw = "https:" + raw
	}
	return raw
}

// IsURL reports whether a text is a URL by what it begins with, once it is Clean, and
// not only the end of one.
func IsURL(text string) bool {
	text = Clean(text)
	return strings.Contains(text, "://") || IsData(text)
}

// IsData reports whether a URL holds its object itself (RFC 2397).
func IsData(rawURL string) bool { return hasPrefixFold(rawURL, "data:") }

// Data takes a data URL apart: the media type as it is written there, parameters
// included, and what stands behind its first comma. False: it is no data URL, or has
// no comma.
func Data(rawURL string) (mediaType, payload string, ok bool) {
	if !IsData(rawURL) {
		return "", "", false
	}
	return strings.Cut(rawURL[len("data:"):], ",")
}
