package transfer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
)

// ContainerWhole reports whether a file of that size is whole by its own account:
// a PNG that has its IEND, a JPEG its EOI, a GIF its trailer, an MP4 or MOV whose
// boxes add up, a RIFF file (WAV, WebP, AVI) of the length it names, an Ogg stream
// whose last page says so, a WebM or Matroska of the length it names. False also
// means that the format cannot tell.
//
// It is for a body whose end nothing else proves (design, 4.4). Bytes that follow
// a whole PNG are allowed. It never panics, and reads no more than it must.
func ContainerWhole(r io.ReaderAt, size int64) bool {
	var head [12]byte
	if n, _ := r.ReadAt(head[:], 0); n < len(head) || size < int64(len(head)) {
		return false
	}
	switch {
	case bytes.HasPrefix(head[:], []byte("\x89PNG\r\n\x1a\n")):
		return wholePNG(r, size)
	case bytes.HasPrefix(head[:], []byte{0xff, 0xd8, 0xff}):
		return endsWith(r, size, []byte{0xff, 0xd9})
	case bytes.HasPrefix(head[:], []byte("GIF8")):
		return wholeGIF(bufio.NewReader(io.NewSectionReader(r, 0, size)))
	case bytes.HasPrefix(head[:], []byte("RIFF")):
		return wholeRIFF(r, size)
	case bytes.HasPrefix(head[:], []byte("OggS")):
		return wholeOgg(r, size)
	case bytes.HasPrefix(head[:], []byte{0x1a, 0x45, 0xdf, 0xa3}):
		return wholeMatroska(r, size)
	case string(head[4:8]) == "ftyp", string(head[4:8]) == "moov", string(head[4:8]) == "mdat", string(head[4:8]) == "wide", string(head[4:8]) == "free":
		return wholeMP4(r, size)
	}
	return false
}

// maxPieces bounds how many chunks, pages or blocks of a file are walked.
const maxPieces = 1 << 20

func wholePNG(r io.ReaderAt, size int64) bool {
	var h [8]byte
	at := int64(8)
	for range maxPieces {
		if _, err := r.ReadAt(h[:], at); err != nil {
			return false
		}
		at += 12 + int64(binary.BigEndian.Uint32(h[:4]))
		if at > size {
			return false
		}
		if string(h[4:]) == "IEND" {
			return true
		}
	}
	return false
}

// endsWith allows for the zeros that some writers pad with.
func endsWith(r io.ReaderAt, size int64, end []byte) bool {
	tail := make([]byte, min(size, 64))
	if n, _ := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) {
		return false
	}
	return bytes.HasSuffix(bytes.TrimRight(tail, "\x00"), end)
}

// wholeGIF walks the blocks to the trailer (GIF89a, appendix A).
func wholeGIF(r *bufio.Reader) bool {
	var screen [13]byte
	if _, err := io.ReadFull(r, screen[:]); err != nil || !skipColours(r, screen[10]) {
		return false
	}
	for range maxPieces {
		kind, err := r.ReadByte()
		if err != nil {
			return false
		}
		switch kind {
		case 0x3b:
			return true
		case 0x21: // extension: a label
			if _, err := r.Discard(1); err != nil {
				return false
			}
		case 0x2c: // image: a descriptor, its colours, a code size
			var descriptor [9]byte
			if _, err := io.ReadFull(r, descriptor[:]); err != nil || !skipColours(r, descriptor[8]) {
				return false
			}
			if _, err := r.Discard(1); err != nil {
				return false
			}
		default:
			return false
		}
		if !skipBlocks(r) {
			return false
		}
	}
	return false
}

func skipColours(r *bufio.Reader, flags byte) bool {
	if flags&0x80 == 0 {
		return true
	}
	_, err := r.Discard(3 << (flags&7 + 1))
	return err == nil
}

func skipBlocks(r *bufio.Reader) bool {
	for {
		n, err := r.ReadByte()
		if err != nil {
			return false
		}
		if n == 0 {
			return true
		}
		if _, err := r.Discard(int(n)); err != nil {
			return false
		}
	}
}

// wholeRIFF adds up the RIFF chunks: an AVI beyond 1 GiB has several.
func wholeRIFF(r io.ReaderAt, size int64) bool {
	var h [8]byte
	var at int64
	for range maxPieces {
		if _, err := r.ReadAt(h[:], at); err != nil || string(h[:4]) != "RIFF" {
			return false
		}
		length := int64(binary.LittleEndian.Uint32(h[4:]))
		if length == 0 || length == 1<<32-1 {
			return false // written to a stream: its length was not known
		}
		at += 8 + length
		if at == size || at+1 == size && length%2 == 1 {
			return true
		}
		at += length % 2
	}
	return false
}

// wholeOgg walks the pages (RFC 3533, section 6) to one that ends its stream and
// the file.
func wholeOgg(r io.ReaderAt, size int64) bool {
	var h [27 + 255]byte
	var at int64
	for range maxPieces {
		if n, _ := r.ReadAt(h[:], at); n < 27 || string(h[:4]) != "OggS" || n < 27+int(h[26]) {
			return false
		}
		segments := h[27 : 27+int(h[26])]
		at += 27 + int64(len(segments))
		for _, s := range segments {
			at += int64(s)
		}
		if at >= size {
			return at == size && h[5]&4 != 0
		}
	}
	return false
}

// wholeMatroska takes the EBML header and the segment behind it (RFC 8794).
func wholeMatroska(r io.ReaderAt, size int64) bool {
	header, ok := element(r, 0)
	if !ok || header.end > size {
		return false
	}
	segment, ok := element(r, header.end)
	return ok && segment.id == 0x18538067 && segment.end == size
}

type ebml struct {
	id  uint64
	end int64
}

// element reads an EBML element's ID and size; false also where the size is not
// told.
func element(r io.ReaderAt, at int64) (ebml, bool) {
	var h [12]byte
	n, _ := r.ReadAt(h[:], at)
	id, idLen := vint(h[:n], false)
	if idLen == 0 || idLen > 4 {
		return ebml{}, false
	}
	length, lengthLen := vint(h[idLen:n], true)
	if lengthLen == 0 || length >= 1<<62 || length == 1<<(7*lengthLen)-1 {
		return ebml{}, false
	}
	return ebml{id, at + int64(idLen+lengthLen) + int64(length)}, true
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

// wholeMP4 adds up the boxes, and wants those without which nothing plays.
func wholeMP4(r io.ReaderAt, size int64) bool {
	var moov, data bool
	left := maxPieces
	sums := boxes(r, 0, size, &left, func(b box) bool {
		moov = moov || b.kind == "moov" || b.kind == "meta" // meta: HEIC and AVIF
		data = data || b.kind == "mdat" || b.kind == "idat"
		return true
	})
	return sums && moov && data
}
