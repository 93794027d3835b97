package media

import (
	"bytes"
	"encoding/binary"
	"io"
	"regexp"
)

// endsBMP adds up header and rows of pixels that are not compressed.
func endsBMP(r io.ReaderAt, size int64) ending {
	var h [34]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return endTruncated
	}
	if binary.LittleEndian.Uint32(h[14:]) < 40 {
		return endUnknown
	}
	width, height := int64(int32(binary.LittleEndian.Uint32(h[18:]))), int64(int32(binary.LittleEndian.Uint32(h[22:])))
	depth, packing := int64(binary.LittleEndian.Uint16(h[28:])), binary.LittleEndian.Uint32(h[30:])
	if packing != 0 && packing != 3 && packing != 6 || width <= 0 {
		return endUnknown
	}
	row := (width*depth + 31) / 32 * 4
	if int64(binary.LittleEndian.Uint32(h[10:]))+row*max(height, -height) > size {
		return endTruncated
	}
	return endComplete
}

// endsIcon looks for the end of each picture of an icon.
func endsIcon(r io.ReaderAt, size int64) ending {
	var h [16]byte
	_, _ = r.ReadAt(h[:6], 0)
	for i := range int64(binary.LittleEndian.Uint16(h[4:6])) {
		if n, _ := r.ReadAt(h[:], 6+16*i); n < len(h) {
			return endTruncated
		}
		if int64(binary.LittleEndian.Uint32(h[8:]))+int64(binary.LittleEndian.Uint32(h[12:])) > size {
			return endTruncated
		}
	}
	return endComplete
}

// maxDirectories bounds the pictures of a TIFF that are looked at.
const maxDirectories = 1 << 10

// endsTIFF looks for the end of each strip and tile of each directory (TIFF 6.0).
func endsTIFF(r io.ReaderAt, size int64) ending {
	t := tiffFile{r: r, size: size, order: binary.LittleEndian}
	var h [8]byte
	_, _ = r.ReadAt(h[:], 0)
	if h[0] == 'M' {
		t.order = binary.BigEndian
	}
	at := int64(t.order.Uint32(h[4:]))
	for range maxDirectories {
		if at == 0 {
			return endComplete
		}
		var e ending
		if at, e = t.directory(at); e != endComplete {
			return e
		}
	}
	return endUnknown
}

type tiffFile struct {
	r     io.ReaderAt
	size  int64
	order binary.ByteOrder
}

// directory looks at one directory and says where the next is.
func (t tiffFile) directory(at int64) (next int64, e ending) {
	var h [2]byte
	if n, _ := t.r.ReadAt(h[:], at); n < len(h) || at+2 > t.size {
		return 0, endTruncated
	}
	entries := make([]byte, 12*int(t.order.Uint16(h[:]))+4)
	if n, _ := t.r.ReadAt(entries, at+2); n < len(entries)-4 {
		return 0, endTruncated
	}
	var offsets, counts []int64
	for entry := entries; len(entry) >= 12; entry = entry[12:] {
		if n := t.order.Uint32(entry[4:]); int64(n)*tiffWidth[t.order.Uint16(entry[2:])] > 4 &&
			int64(t.order.Uint32(entry[8:]))+int64(n)*tiffWidth[t.order.Uint16(entry[2:])] > t.size {
			return 0, endTruncated
		}
		switch t.order.Uint16(entry) {
		case 273, 324: // StripOffsets, TileOffsets
			offsets = t.numbers(entry)
		case 279, 325: // StripByteCounts, TileByteCounts
			counts = t.numbers(entry)
		}
	}
	for i := range min(len(offsets), len(counts)) {
		if offsets[i]+counts[i] > t.size {
			return 0, endTruncated
		}
	}
	return int64(t.order.Uint32(entries[len(entries)-4:])), endComplete
}

// tiffWidth is how many bytes a value of each type has.
var tiffWidth = map[uint16]int64{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

// numbers are the values of an entry whose type is SHORT or LONG.
func (t tiffFile) numbers(entry []byte) []int64 {
	kind, n := t.order.Uint16(entry[2:]), int(t.order.Uint32(entry[4:]))
	width := int(tiffWidth[kind])
	if kind != 3 && kind != 4 || n > 1<<20 {
		return nil // nothing to go by
	}
	values := entry[8:12]
	if n*width > 4 {
		values = make([]byte, n*width)
		if got, _ := t.r.ReadAt(values, int64(t.order.Uint32(entry[8:]))); got < len(values) {
			return nil
		}
	}
	all := make([]int64, n)
	for i := range all {
		if all[i] = int64(t.order.Uint16(values[width*i:])); width == 4 {
			all[i] = int64(t.order.Uint32(values[width*i:]))
		}
	}
	return all
}

var (
	svgEnd   = regexp.MustCompile(`</([\w.-]+:)?svg\s*>`)
	svgEmpty = regexp.MustCompile(`<([\w.-]+:)?svg(\s[^<]*)?/>`)
)

// isSVG reports whether the root of the document is svg.
func isSVG(head []byte) bool {
	if wide := wideText(head); wide != nil {
		head = wide.decode(head)
	} else if !printable(head) {
		return false
	}
	svg, _ := rootIsSVG(head)
	return svg
}

// endsSVG looks for the end of the root near that of the file, or for a root that is empty.
func endsSVG(r io.ReaderAt, size int64) ending {
	var head [HeadSize]byte
	n, _ := r.ReadAt(head[:], 0)
	wide := wideText(head[:n])
	from := max(size-rootBytes, 0) &^ 3 // no character is split
	tail := make([]byte, size-from)
	n, _ = r.ReadAt(tail, from)
	if tail = tail[:n]; wide != nil {
		tail = wide.decode(tail)
	}
	if svgEnd.Match(tail) || from == 0 && svgEmpty.Match(bytes.TrimSpace(tail)) {
		return endComplete
	}
	return endTruncated
}
