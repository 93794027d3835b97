package signedurl

import (
	"regexp"
	"strings"
)

// leftover matches what of a signature may stand in a text without its URL: a
// telling name and the value behind it.
var leftover = regexp.MustCompile(`(?i)((?:token|signature|sig|hmac|policy|key-pair-id|credential|awsaccesskeyid|googleaccessid|secret|passw(?:or)?d|api[_-]?key)(?:=|%(?:25)*3d)|hmac_)[^\s"'<>&,;)}\\]+`)

// Source is what of a URL may be shown and kept: scheme, host, port and path,
// without userinfo, query and fragment. Of what has no :// a path or, for
// `data:` and the like, the scheme alone is kept.
func Source(rawURL string) string {
	if IsData(rawURL) {
		return "data:" // whatever it holds, a :// included
	}
	at, ok := separator(rawURL, 0)
	if !ok {
		path := rawURL[:queryStart(rawURL, false)]
		if scheme, _, ok := strings.Cut(path, ":"); ok {
			path = scheme + ":"
		}
		return hideLeftovers(path)
	}
	scheme := rawURL[schemeStart(rawURL, at.start, 0):at.end]
	kept, _ := strip(rawURL[at.end:], at.encoded)
	return hideLeftovers(scheme + kept)
}

// inlined matches a data URL within a text: its payload may be megabytes of it.
var inlined = regexp.MustCompile(`(?i)\b(data:)([a-z0-9+._-]+/[a-z0-9+._-]+)?((?:;[^\s,;"'<>]*)*),[^\s"'<>]+`)

// hideInlined leaves of data URLs what Source does.
func hideInlined(text string) string {
	if !strings.Contains(text, ",") || !strings.Contains(text, "data:") && !strings.Contains(strings.ToLower(text), "data:") {
		return text
	}
	return inlined.ReplaceAllStringFunc(text, func(found string) string {
		if part := inlined.FindStringSubmatch(found); part[2] == "" && part[3] == "" {
			return found // a word and a comma
		}
		return "data:"
	})
}

// Redact is the text with every URL in it cut down to its Source, however many
// there are, in quotes or not, percent-encoded or not; and with what looks like
// a token or a signature by its name replaced. Where the end of a URL cannot be
// told it takes a word too much rather than one too few: an unquoted URL ends at
// a space alone, since net/url lets line breaks and quotes into its errors.
func Redact(text string) string {
	text = hideInlined(text)
	at, ok := separator(text, 0)
	if !ok {
		return hideLeftovers(text)
	}
	var b strings.Builder
	done := 0 // of text: written or dropped
	end := 0  // of the word or the quotes in which the URL stands
	for ok {
		if at.end > end {
			end = urlEnd(text, schemeStart(text, at.start, done), at.end)
		}
		b.WriteString(text[done:at.end])
		next, more := separator(text, at.end)
		stop := end
		if more && next.start < end {
			stop = schemeStart(text, next.start, at.end)
		}
		kept, query := strip(text[at.end:stop], at.encoded)
		b.WriteString(kept)
		done = stop
		if query += at.end; query < stop {
			done = queryEnd(text, end)
			b.WriteString(punctuation(text[query:done]))
			if more && next.start < done { // within the query that was dropped
				next, more = separator(text, done)
			}
		}
		at, ok = next, more
	}
	b.WriteString(text[done:])
	return hideLeftovers(b.String())
}

// strip takes what follows a :// and gives back host, port and path, and where in
// it query or fragment begin: len(s) where there is none.
func strip(s string, encoded bool) (kept string, query int) {
	query = queryStart(s, encoded)
	s = s[:query]
	slash, host := len(s), 0
	for i := 0; i < slash; i++ {
		switch c := s[i]; {
		case c == '/', c == '\\', encoded && escape(s[i:], "2f") > 0:
			slash = i
		case c == '@':
			host = i + 1
		case encoded && escape(s[i:], "40") > 0:
			host = i + escape(s[i:], "40")
		}
	}
	return hostPort(s[host:slash]) + s[slash:], query
}

// queryStart is where a query or fragment begins: len(s) where there is none. In
// a URL that is percent-encoded itself the encoded ? and # say so too; in a plain
// one they can be part of a file's name, unless a query seems to follow.
func queryStart(s string, encoded bool) int {
	for i := range len(s) {
		switch s[i] {
		case '?', '#':
			return i
		case '\\':
			if hasPrefixFold(s[i:], `\u003f`) || hasPrefixFold(s[i:], `\u0023`) {
				return i
			}
		case '%':
			n := max(escape(s[i:], "3f"), escape(s[i:], "23"))
			if n > 0 && (encoded || readsLikeQuery(s[i+n:])) {
				return i
			}
		}
	}
	return len(s)
}

// readsLikeQuery reports whether an = comes next, or its encoded form.
func readsLikeQuery(s string) bool {
	i := strings.IndexAny(s, "=%")
	return i >= 0 && (s[i] == '=' || escape(s[i:], "3d") > 0)
}

// span is where the :// of a URL stands.
type span struct {
	start, end int
	encoded    bool // the URL is percent-encoded
}

// separator finds the next :// from i on, in the ways it is written: as it is, as
// JSON escapes it, and percent-encoded once or more.
func separator(s string, i int) (span, bool) {
	for ; i < len(s); i++ {
		colon := 0
		switch s[i] {
		case ':':
			colon = 1
		case '%':
			colon = escape(s[i:], "3a")
		}
		if colon == 0 {
			continue
		}
		first := slash(s[i+colon:])
		if first == 0 {
			continue
		}
		if second := slash(s[i+colon+first:]); second > 0 {
			end := i + colon + first + second
			return span{i, end, strings.Contains(s[i:end], "%")}, true
		}
	}
	return span{}, false
}

// slash is the length of the / that s begins with, in any way it is written; 0:
// none.
func slash(s string) int {
	rest := strings.TrimLeft(s, `\`)
	n := len(s) - len(rest)
	switch {
	case strings.HasPrefix(rest, "/"):
		return n + 1
	case n > 0 && hasPrefixFold(rest, "u002f"):
		return n + len("u002f")
	case n == 0:
		return escape(s, "2f")
	}
	return 0
}

// escape is the length of the percent-encoded character, by its hex digits, that
// s begins with, whose % may be encoded itself any number of times; 0: none.
func escape(s, hex string) int {
	if s == "" || s[0] != '%' {
		return 0
	}
	n := 1
	for strings.HasPrefix(s[n:], "25") {
		n += 2
	}
	if !hasPrefixFold(s[n:], hex) {
		return 0
	}
	return n + len(hex)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// hostPort is the authority without what cannot be a port: a password that held
// a ? or a /, of which the rest was taken for a query or a path.
func hostPort(authority string) string {
	name := strings.TrimRight(authority, ":,.;)")
	after := strings.LastIndexByte(name, ']') + 1
	colon := strings.IndexByte(name[after:], ':')
	if colon < 0 || digits(name[after+colon+1:]) {
		return authority
	}
	return name[:after+colon] + authority[len(name):]
}

// urlEnd is where the URL whose scheme begins at start, and whose authority at
// from, ends at the latest: at the closing one of the quotes it stands in, or at
// the next space.
func urlEnd(text string, start, from int) int {
	if start == 0 || !strings.ContainsRune("\"'`", rune(text[start-1])) {
		if n := strings.IndexByte(text[from:], ' '); n >= 0 {
			return from + n
		}
		return len(text)
	}
	quote := text[start-1]
	escaped := start > 1 && text[start-2] == '\\'
	for i := from; i < len(text); i++ {
		switch {
		case text[i] == '\\' && !escaped:
			i++ // so is what it escapes
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == quote:
			return i
		case text[i] == quote && closes(text[i+1:]):
			return i
		}
	}
	return len(text) // the text was cut short
}

// closes reports whether a quote may be the closing one by what follows it. A
// quote within a query is followed by more of the query.
func closes(rest string) bool {
	return rest == "" || strings.ContainsRune(" \t\r\n\"'`:,;.)]}>\\", rune(rest[0]))
}

// queryEnd is where the query in the word that ends at end ends: a query that
// holds spaces goes on with words that still read like one.
func queryEnd(text string, end int) int {
	for end < len(text) && text[end] == ' ' {
		next := len(text)
		if n := strings.IndexByte(text[end+1:], ' '); n >= 0 {
			next = end + 1 + n
		}
		word := text[end+1 : next]
		open := strings.ContainsRune("=&~?", rune(text[end-1]))
		if _, url := separator(word, 0); url || !open && !strings.ContainsAny(word, "&~") {
			break
		}
		end = next
	}
	return end
}

// punctuation is the run of marks at the end of what is dropped: they belong to
// the sentence, and hold no secret.
func punctuation(dropped string) string {
	return dropped[len(strings.TrimRight(dropped, "\"'`:,;.)]}>")):]
}

// schemeStart walks back over the scheme that ends before i, not before low.
func schemeStart(text string, i, low int) int {
	for i > low {
		c := text[i-1]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && c != '+' && c != '-' && c != '.' {
			break
		}
		i--
	}
	return i
}

func hideLeftovers(s string) string {
	if !hasLeftover(s) {
		return s
	}
	return leftover.ReplaceAllString(s, "${1}[redacted]")
}

// hasLeftover reports whether there is anything in s that every leftover has:
// most texts have not, and the expression is slow.
func hasLeftover(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case '=':
			return true
		case '%':
			if escape(s[i:], "3d") > 0 {
				return true
			}
		case '_':
			if i >= 4 && strings.EqualFold(s[i-4:i], "hmac") {
				return true
			}
		}
	}
	return false
}
