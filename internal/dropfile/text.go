package dropfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// ReadText reads a text as Parse reads that of a text drop file, from a stream
// that may hold any number of IDs: memory grows with the different ones alone. An
// error is the stream's own, or a line of more than MaxSize.
func ReadText(r io.Reader) (Result, error) {
	p := parser{seen: map[run.ID]int{}, most: math.MaxInt}
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(4) // fewer where the text is shorter
	if err != nil && !errors.Is(err, io.EOF) {
		return p.result, err
	}
	if wide(start) {
		p.fault(0, wideReason, "")
		return p.result, nil
	}
	in = bufio.NewReaderSize(&lineEnds{in: in}, 64<<10)
	for line := 1; ; line++ {
		text, err := readLine(in)
		if line == 1 {
			text = bytes.TrimPrefix(text, []byte(mark))
		}
		if errors.Is(err, bufio.ErrTooLong) {
			return p.result, fmt.Errorf("line %d has more than %d bytes: is this a list of run IDs?", line, MaxSize)
		}
		if err == nil || errors.Is(err, io.EOF) {
			p.text(line, text)
		}
		if errors.Is(err, io.EOF) {
			p.endText()
			return p.result, nil
		}
		if err != nil {
			return p.result, err
		}
	}
}

// lineEnds is a text with LF for each of its line ends: CRLF (Windows), and CR alone
// ("CSV (Macintosh)" of Excel), in which a whole file would be a single line.
type lineEnds struct {
	in io.Reader
	cr bool // the last byte was a CR, which an LF may belong to
}

func (l *lineEnds) Read(b []byte) (int, error) {
	n, err := l.in.Read(b)
	return len(l.unify(b[:n])), err
}

// unify does so in place with the next bytes of the text.
func (l *lineEnds) unify(b []byte) []byte {
	if !l.cr && bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	kept := b[:0]
	for _, c := range b {
		second := l.cr && c == '\n'
		if l.cr = c == '\r'; l.cr {
			c = '\n'
		}
		if !second {
			kept = append(kept, c)
		}
	}
	return kept
}

// readLine reads a line without its LF; bufio.ErrTooLong says that it has more
// than MaxSize bytes.
func readLine(in *bufio.Reader) (text []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(text)+len(part) > MaxSize {
			return nil, bufio.ErrTooLong
		}
		text = append(text, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(text, []byte("\n")), err
		}
	}
}

// lines yields each line with its number, from 1, without its LF.
func lines(data []byte) func(func(int, []byte) bool) {
	return func(yield func(int, []byte) bool) {
		line := 0
		for text := range bytes.Lines(data) {
			line++
			if !yield(line, bytes.TrimSuffix(text, []byte("\n"))) {
				return
			}
		}
	}
}

// text reads one line of a text file.
func (p *parser) text(line int, text []byte) {
	s := string(text)
	if p.table != nil {
		p.row(line, s)
		return
	}
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			s = s[:i]
			break
		}
	}
	if s = strings.Trim(s, " \t\r"); s == "" {
		return
	}
	if !p.begun {
		if len(s) == len("sep=;") && strings.EqualFold(s[:4], "sep=") { // Excel's
			return
		}
		p.begun = true
		if isColumn(s) {
			return
		}
		if p.table = tableOf(s); p.table != nil {
			return
		}
	}
	if len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"' { // a table of one column
		s = s[1 : len(s)-1]
	}
	p.take(line, s)
}
