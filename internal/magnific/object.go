package magnific

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// How long the words of an answer may be, in bytes: they stand in records of
// bounded size. A longer one is cut there and kept whole among the unknown fields.
const (
	maxStatus  = 64
	maxWord    = 256
	maxMessage = 1024
)

// object is a JSON object that is being read: what is understood is taken out,
// so that what stays is what we do not know.
type object struct{ fields []member }

func newObject(doc []byte) (*object, error) {
	fields, err := members(doc)
	return &object{fields}, err
}

// get is the field's value; nil where it is not there or null.
func (o *object) get(name string) []byte {
	for _, m := range o.fields {
		if m.name == name && !isNull(m.value) {
			return m.value
		}
	}
	return nil
}

func (o *object) drop(name string) {
	for i, m := range o.fields {
		if m.name == name {
			o.fields = append(o.fields[:i], o.fields[i+1:]...)
			return
		}
	}
}

// word takes a short text out, without blanks at its ends. A number or a boolean reads as it is written. An
// object or a list stays among the unknown fields.
func (o *object) word(name string, limit int) string {
	raw := o.get(name)
	if isObject(raw) || isList(raw) {
		return ""
	}
	s := string(raw)
	if isString(raw) {
		s = strings.TrimSpace(text(raw))
	}
	if len(s) <= limit {
		o.drop(name)
		return strings.Clone(s)
	}
	return cut(s, limit)
}

// words is word for what people read: also an object's own text is better than
// nothing.
func (o *object) words(name string, limit int) string {
	if raw := o.get(name); isObject(raw) || isList(raw) {
		return cut(string(kept(raw)), limit)
	}
	return o.word(name, limit)
}

// identifier takes an ID out: a string or a number, of any length.
func (o *object) identifier(name string) string {
	raw := o.get(name)
	switch {
	case isString(raw):
		o.drop(name)
		return text(raw)
	case isNumber(raw):
		o.drop(name)
		return string(raw)
	case raw == nil:
		o.drop(name)
	}
	return ""
}

func (o *object) integer(name string) *int {
	raw := o.get(name)
	if n, ok := integer(raw); ok || raw == nil {
		o.drop(name)
		if ok {
			return &n
		}
	}
	return nil
}

func (o *object) seconds(name string) *float64 {
	raw := o.get(name)
	var f float64
	switch {
	case raw == nil:
		o.drop(name)
	case isNumber(raw) && raw[0] != '-' && json.Unmarshal(raw, &f) == nil:
		o.drop(name)
		return &f
	}
	return nil
}

// cut is the beginning of s, of at most limit bytes, ending in a whole rune.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return strings.Clone(s)
	}
	n := limit - len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
