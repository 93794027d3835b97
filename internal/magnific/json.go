package magnific

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"

	"github.com/assetd/assetd/internal/pyjson"
	"github.com/assetd/assetd/internal/signedurl"
)

// What an answer may cost. An honest one stays far below each.
const (
	maxDepth  = 100    // of nesting: what is kept is nested once more in files
	maxFields = 256    // in one object that is read
	maxExtra  = 50_000 // unknown fields in the whole answer
	maxAssets = 20_000
)

// document returns body as one JSON document that members and elements may cut
// apart: without a byte order mark, without blanks and NULs at its ends, and with
// null for the numbers that Python's json.dumps writes and JSON does not have. Its
// error says why body is no such document.
func document(body []byte) ([]byte, error) {
	body = bytes.Trim(bytes.TrimPrefix(body, []byte("\uFEFF")), " \t\r\n\x00")
	body = pyjson.Strict(body)
	return body, check(body)
}

// check reports why body is not one JSON document that can be read. What passes
// may be cut apart by members and elements, which copy nothing.
func check(body []byte) error {
	switch {
	case len(body) == 0:
		return errors.New("its body is empty")
	case body[0] == '<':
		return errors.New("it is an HTML page, not JSON")
	case !utf8.Valid(body):
		return errors.New("it is not valid UTF-8")
	case tooDeep(body):
		return fmt.Errorf("its JSON is nested deeper than %d levels", maxDepth)
	}
	if err := json.Unmarshal(body, new(nothing)); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	return nil
}

// nothing is what any JSON value decodes into without being kept.
type nothing struct{}

func (*nothing) UnmarshalJSON([]byte) error { return nil }

// tooDeep is asked before the syntax is known: encoding/json's own limit is too
// high for what is kept, and its message says nothing.
func tooDeep(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// member is one field of an object; its value is a part of the body.
type member struct {
	name  string
	value []byte
}

// members cuts an object apart. A name that stands twice has no one meaning, and
// is an error. The input must have passed check.
func members(doc []byte) ([]member, error) {
	var found []member
	for i := next(doc, 1); doc[i] != '}'; i = next(doc, i) {
		nameEnd := end(doc, i)
		name := text(doc[i:nameEnd])
		from := next(doc, nameEnd)
		to := end(doc, from)
		i = to
		for _, m := range found {
			if m.name == name {
				return nil, fmt.Errorf("its JSON has the field %.40q twice", signedurl.Redact(name))
			}
		}
		if len(found) == maxFields {
			return nil, fmt.Errorf("its JSON has an object with more than %d fields", maxFields)
		}
		found = append(found, member{name, doc[from:to]})
	}
	return found, nil
}

// elements are the values in a list. The input must have passed check.
func elements(doc []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := next(doc, 1); doc[i] != ']'; i = next(doc, i) {
			from := i
			if i = end(doc, from); !yield(doc[from:i]) {
				return
			}
		}
	}
}

// next is where the next value, or the end of what holds it, begins.
func next(doc []byte, i int) int {
	for doc[i] == ' ' || doc[i] == '\t' || doc[i] == '\r' || doc[i] == '\n' || doc[i] == ',' || doc[i] == ':' {
		i++
	}
	return i
}

// end is where the value that begins at i is over.
func end(doc []byte, i int) int {
	depth := 0
	for ; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			for i++; doc[i] != '"'; i++ {
				if doc[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 || !separates(doc, i+1) {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// separates reports whether a number or literal cannot go on at i.
func separates(doc []byte, i int) bool {
	if i >= len(doc) {
		return true
	}
	switch doc[i] {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
		return true
	}
	return false
}

// text is a JSON string's value; empty for anything else.
func text(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func isNull(raw []byte) bool { return len(raw) == 0 || raw[0] == 'n' }

func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

func isList(raw []byte) bool { return len(raw) > 0 && raw[0] == '[' }

func isString(raw []byte) bool { return len(raw) > 0 && raw[0] == '"' }

func isNumber(raw []byte) bool {
	return len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9')
}

// integer is a JSON number that is a whole one and no negative: 1024, 1024.0.
func integer(raw []byte) (int, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if !isNumber(raw) || err != nil || f < 0 || f > 1<<31 || f != float64(int(f)) {
		return 0, false
	}
	return int(f), true
}

// kept is a value on its own, without the body that it came in and without
// needless space.
func kept(raw []byte) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return bytes.Clone(raw)
	}
	return bytes.Clone(b.Bytes())
}
