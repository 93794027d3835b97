package media

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// ending is whether a file has its end, by its own account.
type ending int

const (
	endUnknown ending = iota // the format does not show its end, or what shows it is not filled in
	endComplete
	endTruncated
)

// Complete reports whether a file of size bytes is complete by its own account: a PNG
// that has its IEND, a JPEG its EOI, a GIF its trailer, an MP4 or MOV whose boxes add up,
// a RIFF file (WAV, WebP, AVI) of the length it names, an Ogg stream whose last page says
// so, and their like. False also means that the format does not show its end.
//
// It is for a body whose end nothing else proves. Bytes that follow the end are allowed.
func Complete(r io.ReaderAt, size int64) bool { return ends(r, size) == endComplete }

// Truncated reports whether a file of size bytes is cut off by its own account: what it
// names is not all there. False also means that the format does not show its end, as where
// a file was written to a stream and its length was not known.
func Truncated(r io.ReaderAt, size int64) bool { return ends(r, size) == endTruncated }

func ends(r io.ReaderAt, size int64) (e ending) {
	defer func() {
		if recover() != nil { // hostile bytes
			e = endUnknown
		}
	}()
	var space [HeadSize]byte
	n, _ := r.ReadAt(space[:], 0)
	head := space[:min(int64(n), size)]
	if _, at, tagged := afterID3(head, r, size); tagged {
		if at >= size {
			return endTruncated // nothing but the tag, or not all of it
		}
		r, size = io.NewSectionReader(r, at, size-at), size-at
		n, _ = r.ReadAt(space[:], 0)
		head = space[:n]
	}
	if len(head) < 12 {
		return endUnknown
	}
	for _, f := range containers {
		if f.is(head) {
			return f.ends(r, size)
		}
	}
	return endUnknown
}

// containers are the formats that show their end, in the order in which they are
// distinguished: the longest signatures first.
var containers = []struct {
	is   func(head []byte) bool
	ends func(r io.ReaderAt, size int64) ending
}{
	{begins("\x89PNG\r\n\x1a\n"), endsPNG},
	{begins("\xff\xd8\xff"), endsJPEG},
	{begins("GIF8"), endsGIF},
	{begins("RIFF"), endsRIFF},
	{func(h []byte) bool { return len(h) >= 32 && (begins("RF64")(h) || begins("BW64")(h)) }, endsRF64},
	{begins("OggS"), endsOgg},
	{begins("\x1a\x45\xdf\xa3"), endsMatroska},
	{begins("fLaC"), endsFLAC},
	{begins("FORM"), endsForm},
	{begins("MThd\x00\x00\x00\x06"), endsMIDI},
	{begins(".snd"), endsAU},
	{begins("glTF"), endsGLB},
	{func(h []byte) bool { return begins("\x00\x00\x00\x0cjP  ")(h) || begins("\x00\x00\x00\x0cJXL ")(h) }, endsJP2},
	{func(h []byte) bool { return isoStart[string(h[4:8])] }, endsISO},
	{func(h []byte) bool { return begins("II*\x00")(h) || begins("MM\x00*")(h) }, endsTIFF},
	{func(h []byte) bool { return begins("BM")(h) && sniff(h, nil, 0).MIME == "image/bmp" }, endsBMP},
	{iconStart, endsIcon},
	{adts, func(r io.ReaderAt, size int64) ending { return endsFrames(r, size, adtsFrame) }},
	{func(h []byte) bool { _, ok := mpegFrame(h); return ok && confirm("audio/mpeg", h) }, endsMP3},
	{isSVG, endsSVG},
}

func begins(magic string) func(head []byte) bool {
	return func(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }
}

// maxPieces bounds how many chunks, pages or blocks of a file are walked.
const maxPieces = 1 << 20

// endsPNG walks the chunks to IEND.
func endsPNG(r io.ReaderAt, size int64) ending {
	if endsWith(r, size, []byte("IEND\xae\x42\x60\x82")) {
		return endComplete
	}
	var h [8]byte
	at := int64(8)
	for range maxPieces {
		if n, _ := r.ReadAt(h[:], at); n < len(h) || at+8 > size {
			return endTruncated
		}
		for _, letter := range h[4:] {
			if letter|0x20 < 'a' || letter|0x20 > 'z' {
				return endUnknown // no chunk: the file is damaged in another way
			}
		}
		at += 12 + int64(binary.BigEndian.Uint32(h[:4]))
		if at > size {
			return endTruncated
		}
		if string(h[4:]) == "IEND" {
			return endComplete
		}
	}
	return endUnknown
}

// endsWith allows for the zeros that some writers pad with.
func endsWith(r io.ReaderAt, size int64, end []byte) bool {
	tail := make([]byte, min(size, 64))
	if n, _ := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) {
		return false
	}
	return bytes.HasSuffix(bytes.TrimRight(tail, "\x00"), end)
}

// endsJPEG walks the segments and scans to EOI (ITU T.81, annex B), after which much is
// appended to pictures: other pictures, films, notes of cameras.
func endsJPEG(file io.ReaderAt, size int64) ending {
	if endsWith(file, size, []byte{0xff, 0xd9}) {
		return endComplete
	}
	r := bufio.NewReaderSize(io.NewSectionReader(file, 2, size-2), 64<<10)
	for {
		marker, err := nextMarker(r)
		switch {
		case err != nil:
			return endTruncated
		case marker == 0xd9:
			return endComplete
		case marker == 0x01, marker >= 0xd0 && marker <= 0xd8:
			continue
		}
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return endTruncated
		}
		n := int(binary.BigEndian.Uint16(length[:])) - 2
		if n < 0 {
			return endUnknown
		}
		if _, err := r.Discard(n); err != nil {
			return endTruncated
		}
	}
}

// nextMarker skips the bytes of a scan, in which 0xff is followed by 0 or a restart.
func nextMarker(r *bufio.Reader) (byte, error) {
	for {
		if _, err := r.ReadSlice(0xff); err == bufio.ErrBufferFull {
			continue
		} else if err != nil {
			return 0, err
		}
		b, err := r.ReadByte()
		for err == nil && b == 0xff {
			b, err = r.ReadByte()
		}
		if err != nil || b != 0 && (b < 0xd0 || b > 0xd7) {
			return b, err
		}
	}
}

// endsGIF walks the blocks to the trailer (GIF89a, appendix A).
func endsGIF(file io.ReaderAt, size int64) ending {
	r := bufio.NewReader(io.NewSectionReader(file, 0, size))
	var screen [13]byte
	if _, err := io.ReadFull(r, screen[:]); err != nil || !skipColours(r, screen[10]) {
		return endTruncated
	}
	for range maxPieces {
		kind, err := r.ReadByte()
		if err != nil {
			return endTruncated
		}
		switch kind {
		case 0: // left over by writers that count wrongly, and passed over by all readers
			continue
		case 0x3b:
			return endComplete
		case 0x21: // extension: a label
			if _, err := r.Discard(1); err != nil {
				return endTruncated
			}
		case 0x2c: // image: a descriptor, its colours, a code size
			var descriptor [9]byte
			if _, err := io.ReadFull(r, descriptor[:]); err != nil || !skipColours(r, descriptor[8]) {
				return endTruncated
			}
			if _, err := r.Discard(1); err != nil {
				return endTruncated
			}
		default:
			return endUnknown
		}
		if !skipBlocks(r) {
			return endTruncated
		}
	}
	return endUnknown
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
