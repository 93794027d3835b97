package transfer

import (
	"net/http"
	"strconv"
	"strings"
)

// contentRange is the part of an object that a 206 carries.
type contentRange struct {
	first, last int64 // bytes, both included
	total       int64 // bytes; -1: not known
}

func (r contentRange) length() int64 { return r.last - r.first + 1 }

// parseContentRange reads `bytes first-last/total` (RFC 9110, section 14.4).
// False is anything else: two of them, another unit, `*` for the range, numbers
// that do not fit together.
func parseContentRange(h http.Header) (contentRange, bool) {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return contentRange{}, false
	}
	unit, rest, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	span, total, slash := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !slash || !dash {
		return contentRange{}, false
	}
	r := contentRange{total: -1}
	var ok [3]bool
	r.first, ok[0] = number(first)
	r.last, ok[1] = number(last)
	if ok[2] = total == "*"; !ok[2] {
		r.total, ok[2] = number(total)
		ok[2] = ok[2] && r.last < r.total
	}
	if ok != [3]bool{true, true, true} || r.first > r.last {
		return contentRange{}, false
	}
	return r, true
}

// number reads digits and nothing else, below 2^62 so that sums stay in range.
func number(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 63)
	return n, err == nil && n < 1<<62
}

// strong gives the answer's ETag where it is a strong one, byte for byte the same
// object: only such a one may stand in If-Range (RFC 9110, section 13.1.5).
func strong(h http.Header) string {
	values := h.Values("ETag")
	if len(values) != 1 || len(values[0]) > maxETag {
		return ""
	}
	tag := values[0]
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return "" // weak ones start with W/; "" tells nothing
	}
	for i := 1; i < len(tag)-1; i++ {
		if c := tag[i]; c < 0x21 || c == '"' || c == 0x7f {
			return ""
		}
	}
	return tag
}

// maxETag bounds what is kept next to a part, in bytes.
const maxETag = 1 << 10
