package notify

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/assetd/assetd/internal/signedurl"
)

// What is logged of a command's output.
const (
	mostLines = 40
	mostLine  = 400 // bytes
)

// lines takes a command's output and gives on its first lines, without secrets;
// the rest is counted. It is never behind, so that the command does not wait.
type lines struct {
	give  func(string)
	part  []byte // of the line at hand
	count int
	cut   int // bytes left out
}

func newLines(give func(string)) *lines { return &lines{give: give} }

// Write takes output.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		room := min(len(line), mostLine-len(l.part))
		if l.count >= mostLines {
			room = 0
		}
		l.part = append(l.part, line[:room]...)
		l.cut += len(line) - room
		if whole {
			l.end()
		}
		p = rest
	}
	return n, nil
}

func (l *lines) end() {
	text := strings.TrimSpace(strings.ToValidUTF8(string(l.part), "\uFFFD"))
	l.part = l.part[:0]
	if text == "" {
		return
	}
	l.count++
	l.give(signedurl.Redact(text))
}

// close gives the last line, and how much was left out.
func (l *lines) close() {
	l.end()
	if l.cut > 0 {
		l.give(fmt.Sprintf("and %d bytes more, left out", l.cut))
	}
}
