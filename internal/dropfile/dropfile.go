// Package dropfile turns the bytes of a drop file into run IDs, labels and
// faults, and writes drop files for the doors that hand IDs in.
//
// It guarantees that every ID it gives is a valid one and is given once, that a
// good ID is taken whatever else the file holds, that whatever was not taken is
// named by a fault with its line, and that no input makes it panic or use much
// more memory than the file has bytes. What it writes is durable once it
// returns. When a file is complete, and where it goes, is left to the inbox.
package dropfile

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// The limits of a drop file. What lies beyond is not read, and a fault says from
// which line on.
const (
	MaxSize = 4 << 20 // bytes
	MaxIDs  = 100_000 // different ones
)

// maxLabelBytes bounds what the labels of all runs of a file come to: one set of
// labels can be that of many IDs. The limits of one run's labels are run's.
const maxLabelBytes = 64 << 20

const (
	mark       = "\xef\xbb\xbf" // of UTF-8
	wideReason = "the text is UTF-16 or UTF-32: save it as UTF-8"
)

// maxFaults is how many faults are kept, so that a report stays readable.
const maxFaults = 1000

// Result is what a drop file holds.
type Result struct {
	HandIns    []run.HandIn // each ID once, in the file's order; label maps may be shared between them
	Duplicates int          // IDs that stood in the file once more
	Faults     []Fault      // the first 1,000
	Hidden     int          // faults beyond these
	Refused    int          // of HandIns, by the queue
	Empty      bool         // the file is empty: what it says, it says by its name
	Unwritten  string       // why an empty file's name is no run ID, and what to do; it may be written yet
	Unfinished bool         // it ends within a line or a JSON text: it may be written on
}

// OK reports whether the file holds nothing wrong.
func (r Result) OK() bool { return len(r.Faults) == 0 }

// Parse reads a drop file: name is its last path element, data its bytes, of
// which MaxSize + 1 are enough. The form is told by the name's extension.
func Parse(name string, data []byte) Result {
	p := parser{seen: map[run.ID]int{}, most: MaxIDs}
	form := strings.ToLower(filepath.Ext(name))
	cut := len(data) > MaxSize
	if cut {
		data = data[:MaxSize]
		if form != ".json" { // an ID that was cut in two would be another one
			data = data[:bytes.LastIndexAny(data, "\r\n")+1]
		}
	}
	if wide(data) {
		p.fault(0, wideReason, "")
		return p.result
	}
	if form != ".json" {
		data = (&lineEnds{}).unify(bytes.Clone(data))
	}
	rest := 0 // the line from which on the file was not read
	if cut {
		rest = bytes.Count(data, []byte("\n")) + 1
	}
	data = bytes.TrimPrefix(data, []byte(mark))
	switch {
	case len(data) == 0 && rest == 0:
		p.byName(name)
	case form == ".json":
		p.json(data, rest > 0)
	case form == ".jsonl" || form == ".ndjson":
		for line, text := range lines(data) {
			if !p.full && len(bytes.TrimSpace(text)) > 0 {
				p.jsonLine(line, text)
			}
		}
	default:
		for line, text := range lines(data) {
			p.text(line, text)
		}
		p.endText()
	}
	if form != ".json" && rest == 0 && len(data) > 0 {
		p.result.Unfinished = data[len(data)-1] != '\n'
	}
	if rest > 0 && !p.full {
		p.fault(rest, fmt.Sprintf("the file has more than %d bytes and was not read from here on: split it", MaxSize), "")
	}
	return p.result
}

// wide reports whether the data is UTF-16 or UTF-32, by its byte order mark or
// by the zeros that ASCII has there.
func wide(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) ||
		bytes.HasPrefix(data, []byte("\x00\x00\xfe\xff")) {
		return true
	}
	return len(data) >= 4 && (data[0] == 0) != (data[1] == 0) && (data[0] == 0) == (data[2] == 0) && (data[1] == 0) == (data[3] == 0)
}

// parser gathers what a file holds.
type parser struct {
	result     Result
	seen       map[run.ID]int // where in result.HandIns
	labelBytes int
	most       int  // IDs
	full       bool // these were passed: nothing more is taken
	begun      bool // a line of text was read that says something
	table      *table
}

// byName takes an empty file's name for the ID.
func (p *parser) byName(name string) {
	p.result.Empty = true
	if filepath.Ext(name) != "" || !run.ValidID(name) {
		p.result.Unwritten = byNameHint(name)
		return
	}
	p.take(0, name)
}

// take takes an ID and gives its place in the result; -1 where it was not taken.
func (p *parser) take(line int, s string) int {
	if p.full {
		return -1
	}
	if !run.ValidID(s) {
		if len(p.result.Faults) == maxFaults { // not to be told why
			p.result.Hidden++
			return -1
		}
		p.fault(line, whyNot(s), s)
		return -1
	}
	id := run.ID(s)
	if at, ok := p.seen[id]; ok {
		p.result.Duplicates++
		return at
	}
	if len(p.result.HandIns) == p.most {
		p.fault(line, fmt.Sprintf("the file has more than %d IDs, and none was taken from here on: split it", p.most), "")
		p.full = true
		return -1
	}
	at := len(p.result.HandIns)
	p.result.HandIns = append(p.result.HandIns, run.HandIn{ID: id})
	p.seen[id] = at
	return at
}

// label adds labels to IDs that were taken. A label that an ID has already, from
// closer by or from earlier in the file, stands.
func (p *parser) label(line int, taken []int, labels map[string]string) {
	size := 0
	for name, value := range labels {
		size += len(name) + len(value)
	}
	if p.labelBytes += size * len(taken); p.labelBytes > maxLabelBytes {
		p.tooMuch(line, fmt.Sprintf("the labels of all runs of the file come to more than %d bytes", maxLabelBytes), "these were left out")
		return
	}
	left, why := 0, error(nil)
	for _, at := range taken {
		in := &p.result.HandIns[at]
		if in.Labels == nil {
			in.Labels = labels
			continue
		}
		both := maps.Clone(labels)
		maps.Copy(both, in.Labels)
		if err := run.CheckLabels(both); err != nil {
			left, why = left+1, err
			continue
		}
		in.Labels = both
	}
	if left > 0 {
		p.tooMuch(line, fmt.Sprintf("with the labels from elsewhere in the file %v", why), "these were left out for "+count(left, "run"))
	}
}
