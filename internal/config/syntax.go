package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syntax is what the YAML reader has to say, with the line where it can go on no
// longer, and what most likely is the matter there.
func (l *loader) syntax(path string, data []byte, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok && isDigits(line) {
			text = what // the reader's own line is often the one before
		}
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	bad := firstBad(lines)
	l.problem(Problem{
		Where: path + ":" + strconv.Itoa(bad+1), What: "is not YAML: " + text, Mend: syntaxMend(string(lines[bad])),
	})
}

// firstBad is the index of the line that makes YAML of the lines before it no
// YAML any more, or that begins what the lines after it do not end.
func firstBad(lines [][]byte) int {
	good, bad := 0, len(lines) // so many lines are YAML, and are not
	for good+1 < bad {
		middle := (good + bad) / 2
		if isYAML(bytes.Join(lines[:middle], nil)) {
			good = middle
		} else {
			bad = middle
		}
	}
	return good
}

func isYAML(data []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

var (
	bareTemplate = regexp.MustCompile(`:\s+\{[a-zA-Z_.]+\}`)
	bareMark     = regexp.MustCompile("^[^#]*?:\\s+(?:[\\[{%@`&*!|>]|[^\"'#][^#]*:\\s)")
)

// syntaxMend is what to do about a line that is not YAML.
func syntaxMend(line string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "indent with spaces, not with tabs"
	case bareTemplate.MatchString(line):
		return `put the value in quotes, like "{app_id}/{run_id}": a bare { begins keys and values`
	case bareMark.MatchString(line):
		return "put the value in quotes: some of its characters mean something to YAML"
	}
	return "look at its quotes and its indentation, and compare with configs/assetd.yaml"
}
