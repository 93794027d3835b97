package signedurl

import (
	"regexp"
	"strings"
)

// separator matches the :// of a URL in the ways it is written: as it is, as
// JSON escapes it, and percent-encoded once or more.
var separator = regexp.MustCompile(`(?i):(?:(?:\\*/){2}|(?:\\+u002f){2}|(?:%(?:25)*2f){2})|%(?:25)*3a(?:%(?:25)*2f){2}`)

// Where a query or fragment begins; in a URL that is percent-encoded itself, the
// encoded forms say so too.
var (
	queryStart        = regexp.MustCompile(`(?i)[?#]|\\u00(?:3f|23)`)
	encodedQueryStart = regexp.MustCompile(`(?i)[?#]|\\u00(?:3f|23)|%(?:25)*(?:3f|23)`)
	// In a plain URL an encoded ? can be part of a file's name, unless what
	// follows it reads like a query.
	hiddenQuery = regexp.MustCompile(`(?i)%(?:25)*(?:3f|23)[^%]*(?:=|%(?:25)*3d)`)
)

// Where userinfo and authority end.
var (
	authorityEnd        = regexp.MustCompile(`[/\\?#]`)
	encodedAuthorityEnd = regexp.MustCompile(`(?i)[/\\?#]|%(?:25)*(?:2f|3f|23)`)
	userinfo            = regexp.MustCompile(`^.*@`)
	encodedUserinfo     = regexp.MustCompile(`(?i)^.*(?:@|%(?:25)*40)`)
)

// leftover matches what of a signature may stand in a text without its URL: a
// telling name and the value behind it.
var leftover = regexp.MustCompile(`(?i)((?:token|signature|sig|hmac|policy|key-pair-id|credential|awsaccesskeyid|googleaccessid|secret|passw(?:or)?d|api[_-]?key)(?:=|%(?:25)*3d)|hmac_)[^\s"'<>&,;)}\\]+`)

// Source is what of a URL may be shown and kept: scheme, host, port and path,
// without userinfo, query and fragment. Of what has no :// a path or, for
// `data:` and the like, the scheme alone is kept.
func Source(rawURL string) string {
	at := separator.FindStringIndex(rawURL)
	if at == nil {
		path := rawURL[:indexOr(queryStart, rawURL, len(rawURL))]
		if scheme, _, ok := strings.Cut(path, ":"); ok {
			path = scheme + ":"
		}
		return hideLeftovers(path)
	}
	scheme := rawURL[schemeStart(rawURL, at[0], 0):at[1]]
	kept, _ := strip(rawURL[at[1]:], strings.Contains(scheme, "%"))
	return hideLeftovers(scheme + kept)
}

// Redact is the text with every URL in it cut down to its Source, however many
// there are, in quotes or not, percent-encoded or not; and with what looks like
// a token or a signature by its name replaced. Where the end of a URL cannot be
// told it takes a word too much rather than one too few: an unquoted URL ends at
// a space alone, since net/url lets line breaks and quotes into its errors.
func Redact(text string) string {
	found := separator.FindAllStringIndex(text, -1)
	if len(found) == 0 {
		return hideLeftovers(text)
	}
	var b strings.Builder
	done := 0 // of text: written or dropped
	end := 0  // of the word or the quotes in which the URL stands
	for i, at := range found {
		if at[0] < done { // within a query that was dropped
			continue
		}
		if at[1] > end {
			end = urlEnd(text, schemeStart(text, at[0], done), at[1])
		}
		b.WriteString(text[done:at[1]])
		stop := end
		if i+1 < len(found) && found[i+1][0] < end {
			stop = schemeStart(text, found[i+1][0], at[1])
		}
		kept, query := strip(text[at[1]:stop], strings.Contains(text[at[0]:at[1]], "%"))
		b.WriteString(kept)
		done = stop
		if query += at[1]; query < stop {
			done = queryEnd(text, end)
			b.WriteString(punctuation(text[query:done]))
		}
	}
	b.WriteString(text[done:])
	return hideLeftovers(b.String())
}

// strip takes what follows a :// and gives back host, port and path, and where in
// it query or fragment begin: len(s) where there is none.
func strip(s string, encoded bool) (kept string, query int) {
	starts, ends, user := queryStart, authorityEnd, userinfo
	if encoded {
		starts, ends, user = encodedQueryStart, encodedAuthorityEnd, encodedUserinfo
	}
	query = indexOr(starts, s, len(s))
	if !encoded {
		query = indexOr(hiddenQuery, s[:query], query)
	}
	s = s[:query]
	slash := indexOr(ends, s, len(s))
	authority, path := s[:slash], s[slash:]
	if at := user.FindStringIndex(authority); at != nil {
		authority = authority[at[1]:]
	}
	return hostPort(authority) + path, query
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
		if separator.MatchString(word) || !open && !strings.ContainsAny(word, "&~") {
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

func indexOr(re *regexp.Regexp, s string, or int) int {
	if at := re.FindStringIndex(s); at != nil {
		return at[0]
	}
	return or
}

func hideLeftovers(s string) string {
	return leftover.ReplaceAllString(s, "${1}[redacted]")
}
