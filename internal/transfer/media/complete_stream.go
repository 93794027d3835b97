package media

import (
	"io"
	"math/bits"
	"strings"
)

// endsOgg walks the pages (RFC 3533, section 6) to one that ends its stream and the file.
func endsOgg(r io.ReaderAt, size int64) ending {
	var h [27 + 255]byte
	var at int64
	last := false
	for range maxPieces {
		n, _ := r.ReadAt(h[:], at)
		if at == size {
			if last {
				return endComplete
			}
			return endTruncated // between two pages
		}
		switch start := string(h[:min(n, 4)]); {
		case start == "OggS" && (n < 27 || n < 27+int(h[26])), len(start) < 4 && strings.HasPrefix("OggS", start):
			return endTruncated
		case start != "OggS" && last:
			return endComplete // with something after it
		case start != "OggS":
			return endUnknown
		}
		segments := h[27 : 27+int(h[26])]
		at += 27 + int64(len(segments))
		for _, s := range segments {
			at += int64(s)
		}
		if last = h[5]&4 != 0; at > size {
			return endTruncated
		}
	}
	return endUnknown
}

// endsMatroska takes the EBML header and the segment after it (RFC 8794). A live one has
// no size: its clusters are walked.
func endsMatroska(r io.ReaderAt, size int64) ending {
	header, ok := element(r, 0)
	switch {
	case !ok:
		return endUnknown
	case header.end > size:
		return endTruncated
	}
	segment, ok := element(r, header.end)
	switch {
	case !ok && header.end+12 > size:
		return endTruncated
	case segment.id != idSegment:
		return endUnknown
	case !ok:
		return endsElements(r, segment.start, size)
	case segment.end > size:
		return endTruncated
	}
	return endComplete
}

const idSegment = 0x18538067

// endsElements walks the elements of a segment whose size is unknown. That all of them
// are there does not say that no more had to come.
func endsElements(r io.ReaderAt, at, size int64) ending {
	for range maxPieces {
		e, ok := element(r, at)
		switch {
		case !ok:
			return endUnknown
		case e.end > size:
			return endTruncated
		}
		at = e.end
	}
	return endUnknown
}

type ebml struct {
	id         uint64
	start, end int64 // of what is in it
}

// element reads an EBML element's ID and size; false also where the size is not
// known.
func element(r io.ReaderAt, at int64) (ebml, bool) {
	var h [12]byte
	n, _ := r.ReadAt(h[:], at)
	id, idLen := vint(h[:n], false)
	if idLen == 0 || idLen > 4 {
		return ebml{}, false
	}
	length, lengthLen := vint(h[idLen:n], true)
	if lengthLen == 0 || length >= 1<<62 || length == 1<<(7*lengthLen)-1 {
		return ebml{id: id, start: at + int64(idLen+lengthLen)}, false
	}
	start := at + int64(idLen+lengthLen)
	return ebml{id, start, start + int64(length)}, true
}

// vint reads a variable-size integer, without its length marker where it is a size.
func vint(p []byte, unmark bool) (value uint64, length int) {
	if len(p) == 0 || p[0] == 0 {
		return 0, 0
	}
	length = bits.LeadingZeros8(p[0]) + 1
	if len(p) < length {
		return 0, 0
	}
	for _, b := range p[:length] {
		value = value<<8 | uint64(b)
	}
	if unmark {
		value &^= 1 << (7 * length)
	}
	return value, length
}
