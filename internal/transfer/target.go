package transfer

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/assetd/assetd/internal/signedurl"
)

// target is one URL to ask: where it leads, and the exact bytes to ask for.
type target struct {
	scheme string // lower case
	host   string // lower case, with its port where one was written
	name   string // the host without port and brackets
	path   string // starts with "/"
	query  string // with its "?"; empty: none
	user   *url.Userinfo
}

// parseTarget takes a URL apart without decoding anything behind its host:
// net/url would rewrite some of it, and a rewritten token can be refused.
// The one change: a space and what is not ASCII is percent-encoded, as every
// browser does, since neither may stand in a request (RFC 9112, section 3.2).
func parseTarget(raw string) (target, error) {
	if raw == "" {
		return target{}, errors.New("the answer gave no URL")
	}
	if i := strings.IndexFunc(raw, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return target{}, fmt.Errorf("the URL has a control character (%#x) at byte %d", raw[i], i)
	}
	scheme, rest, ok := cutScheme(raw)
	if !ok {
		return target{}, errors.New("the URL has no scheme")
	}
	if scheme != "https" && scheme != "http" {
		return target{}, &ruleError{fmt.Sprintf("the scheme %s is not fetched", scheme)}
	}
	rest, ok = strings.CutPrefix(rest, "//")
	if !ok {
		return target{}, errors.New("the URL names no host")
	}
	rest, _, _ = strings.Cut(rest, "#")
	authority, asked := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, asked = rest[:i], rest[i:]
	}
	t := target{scheme: scheme}
	if err := t.setAuthority(authority); err != nil {
		return target{}, err
	}
	asked = encode(asked)
	if i := strings.IndexByte(asked, '?'); i >= 0 {
		asked, t.query = asked[:i], asked[i:]
	}
	t.path = asked
	if t.path == "" {
		t.path = "/"
	}
	return t, nil
}

// cutScheme splits at the colon that ends a scheme (RFC 3986, section 3.1).
func cutScheme(raw string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(raw, ":")
	if !ok || scheme == "" {
		return "", raw, false
	}
	for i := range len(scheme) {
		switch c := scheme[i] | 0x20; {
		case 'a' <= c && c <= 'z':
		case i > 0 && strings.IndexByte("0123456789+-.", scheme[i]) >= 0:
		default:
			return "", raw, false
		}
	}
	return strings.ToLower(scheme), rest, true
}

func (t *target) setAuthority(authority string) error {
	u, err := url.Parse("//" + authority + "/")
	if err != nil || u.Hostname() == "" {
		return errors.New("the URL names no host that can be read") // the cause would quote userinfo
	}
	t.host, t.name, t.user = strings.ToLower(u.Host), strings.ToLower(u.Hostname()), u.User
	return nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// encode percent-encodes spaces and bytes past ASCII, and nothing else.
func encode(s string) string {
	if ascii(s) && !strings.Contains(s, " ") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == ' ' || c >= 0x80 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// urlExtension is the extension of a URL's path in lower case, with its dot; empty where it
// has none that can be one.
func urlExtension(rawURL string) string {
	t, err := parseTarget(rawURL)
	if err != nil {
		return ""
	}
	ext := strings.ToLower(path.Ext(t.path))
	if len(ext) < 2 || len(ext) > 9 || strings.Trim(ext[1:], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return ""
	}
	return ext
}

// String is the whole URL, secrets included: for comparing and resolving only.
func (t target) String() string { return t.origin() + t.path + t.query }

func (t target) origin() string {
	return t.scheme + "://" + strings.Replace(t.host, "%", "%25", 1) // the % of an IPv6 zone
}

// source is the URL without its secrets, for people.
func (t target) source() string { return signedurl.Source(t.String()) }

// url is the URL in the form that makes net/http send exactly path and query.
// absolute asks for the form that a proxy needs for http (RFC 9112, section 3.2.2).
func (t target) url(absolute bool) *url.URL {
	u := &url.URL{Scheme: t.scheme, Host: t.host}
	if t.query != "" {
		u.RawQuery, u.ForceQuery = t.query[1:], true
	}
	if !absolute && !strings.HasPrefix(t.path, "//") {
		u.Opaque = t.path
		return u
	}
	if path, err := url.PathUnescape(t.path); err == nil && !absolute {
		// An Opaque that starts with "//" reads as an authority, a RawPath does not.
		u.Path, u.RawPath = path, t.path
		if u.EscapedPath() == t.path {
			return u
		}
		u.Path, u.RawPath = "", ""
	}
	u.Opaque = "//" + t.host + t.path // sent as scheme://host/path, which every server must take
	return u
}

// follow is where a redirect leads.
func (t target) follow(location string) (target, error) {
	switch _, _, absolute := cutScheme(location); {
	case absolute:
		return parseTarget(location)
	case strings.HasPrefix(location, "//"):
		return parseTarget(t.scheme + ":" + location)
	case strings.HasPrefix(location, "/"):
		return parseTarget(t.origin() + location)
	case strings.HasPrefix(location, "?"):
		return parseTarget(t.origin() + t.path + location)
	}
	base, err := url.Parse(t.String())
	if err == nil {
		base, err = base.Parse(location)
	}
	if err != nil {
		return target{}, errors.New("it cannot be resolved") // the cause would quote the URL
	}
	return parseTarget(base.String())
}
