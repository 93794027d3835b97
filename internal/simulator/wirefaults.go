package simulator

import (
	"fmt"
	"net/http"
	"strings"
)

// Faults of ranges.

// WrongRange sends a part that begins so many bytes later than was asked for
// (before, if negative), and says so.
func WrongRange(shift int64) Fault {
	return partly(numbered("wrong range", shift), func(x *exchange) bool {
		off := min(max(x.off+shift, 0), x.body.size-1)
		moved := off != x.off
		x.off, x.n = off, x.body.size-off
		x.contentRange(x.off, x.n, x.body.size)
		return moved
	})
}

// WrongTotal says of a part that the object is so many bytes longer than it is.
func WrongTotal(by int64) Fault {
	return partly(numbered("wrong total", by), func(x *exchange) bool {
		x.contentRange(x.off, x.n, x.body.size+by)
		return true
	})
}

// ShortRange sends n bytes at most of the part that was asked for, and says so.
func ShortRange(n int64) Fault {
	return partly(numbered("short range", n), func(x *exchange) bool {
		if x.n <= n {
			return false
		}
		x.n = n
		x.contentRange(x.off, x.n, x.body.size)
		return true
	})
}

// NoContentRange sends a 206 that does not say which part it is.
func NoContentRange() Fault {
	return partly("no content-range", func(x *exchange) bool {
		x.header.Del("Content-Range")
		return true
	})
}

// Multipart sends the part as multipart/byteranges.
func Multipart() Fault {
	return partly("multipart", func(x *exchange) bool {
		const boundary = "PART"
		var body content
		body.addText("--" + boundary + "\r\nContent-Type: " + x.contentType + "\r\nContent-Range: " + x.header.Get("Content-Range") + "\r\n\r\n")
		body.add(x.n, section{x.body, x.off})
		body.addText("\r\n--" + boundary + "--\r\n")
		x.body, x.off, x.n, x.genuine = body, 0, body.size, false
		x.header.Del("Content-Range")
		x.header.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
		return true
	})
}

// Unsatisfiable answers 416 to any range.
func Unsatisfiable() Fault {
	return partly("unsatisfiable", func(x *exchange) bool {
		total := x.body.size
		x.say(http.StatusRequestedRangeNotSatisfiable, "text/html", page("416 Requested Range Not Satisfiable", ""))
		x.header.Set("Content-Range", fmt.Sprintf("bytes */%d", total))
		x.replaced = true
		return true
	})
}

// RangeUnder200 sends everything under 200, but with the Content-Range of the part.
func RangeUnder200() Fault {
	return partly("range under 200", func(x *exchange) bool {
		x.status, x.off, x.n = http.StatusOK, 0, x.body.size
		return true
	})
}

func partly(name string, apply func(*exchange) bool) Fault {
	return spoil(name, func(x *exchange) bool { return x.ranged() && apply(x) })
}

// section is content from a place on, as a filler.
type section struct {
	content
	from int64
}

func (s section) fill(p []byte, off int64) { _, _ = s.ReadAt(p, s.from+off) }

// Faults of the wire. An answer that has one is the last on its connection.

// Cut closes the connection after n bytes of the body.
func Cut(n int64) Fault { return ends("cut", cut, n) }

// Reset closes it after n bytes with a TCP reset.
func Reset(n int64) Fault { return ends("reset", reset, n) }

// Stall sends nothing more after n bytes, and keeps the connection open until the
// client or Close ends it.
func Stall(n int64) Fault { return ends("stall", stalled, n) }

// BadChunk sends a chunk that is none after n bytes.
func BadChunk(n int64) Fault {
	return ends("bad chunk", garbled, n).then(func(x *exchange) { x.wire.framing = chunked })
}

// Silent sends not even headers, and keeps the connection open.
func Silent() Fault {
	return replace("silent", func(x *exchange) { x.wire.ends = silent })
}

func ends(name string, how ending, n int64) Fault {
	return spoil(numbered(name, n), func(x *exchange) bool {
		if n >= x.n {
			return false
		}
		x.wire.ends, x.wire.at = how, n
		return true
	})
}

// WrongLength says in Content-Length so many bytes more (fewer, if negative) than
// it sends before it closes the connection.
func WrongLength(by int64) Fault {
	return spoil(numbered("wrong length", by), func(x *exchange) bool {
		if x.n+by < 0 {
			return false
		}
		x.wire.excess = by
		return by != 0
	})
}

// Chunked sends the body in chunks, its length untold.
func Chunked() Fault { return framed("chunked", chunked) }

// CloseDelimited lets the end of the connection be the end of the body, which a
// cut looks just like.
func CloseDelimited() Fault { return framed("close-delimited", closing) }

func framed(name string, f framing) Fault {
	return spoil(name, func(x *exchange) bool {
		x.wire.framing = f
		return true
	})
}

// RawHeader adds a header line as it is, beside those that are there: a second
// Content-Length, a Transfer-Encoding that does not fit, a megabyte of anything.
func RawHeader(name, value string) Fault {
	return spoil("raw header "+name, func(x *exchange) bool {
		x.wire.lines = append(x.wire.lines, strings.ReplaceAll(name+": "+value, "\n", " "))
		return true
	})
}
