package media

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// endsFrames walks frames to the end of the file, or to a tag: a frame that is not all
// there was cut. That the last one is, does not say that no more had to come.
func endsFrames(file io.ReaderAt, size int64, frame func([]byte) (int, bool)) ending {
	_, e := walkFrames(file, size, frame)
	return e
}

// walkFrames counts frames. Whole says that a tag follows the last.
func walkFrames(file io.ReaderAt, size int64, frame func([]byte) (int, bool)) (frames int, e ending) {
	r := bufio.NewReaderSize(io.NewSectionReader(file, 0, size), 64<<10)
	for range maxPieces {
		head, err := r.Peek(8)
		if err != nil && len(head) < 4 {
			return frames, endUnknown
		}
		n, ok := frame(head)
		if !ok {
			if len(head) == 8 && trailer(head) {
				return frames, endComplete
			}
			return frames, endUnknown
		}
		if skipped, err := r.Discard(n); err != nil {
			if skipped < n && frames > 0 {
				return frames, endTruncated
			}
			return frames, endUnknown
		}
		frames++
	}
	return frames, endUnknown
}

// trailer reports whether a tag begins that comes after the sound: ID3v1, APE, Lyrics3,
// or ID3v2 at the end.
func trailer(p []byte) bool {
	return bytes.HasPrefix(p, []byte("TAG")) || bytes.HasPrefix(p, []byte("APETAGEX")) || bytes.HasPrefix(p, []byte("LYRICSBE")) || bytes.HasPrefix(p, []byte("ID3"))
}

// endsMP3 counts the frames, and holds them against the number that most encoders put into
// the first one (the header that Xing made up).
func endsMP3(r io.ReaderAt, size int64) ending {
	frames, e := walkFrames(r, size, mpegFrame)
	if e == endTruncated {
		return endTruncated
	}
	promised, ok := xingFrames(r)
	switch {
	case !ok:
		return e
	case frames < promised: // the first, which carries the number, is mostly not counted
		if e == endComplete || frames < 2 {
			return endUnknown // there is a tag at the end, so the number is wrong
		}
		return endTruncated
	}
	return endComplete
}

func xingFrames(r io.ReaderAt) (int, bool) {
	var h [192]byte
	n, _ := r.ReadAt(h[:], 0)
	if n < len(h) {
		return 0, false
	}
	mono, info := h[3]>>6 == 3, 4+32
	switch old := h[1]>>3&3 != 3; {
	case old && mono:
		info = 4 + 9
	case old || mono:
		info = 4 + 17
	}
	tag := h[info:]
	if string(tag[:4]) != "Xing" && string(tag[:4]) != "Info" || binary.BigEndian.Uint32(tag[4:])&1 == 0 {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(tag[8:])), true
}

// endsFLAC walks the blocks of metadata and looks whether the last frame is the one with
// the last of the samples that the first block names (RFC 9639, sections 8 and 9).
func endsFLAC(r io.ReaderAt, size int64) ending {
	var h [26]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return endTruncated
	}
	total := int64(binary.BigEndian.Uint64(h[18:]) & (1<<36 - 1))
	block := int64(binary.BigEndian.Uint16(h[10:]))
	at := int64(4)
	for last := false; !last; {
		if n, _ := r.ReadAt(h[:4], at); n < 4 {
			return endTruncated
		}
		last = h[0]&0x80 != 0
		if at += 4 + int64(h[1])<<16 + int64(h[2])<<8 + int64(h[3]); at > size {
			return endTruncated
		}
	}
	if total == 0 {
		return endUnknown
	}
	const most = 2 << 20 // bytes of a frame
	tail := make([]byte, min(size-at, most))
	n, _ := r.ReadAt(tail, size-int64(len(tail)))
	return flacTail(tail[:n], block, total)
}

// flacTail looks for frames in the last bytes of a file. Where chance makes one, it has
// another place, so that one that fits is enough.
func flacTail(tail []byte, block, total int64) ending {
	found := false
	for off := 0; ; off++ {
		i := bytes.IndexByte(tail[off:], 0xff)
		if i < 0 {
			break
		}
		off += i
		switch end, ok := flacFrame(tail[off:], block); {
		case ok && end == total:
			return endComplete // its own end is not looked at
		case ok:
			found = true
		}
	}
	if !found && len(tail) > 0 {
		return endUnknown
	}
	return endTruncated
}

// flacFrame is the number of the sample after the frame whose header p starts with.
func flacFrame(p []byte, block int64) (end int64, ok bool) {
	if len(p) < 16 || p[0] != 0xff || p[1]&0xfe != 0xf8 || p[3]&1 != 0 || p[2]&0x0f == 0x0f || p[3]>>4 > 10 {
		return 0, false
	}
	number, n := flacNumber(p[4:])
	if n == 0 {
		return 0, false
	}
	at := 4 + n
	samples := int64(0)
	switch code := p[2] >> 4; {
	case code == 0:
		return 0, false
	case code == 1:
		samples = 192
	case code <= 5:
		samples = 576 << (code - 2)
	case code == 6:
		samples, at = int64(p[at])+1, at+1
	case code == 7:
		samples, at = int64(binary.BigEndian.Uint16(p[at:]))+1, at+2
	default:
		samples = 256 << (code - 8)
	}
	switch p[2] & 0x0f { // a sample rate that is written out
	case 12:
		at++
	case 13, 14:
		at += 2
	}
	if at >= len(p) || flacSum(p[:at]) != p[at] {
		return 0, false
	}
	if p[1]&1 == 0 { // the number counts frames
		number *= block
	}
	return number + samples, true
}

// flacNumber reads a number coded like a character of UTF-8, of up to 36 bits.
func flacNumber(p []byte) (number int64, n int) {
	if p[0] < 0x80 {
		return int64(p[0]), 1
	}
	for n = 0; n < 8 && p[0]&(0x80>>n) != 0; n++ {
		continue
	}
	if n < 2 || n > 7 || len(p) < n {
		return 0, 0
	}
	number = int64(p[0]) & (1<<(7-n) - 1)
	for _, b := range p[1:n] {
		if b&0xc0 != 0x80 {
			return 0, 0
		}
		number = number<<6 | int64(b&0x3f)
	}
	return number, n
}

// flacSum is the CRC-8 of a header, with the polynomial x8 + x2 + x + 1.
func flacSum(p []byte) (sum byte) {
	for _, b := range p {
		sum ^= b
		for range 8 {
			carry := sum >> 7
			sum = sum<<1 ^ carry*7
		}
	}
	return sum
}
