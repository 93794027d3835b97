package config

import (
	"fmt"
	"strings"
	"unicode"
)

// Error is everything that is wrong with a configuration.
type Error struct{ Problems []Problem }

// mostLines bounds what is printed of a file that is none of ours.
const mostLines = 100

// Error is one line for one problem, else a heading and a line for each.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d errors in the configuration:", len(e.Problems))
	for i, p := range e.Problems {
		if i == mostLines {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Problems)-i)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Problem is one thing that is wrong. It is safe to print.
type Problem struct {
	Where string // file:line, "environment NAME" or "--set"
	Key   string // empty where no key is meant
	Value string // as it was written, without secrets; empty where there is none
	What  string
	Mend  string
}

// String is `where: key = value what; mend`.
func (p Problem) String() string {
	text := p.Key
	if p.Value != "" {
		text += " = " + p.Value
	}
	text = strings.TrimSpace(text + " " + p.What)
	if p.Where != "" {
		text = p.Where + ": " + text
	}
	return text + "; " + p.Mend
}

// Warning is something that is allowed and unwise, or without effect. It is safe
// to print.
type Warning struct {
	Key  string // or the name of an environment variable
	Text string
}

// String is `key: text`.
func (w Warning) String() string { return w.Key + ": " + w.Text }

const notShown = "(not shown)"

// quoted is a value as it was written, for a message.
func (k kind) quoted(v value) string {
	if v.list {
		texts := make([]string, len(v.items))
		for i, item := range v.items {
			texts[i] = k.quoted(item)
		}
		return brief("["+strings.Join(texts, ", ")+"]", 200)
	}
	text := v.text
	if k.hide != nil {
		text = k.hide(text)
	}
	if v.tag == "" || v.tag == tagText || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Sprintf("%q", brief(text, 80))
	}
	return brief(text, 80)
}

// strange is the value of a key that is not known, or of one that is a section:
// shown only where it cannot be a secret.
func strange(name string, v value) string {
	for _, word := range []string{"key", "secret", "token", "pass", "auth", "cred"} {
		if strings.Contains(strings.ToLower(name), word) && v.text != "" {
			return notShown
		}
	}
	if v.text == "" || v.list {
		return ""
	}
	return kind{hide: hideURL}.quoted(v)
}

func brief(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most]) + "..."
}
