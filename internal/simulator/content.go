package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sort"
)

// content is the bytes of an object. They are made as they are read, at any
// offset, so that a video of 256 MiB costs neither memory nor disk. It is not
// changed once it is made, and safe for concurrent use.
type content struct {
	size   int64
	pieces []piece // in order, without gaps
}

type piece struct {
	at, end int64
	bytes   filler
}

// filler makes the bytes of a piece.
type filler interface {
	fill(p []byte, off int64) // off counts from the piece's start
}

func (c *content) add(size int64, bytes filler) {
	if size == 0 {
		return
	}
	c.pieces = append(c.pieces, piece{c.size, c.size + size, bytes})
	c.size += size
}

func (c *content) addText(s string) { c.add(int64(len(s)), text(s)) }

func textContent(s string) content {
	var c content
	c.addText(s)
	return c
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	first := sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].end > off })
	for _, piece := range c.pieces[first:] {
		if done == len(p) {
			return done, nil
		}
		n := int(min(int64(len(p)-done), piece.end-off))
		piece.bytes.fill(p[done:done+n], off-piece.at)
		done, off = done+n, off+int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// sum is the SHA-256 of all bytes in hex, made streaming.
func (c content) sum() string {
	h := sha256.New()
	buf := make([]byte, bufferSize)
	_, _ = io.CopyBuffer(h, io.NewSectionReader(c, 0, c.size), buf) // neither side can fail
	return hex.EncodeToString(h.Sum(nil))
}

// text is bytes that are written out.
type text string

func (t text) fill(p []byte, off int64) { copy(p, t[off:]) }

// again is a text repeated without end.
type again string

func (a again) fill(p []byte, off int64) {
	for n := 0; n < len(p); {
		n += copy(p[n:], a[(off+int64(n))%int64(len(a)):])
	}
}

// noise is bytes that look random, from a seed: SplitMix64 with the place as its
// counter, so that any place can be read at once and no two seeds give the same.
type noise uint64

func (s noise) fill(p []byte, off int64) {
	word := uint64(off / 8)
	if skip := off % 8; skip != 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], s.word(word))
		p = p[copy(p, b[skip:]):]
		word++
	}
	for ; len(p) >= 8; word++ {
		binary.LittleEndian.PutUint64(p, s.word(word))
		p = p[8:]
	}
	if len(p) > 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], s.word(word))
		copy(p, b[:])
	}
}

func (s noise) word(n uint64) uint64 { return mix(uint64(s) + n*0x9e3779b97f4a7c15) }

// murmur is noise without any byte above 0x7f, for formats whose markers begin
// with 0xff and whose readers look for them everywhere.
type murmur noise

func (s murmur) fill(p []byte, off int64) {
	noise(s).fill(p, off)
	for i := range p {
		p[i] &= 0x7f
	}
}

// mix is SplitMix64's finalizer.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// seeded is a number that depends on all it is given, and on nothing else.
func seeded(seed uint64, parts ...string) uint64 {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, seed)
	for _, part := range parts {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(part)))
		_, _ = io.WriteString(h, part)
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}
