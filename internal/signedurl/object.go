package signedurl

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Object tells the objects apart that URLs lead to, whoever signed them and until
// when: it is 16 hex digits of a hash over path and query, without host, without
// what is known as part of a signature, and whatever the order of the parameters.
// Two URLs with the same Object lead to the same object; a difference may mean
// nothing.
func Object(rawURL string) string {
	rawURL, _, _ = strings.Cut(rawURL, "#")
	base, query, _ := strings.Cut(rawURL, "?")
	if at, ok := separator(base, 0); ok {
		base = base[at.end:]
		if slash := strings.IndexByte(base, '/'); slash >= 0 {
			base = base[slash:]
		} else {
			base = "/"
		}
	}
	kept := []string{}
	for name, part := range parameters(query) {
		if !signs(name, part) {
			kept = append(kept, part)
		}
	}
	slices.Sort(kept)
	sum := sha256.Sum256([]byte(unescape(base) + "\x00" + strings.Join(kept, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// parameters are the parts of a query, decoded, by their names in lower case.
func parameters(query string) func(func(name, part string) bool) {
	return func(yield func(name, part string) bool) {
		for part := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
			part = unescape(part)
			name, _, _ := strings.Cut(part, "=")
			if !yield(strings.ToLower(name), part) {
				return
			}
		}
	}
}

// signature names the parameters by which URLs are signed: Akamai, S3, Google Cloud
// Storage, CloudFront, Azure, Alibaba and Tencent, and the usual names of home-made
// ones.
var signature = []string{
	"token", "__token__", "hdnts", "hdnea", "hdntl", "hmac", "sig", "signature", "sign", "auth", "auth_key", "authorization", "verify",
	"exp", "expire", "expires", "expiry", "expiration", "expires_at", "expiresat", "expires_in", "validfrom", "validto", "valid_until",
	"policy", "key-pair-id", "keyname", "urlprefix", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "accesskeyid",
	"se", "st", "sp", "sv", "sr", "ss", "srt", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd", "ses",
	"x-expires", "x-signature", "x-tos-signature",
}

// signs reports whether a decoded parameter is part of a signature.
func signs(name, part string) bool {
	for _, prefix := range []string{"x-amz-", "x-goog-", "x-oss-", "x-cos-", "q-sign-", "q-key-", "q-ak", "q-header-", "q-url-", "q-signature"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	if slices.Contains(signature, name) {
		return true
	}
	_, value, _ := strings.Cut(part, "=")
	return strings.Contains(value, "~hmac=") || strings.Contains(value, "~hmac_") // an Akamai token under any name
}

// rendition names what says of a URL that it leads to less than the object itself.
var rendition = []string{
	"preview", "previews", "is_preview", "thumb", "thumbs", "thumbnail", "thumbnails", "placeholder", "lowres", "lqip",
	"low_res", "lowquality", "poster", "blur", "watermark", "watermarked", "draft", "proxy", "sample", "small", "tiny", "crop", "resize", "fit", "scale", "downscale",
	"size", "w", "h", "width", "height", "max_width", "max_height", "maxwidth", "maxheight", "max-w", "max-h", "dim", "q", "quality", "dpr",
}

// Preview reports whether the URL seems to lead to a reduced rendition of its object:
// a parameter says so (`preview=true`, `size=420`), or an element of its path or a
// word in its file's name (`/thumbs/`, `render-preview.png`). Of one whose parameter
// says `false`, `0` or `original` it does not.
func Preview(rawURL string) bool {
	rawURL, _, _ = strings.Cut(rawURL, "#")
	base, query, _ := strings.Cut(rawURL, "?")
	for name, part := range parameters(query) {
		_, value, _ := strings.Cut(part, "=")
		if slices.Contains(rendition, name) && !meansWhole(value) {
			return true
		}
		if (name == "variant" || name == "type" || name == "rendition" || name == "version") && slices.Contains(rendition[:reducedWords], strings.ToLower(value)) {
			return true
		}
	}
	if at, ok := separator(base, 0); ok {
		base = base[at.end:]
		_, base, _ = strings.Cut(base, "/")
	}
	words := strings.FieldsFunc(strings.ToLower(unescape(base)), func(r rune) bool { return strings.ContainsRune("/-_.@", r) })
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(rendition[:reducedWords], w) })
}

// reducedWords is how many of rendition's words say so wherever they stand.
const reducedWords = 10

func meansWhole(value string) bool {
	switch strings.ToLower(value) {
	case "false", "0", "no", "off", "original", "full", "source", "100":
		return true
	}
	return false
}
