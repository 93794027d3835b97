package media

import (
	"encoding/binary"
	"io"
)

// isoStart are the boxes that a file of the ISO base media family begins with.
var isoStart = map[string]bool{"ftyp": true, "moov": true, "mdat": true, "wide": true, "free": true, "skip": true, "pnot": true}

// isoBoxes are the boxes on the top level of such files. A word that is none of them is
// something that was appended.
var isoBoxes = map[string]bool{
	"ftyp": true, "moov": true, "mdat": true, "wide": true, "free": true, "skip": true, "pnot": true, "moof": true, "mfra": true, "meta": true,
	"meco": true, "udta": true, "uuid": true, "sidx": true, "ssix": true, "styp": true, "emsg": true, "prft": true, "pdin": true, "PICT": true,
}

// topLevel is what the top level of a file has.
type topLevel struct {
	moov, data bool
	open       bool // its last box goes to the end of the file, wherever that was to be
	meta       box  // where HEIF has its items
	fragment   bool // a moof whose mdat has not come
	bare       bool // a moov that promises no fragments
}

// complete reports whether what plays is there: what follows may be anything.
func (top *topLevel) complete() bool { return (top.moov || top.meta.end > 0) && top.data }

// endsISO adds up the boxes, and wants those without which nothing plays.
func endsISO(r io.ReaderAt, size int64) ending {
	var top topLevel
	if e := top.walk(r, size); e != endComplete {
		return e
	}
	switch {
	case top.fragment:
		return endTruncated
	case !top.moov && top.meta.end == 0: // it comes last, or the file was never finished
		return endTruncated
	case top.open:
		return endUnknown
	case top.data:
		return endComplete
	case top.moov && top.bare, !top.moov && !hasBox(r, top.meta.start+4, top.meta.end, "idat"):
		return endTruncated
	}
	return endUnknown
}

// walk walks the top level. Whole: its boxes are all there.
func (top *topLevel) walk(r io.ReaderAt, size int64) ending {
	var h [16]byte
	for at := int64(0); at < size; {
		n, _ := r.ReadAt(h[:], at)
		if n < 8 { // zeros, as QuickTime leaves them, or the start of a box
			if top.complete() {
				return endComplete
			}
			return endTruncated
		}
		kind, length, head := string(h[4:8]), int64(binary.BigEndian.Uint32(h[:4])), int64(8)
		if length == 1 && n == 16 {
			length, head = int64(binary.BigEndian.Uint64(h[8:])), 16
		}
		known := isoBoxes[kind]
		switch {
		case length == 0 && known:
			length, top.open = size-at, true
		case (length < head || !known) && top.complete():
			return endComplete // with something after it
		case length < head, length > size-at && !known:
			return endUnknown // damaged
		case length > size-at:
			return endTruncated
		}
		top.see(r, box{kind, at + head, at + length})
		at += length
	}
	return endComplete
}

func (top *topLevel) see(r io.ReaderAt, b box) {
	switch b.kind {
	case "moov":
		top.moov = true
		top.bare = !hasBox(r, b.start, b.end, "mvex")
	case "meta":
		top.meta = b
	case "mdat":
		top.data, top.fragment = true, false
	case "moof":
		top.fragment = true
	}
}

func hasBox(r io.ReaderAt, start, end int64, kind string) (found bool) {
	left := maxBoxes
	boxes(r, start, end, &left, func(b box) bool {
		found = found || b.kind == kind
		return !found
	})
	return found
}

// jp2Boxes are the boxes that come with and after the first codestream of JPEG 2000 and JPEG XL.
var jp2Boxes = map[string]bool{
	"jp2c": true, "jxlc": true, "jxlp": true, "jxli": true, "jbrd": true, "brob": true, "Exif": true, "xml ": true, "uuid": true, "uinf": true, "jumb": true, "free": true,
}

// endsJP2 adds up the boxes of JPEG 2000 and JPEG XL (ISO/IEC 15444-1, annex I). The last
// may go to the end of the file, where a codestream of JPEG 2000 has its mark.
func endsJP2(r io.ReaderAt, size int64) ending {
	var h [16]byte
	stream := false
	for at := int64(0); at < size; {
		n, _ := r.ReadAt(h[:], at)
		kind, length := string(h[4:8]), int64(binary.BigEndian.Uint32(h[:4]))
		if length == 1 && n == 16 {
			length = int64(binary.BigEndian.Uint64(h[8:]))
		}
		switch {
		case stream && (n < 8 || !jp2Boxes[kind]):
			return endComplete // with something after it
		case n < 8:
			return endTruncated
		case length == 0 && kind == "jp2c" && endsWith(r, size, []byte{0xff, 0xd9}):
			return endComplete
		case length < 8:
			return endUnknown
		case length > size-at:
			return endTruncated
		}
		stream = stream || kind == "jp2c" || kind == "jxlc" || kind == "jxlp"
		at += length
	}
	if !stream {
		return endTruncated
	}
	return endComplete
}
