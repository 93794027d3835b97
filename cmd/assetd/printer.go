package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"
)

// printer writes to w and remembers the first error, so that a command whose
// output went nowhere does not end with 0.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// Write writes b, unless a write has failed before.
func (p *printer) Write(b []byte) (n int, err error) {
	if p.err == nil {
		n, p.err = p.w.Write(b)
	}
	return n, p.err
}

// newTable aligns columns that are separated by tabs, from one Flush to the next.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// narrow returns w with each line cut to the terminal's width, so that a row stays a row, or
// w itself if it is no terminal.
func narrow(w io.Writer) io.Writer {
	if n := width(w); n > 0 {
		return &cutter{w: w, width: n}
	}
	return w
}

// width returns how many characters a line of the terminal w has; 0 if w is no terminal.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// cutter cuts lines to a width in characters. What comes after the last line break
// is kept until the line is complete.
type cutter struct {
	w     io.Writer
	width int
	line  []byte
}

func (c *cutter) Write(b []byte) (int, error) {
	for part := range bytes.Lines(b) {
		c.line = append(c.line, part...)
		line, complete := bytes.CutSuffix(c.line, []byte("\n"))
		if !complete {
			break
		}
		if chars := []rune(string(line)); len(chars) > c.width {
			line = []byte(string(chars[:c.width-1]) + "…")
		}
		if _, err := c.w.Write(append(line, '\n')); err != nil {
			return 0, err
		}
		c.line = c.line[:0]
	}
	return len(b), nil
}

// clean is text from outside as a terminal may get it: without control characters,
// line breaks of any kind, and what turns the direction of writing around.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
