package dropfile

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

// table is a text with several columns, one of which its first line names as that of
// the run IDs (RFC 4180, with comma, semicolon or tab). The other columns are not read.
type table struct {
	comma  rune
	column int
	row    []byte // the lines so far of a row with a quoted field that is not closed
	open   bool   // such a field
	line   int    // on which the row begins
}

// maxRow bounds a row that goes over several lines, in bytes: a quote that is never
// closed must not swallow the rest of the file.
const maxRow = 64 << 10

// tableOf is the table that begins with this line; nil: none does.
func tableOf(header string) *table {
	for _, comma := range ",;\t" {
		if !strings.ContainsRune(header, comma) {
			continue
		}
		fields, err := fieldsOf(header, comma)
		if err != nil {
			continue
		}
		best := -1
		for i, field := range fields {
			// "id" alone can be the ID of anything: a column that names runs goes first.
			if isColumn(field) && (best < 0 || strings.EqualFold(strings.TrimSpace(fields[best]), "id")) {
				best = i
			}
		}
		if best >= 0 {
			return &table{comma: comma, column: best}
		}
	}
	return nil
}

func fieldsOf(row string, comma rune) ([]string, error) {
	if !strings.Contains(row, `"`) { // what the reader would give, at a fraction of its cost
		return strings.Split(row, string(comma)), nil
	}
	r := csv.NewReader(strings.NewReader(row))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes, r.TrimLeadingSpace = comma, -1, true, comma != '\t'
	return r.Read()
}

// row reads one line of a table.
func (p *parser) row(line int, text string) {
	t := p.table
	if len(t.row) == 0 {
		t.line = line
	}
	t.row = append(append(t.row, text...), '\n')
	t.open = t.quoted(strings.TrimSuffix(text, "\r"))
	if !t.open || len(t.row) > maxRow {
		p.endText()
	}
}

// quoted reports whether a line ends within a quoted field, by the rules of
// encoding/csv with LazyQuotes: a quote opens a field only as its first character, and
// closes it only where the field ends.
func (t *table) quoted(line string) bool {
	open, start := t.open, !t.open
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case open && c == '"' && i+1 < len(line) && line[i+1] == '"':
			i++
		case open && c == '"':
			open = i+1 < len(line) && line[i+1] != byte(t.comma)
		case open:
		case c == '"' && start:
			open = true
		case c == ' ' && start && t.comma != '\t':
			continue
		}
		start = !open && c == byte(t.comma)
	}
	return open
}

// endText reads what is left of a table's last row.
func (p *parser) endText() {
	t := p.table
	if t == nil || len(t.row) == 0 {
		return
	}
	row, open := string(t.row), t.open
	t.row, t.open = t.row[:0], false
	if open {
		p.fault(t.line, "a quote that is never closed: the row was not read, up to the end of the file or of 64 KiB", row)
		return
	}
	if trimmed := strings.TrimSpace(row); trimmed == "" || trimmed[0] == '#' {
		return
	}
	fields, err := fieldsOf(row, t.comma)
	switch {
	case errors.Is(err, io.EOF):
	case err != nil:
		p.fault(t.line, "not a row of a table: "+err.Error(), row)
	case len(fields) <= t.column:
		p.fault(t.line, "the row has no field in the column of the run IDs", row)
	default:
		if id := strings.Trim(fields[t.column], " \t\r\n"); id != "" || !blank(fields) {
			p.take(t.line, id)
		}
	}
}

// blank reports whether a row holds nothing, as spreadsheets save empty rows.
func blank(fields []string) bool {
	for _, f := range fields {
		if strings.TrimSpace(f) != "" {
			return false
		}
	}
	return true
}
