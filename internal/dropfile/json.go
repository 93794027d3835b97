package dropfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/assetd/assetd/internal/pyjson"
	"github.com/assetd/assetd/internal/run"
)

// maxDepth bounds how deep arrays and `data` may be nested.
const maxDepth = 32

var errDepth = fmt.Errorf("nested more than %d deep", maxDepth)

// document is one JSON text on its way into a parser. It is read token by token,
// so that what stands before a break is taken and every fault has its line.
type document struct {
	*parser
	dec    *json.Decoder
	data   []byte
	offset int // up to which lines are counted
	number int // of the line at offset
}

// json reads a file that is one JSON text. cut says that it goes on behind data,
// which then explains why it breaks off.
func (p *parser) json(data []byte, cut bool) {
	p.document(1, data, cut, "file", "more than one JSON value: name the file .jsonl, with one value a line")
}

// jsonLine reads one line of a file that has a JSON text a line. What is wrong
// with it ends the line, not the file.
func (p *parser) jsonLine(line int, text []byte) {
	p.document(line, text, false, "line", "more than one JSON value: one a line, please")
}

// document reads a JSON text that is the whole file or line, and begins on the
// line given. several is what to say of a second value.
func (p *parser) document(line int, data []byte, cut bool, whole, several string) {
	data = pyjson.Strict(data)
	d := document{parser: p, dec: json.NewDecoder(bytes.NewReader(data)), data: data, number: line}
	d.dec.UseNumber()
	for values := 0; !p.full; values++ {
		token, err := d.dec.Token()
		if err == nil && values == 1 {
			d.fault(d.line(), several, d.lineText())
		}
		if err == nil {
			_, err = d.value(token, 0)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF) && values > 0:
			return
		case errors.Is(err, io.EOF) && !cut:
			d.fault(d.line(), "no JSON value in it", "")
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			if !cut {
				d.fault(d.line(), "the JSON breaks off at the end of the "+whole, d.lineText())
			}
		default:
			d.fault(d.line(), "not JSON, the rest of the "+whole+" was not read: "+err.Error(), d.lineText())
		}
		d.result.Unfinished = d.result.Unfinished || whole == "file" && !cut
		return
	}
}

// line is the number of the line at which the last token ended.
func (d *document) line() int {
	end := min(int(d.dec.InputOffset()), len(d.data))
	if end > d.offset {
		d.number += bytes.Count(d.data[d.offset:end], []byte("\n"))
		d.offset = end
	}
	return d.number
}

// lineText is the line at which the last token ended, as far as a quotation of it
// can need.
func (d *document) lineText() string {
	end := min(int(d.dec.InputOffset()), len(d.data))
	start := bytes.LastIndexByte(d.data[:end], '\n') + 1
	text := d.data[start:min(len(d.data), start+quoteFrom)]
	if n := bytes.IndexByte(text, '\n'); n >= 0 {
		text = text[:n]
	}
	return string(text)
}

// value reads the value that begins with token: a string, an object or an array
// of these. It gives the places of the IDs it took.
func (d *document) value(token json.Token, depth int) ([]int, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	switch token := token.(type) {
	case string:
		return place(d.take(d.line(), token)), nil
	case json.Delim:
		if token == '{' {
			return d.object(depth)
		}
		return nil, d.each(func(element json.Token) error {
			_, err := d.value(element, depth+1)
			return err
		})
	default:
		d.fault(d.line(), "neither a string nor an object: "+kind(token), "")
		return nil, nil
	}
}

// place is a list of the one place, where there is one.
func place(at int) []int {
	if at < 0 {
		return nil
	}
	return []int{at}
}

// each reads the elements of an array whose [ was read, and its ].
func (d *document) each(element func(json.Token) error) error {
	for d.dec.More() {
		token, err := d.dec.Token()
		if err != nil {
			return unexpected(err)
		}
		if err := element(token); err != nil {
			return err
		}
	}
	_, err := d.dec.Token()
	return unexpected(err)
}

// unexpected makes the end of the text within a value what it is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// object reads an object whose { was read. Its labels are those of all IDs in it.
func (d *document) object(depth int) ([]int, error) {
	faults := d.faults()
	taken, labels, err := d.fields(depth)
	if err != nil {
		return taken, err
	}
	if len(taken) == 0 && faults == d.faults() && !d.full {
		d.fault(d.line(), "the object names no run: it has no workflow_run_identifier, run_id or run_ids", d.lineText())
	}
	if len(taken) > 0 && len(labels) > 0 {
		d.label(d.line(), taken, labels)
	}
	return taken, nil
}

// fields reads an object's members up to its }.
func (d *document) fields(depth int) (taken []int, labels map[string]string, err error) {
	if depth > maxDepth {
		return nil, nil, errDepth
	}
	err = d.members(func(name string) error {
		var more []int
		var err error
		switch name {
		case "workflow_run_identifier", "run_id", "run_ids":
			more, err = d.ids(name, depth)
		case "data":
			more, err = d.under(depth)
		case "labels":
			labels, err = d.labels(labels)
		default:
			err = d.skip()
		}
		taken = append(taken, more...)
		return err
	})
	return taken, labels, err
}

// members reads name after name of an object, and its }; member reads the value.
func (d *document) members(member func(name string) error) error {
	for d.dec.More() {
		token, err := d.dec.Token()
		if err != nil {
			return unexpected(err)
		}
		name, _ := token.(string)
		if err := member(name); err != nil {
			return unexpected(err)
		}
	}
	_, err := d.dec.Token()
	return unexpected(err)
}

// ids reads a member that names runs: a string or an array of strings. null is as
// good as not there.
func (d *document) ids(name string, depth int) (taken []int, err error) {
	token, err := d.dec.Token()
	if err != nil {
		return nil, err
	}
	one := func(token json.Token) error {
		switch token := token.(type) {
		case string:
			taken = append(taken, place(d.take(d.line(), token))...)
		case json.Delim:
			d.fault(d.line(), name+" does not hold strings alone", "")
			return d.drain(depth)
		case nil:
		default:
			d.fault(d.line(), fmt.Sprintf("%s holds %s, not a string", name, kind(token)), "")
		}
		return nil
	}
	if token == json.Delim('[') {
		return taken, d.each(one)
	}
	err = one(token)
	return taken, err
}

// under reads `data`: the object that the API wraps its answers in, or a list of
// such. Anything else names no run.
func (d *document) under(depth int) (taken []int, err error) {
	token, err := d.dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		// What it lacks may stand beside it: so no fault of its own.
		taken, labels, err := d.fields(depth + 1)
		if len(taken) > 0 && len(labels) > 0 {
			d.label(d.line(), taken, labels)
		}
		return taken, err
	case json.Delim('['):
		err = d.each(func(element json.Token) error {
			if element != json.Delim('{') {
				d.fault(d.line(), "data does not hold objects alone", "")
				if _, nested := element.(json.Delim); nested {
					return d.drain(depth)
				}
				return nil
			}
			more, err := d.object(depth + 1)
			taken = append(taken, more...)
			return err
		})
	}
	return taken, err
}

// labels reads a set of labels and adds it to those known, but for values that are no
// strings. Beyond a limit there are none: half of them could name a wrong directory.
func (d *document) labels(known map[string]string) (map[string]string, error) {
	var raw json.RawMessage
	if err := d.dec.Decode(&raw); err != nil {
		return known, err
	}
	var set map[string]json.RawMessage
	if json.Unmarshal(raw, &set) != nil {
		d.leftOut(d.line(), "labels is not an object of strings", string(raw[:min(len(raw), quoteFrom)]))
		return known, nil
	}
	both := maps.Clone(known)
	if both == nil {
		both = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		var value *string
		err := json.Unmarshal(set[name], &value)
		if err != nil || value == nil {
			d.leftOut(d.line(), "the value of this label is not a string", name)
			continue
		}
		if name == "" {
			d.leftOut(d.line(), "a label without a name", "")
			continue
		}
		both[name] = *value
	}
	if err := run.CheckLabels(both); err != nil {
		d.tooMuch(d.line(), err.Error(), "the runs were taken without labels")
		return nil, nil
	}
	return both, nil
}

// skip passes over the value of a member that says nothing about runs.
func (d *document) skip() error {
	var raw json.RawMessage
	return d.dec.Decode(&raw)
}

// drain passes over the rest of an object or array whose opening was read.
func (d *document) drain(depth int) error {
	for open := 1; open > 0; {
		token, err := d.dec.Token()
		if err != nil {
			return unexpected(err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if depth+open > maxDepth {
			return errDepth
		}
	}
	return nil
}

// kind names a token that is no ID.
func kind(token json.Token) string {
	switch token.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	default:
		return "an object or an array"
	}
}

// line is a hand-in as a line of a .jsonl drop file.
type line struct {
	RunID  run.ID            `json:"run_id"`
	Labels map[string]string `json:"labels,omitempty"`
}
