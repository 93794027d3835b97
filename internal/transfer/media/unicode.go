package media

import (
	"bytes"
	"encoding/binary"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// unicodeText is text whose characters take two or four bytes.
type unicodeText struct {
	name  string
	bom   string
	order binary.ByteOrder
	width int // bytes
}

// The longer marks first: that of UTF-16LE begins that of UTF-32LE.
var unicodeTexts = []unicodeText{
	{"UTF-32", "\xff\xfe\x00\x00", binary.LittleEndian, 4},
	{"UTF-32", "\x00\x00\xfe\xff", binary.BigEndian, 4},
	{"UTF-16", "\xff\xfe", binary.LittleEndian, 2},
	{"UTF-16", "\xfe\xff", binary.BigEndian, 2},
}

// wideText reports as what text a body that starts with head can be read: by its byte
// order mark, or without one because every character is one that text has and most are
// ASCII, as in any markup. nil: it is no such text.
func wideText(head []byte) *unicodeText {
	for i, t := range unicodeTexts {
		if bytes.HasPrefix(head, []byte(t.bom)) && len(head) >= t.width+len(t.bom) {
			return &unicodeTexts[i]
		}
	}
	if bytes.IndexByte(head, 0) < 0 {
		return nil
	}
	for i, t := range unicodeTexts {
		if t.readable(head) {
			return &unicodeTexts[i]
		}
	}
	return nil
}

// readable reports whether p reads as text that is mostly ASCII.
func (t unicodeText) readable(p []byte) bool {
	text := t.decode(p)
	runes, ascii := 0, 0
	for _, r := range string(text) {
		if r == utf8.RuneError || unicode.IsControl(r) && !bytes.ContainsRune([]byte("\t\n\f\r"), r) || unicode.In(r, unicode.Co, unicode.Cs) {
			return false
		}
		if runes++; r < utf8.RuneSelf {
			ascii++
		}
	}
	return runes >= 4 && 2*ascii > runes
}

// decode is p as UTF-8, without the rest of a character that is cut off at its end.
func (t unicodeText) decode(p []byte) []byte {
	var out []byte
	if t.width == 4 {
		for ; len(p) >= 4; p = p[4:] {
			r := t.order.Uint32(p)
			if r > unicode.MaxRune {
				r = utf8.RuneError
			}
			out = utf8.AppendRune(out, rune(r))
		}
		return out
	}
	units := make([]uint16, 0, len(p)/2)
	for ; len(p) >= 2; p = p[2:] {
		units = append(units, t.order.Uint16(p))
	}
	if n := len(units); n > 0 && utf16.IsSurrogate(rune(units[n-1])) && units[n-1] < 0xdc00 {
		units = units[:n-1] // its other half is not there
	}
	for _, r := range utf16.Decode(units) {
		out = utf8.AppendRune(out, r)
	}
	return out
}
