package media

import (
	"encoding/binary"
	"io"
)

// streamed is from where on a length in a WAV means one that was not known when it
// was written to a pipe: writers put 0, 0xffffffff or something just above 2 GiB.
const streamed = 1<<31 - 1<<16

// ownHeader is by how many bytes the length of a file may be too large: some writers count
// the header, and the padding.
const ownHeader = 9

// endsRIFF adds up the RIFF chunks: an AVI beyond 1 GiB has several.
func endsRIFF(r io.ReaderAt, size int64) ending {
	var h [8]byte
	var at int64
	for range maxPieces {
		n, _ := r.ReadAt(h[:], at)
		switch {
		case at >= size:
			return endComplete
		case n < len(h):
			return endUnknown // too little to tell whether it is another chunk
		case string(h[:4]) != "RIFF":
			return endComplete // with something after it
		}
		length := int64(binary.LittleEndian.Uint32(h[4:]))
		end := at + 8 + length
		switch {
		case length == 0, length >= streamed && end > size:
			return endUnknown
		case end > size:
			return endsChunks(r, at+12, size, end)
		}
		at = end + length%2
	}
	return endUnknown
}

// endsChunks says of a RIFF file that is shorter than its header has it whether a chunk of
// it is: what a writer has counted wrongly is whole.
func endsChunks(r io.ReaderAt, at, size, end int64) ending {
	var h [8]byte
	for range maxPieces {
		if at+8 > size {
			break
		}
		if n, _ := r.ReadAt(h[:], at); n < len(h) {
			return endUnknown
		}
		length := int64(binary.LittleEndian.Uint32(h[4:]))
		if string(h[:4]) == "data" && (length == 0 || length >= streamed) {
			return endUnknown
		}
		if at += 8 + length; at > size {
			return endTruncated
		}
		at += length % 2
	}
	if end-size <= ownHeader && at >= size {
		return endComplete
	}
	return endTruncated
}

// endsRF64 takes the length from the ds64 chunk (EBU Tech 3306).
func endsRF64(r io.ReaderAt, size int64) ending {
	var h [32]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) || string(h[12:16]) != "ds64" {
		return endUnknown
	}
	length := binary.LittleEndian.Uint64(h[20:])
	switch {
	case length == 0 || length > 1<<62:
		return endUnknown
	case int64(length)+8 > size+ownHeader:
		return endTruncated
	}
	return endComplete
}

// endsForm is of AIFF, whose length is big-endian.
func endsForm(r io.ReaderAt, size int64) ending {
	var h [8]byte
	_, _ = r.ReadAt(h[:], 0)
	length := int64(binary.BigEndian.Uint32(h[4:]))
	switch {
	case length == 0 || length >= streamed && 8+length > size:
		return endUnknown
	case 8+length > size+ownHeader:
		return endTruncated
	}
	return endComplete
}

// endsMIDI walks as many tracks as the header has.
func endsMIDI(r io.ReaderAt, size int64) ending {
	var h [14]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return endTruncated
	}
	at := int64(14)
	for range binary.BigEndian.Uint16(h[10:]) {
		if n, _ := r.ReadAt(h[:8], at); n < 8 {
			return endTruncated
		}
		if at += 8 + int64(binary.BigEndian.Uint32(h[4:])); at > size {
			return endTruncated
		}
	}
	return endComplete
}

// endsAU takes offset and length from the header; all ones: not known.
func endsAU(r io.ReaderAt, size int64) ending {
	var h [12]byte
	_, _ = r.ReadAt(h[:], 0)
	length := binary.BigEndian.Uint32(h[8:])
	switch {
	case length == 0, length == 1<<32-1:
		return endUnknown
	case int64(binary.BigEndian.Uint32(h[4:]))+int64(length) > size:
		return endTruncated
	}
	return endComplete
}

// endsGLB takes the length from the header (glTF 2.0, section 4.4).
func endsGLB(r io.ReaderAt, size int64) ending {
	var h [12]byte
	_, _ = r.ReadAt(h[:], 0)
	if int64(binary.LittleEndian.Uint32(h[8:])) > size {
		return endTruncated
	}
	return endComplete
}
