package simulator

import (
	"bytes"
	_ "embed" // the clip and the tone
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"
)

// Format is what an asset's bytes are. As an AssetOption it chooses them. Every
// object opens and plays, whatever its size: a small real picture, clip or tone,
// and beside it bytes of its own in a place that its format keeps for strangers.
type Format string

// The formats.
const (
	PNG  Format = "image/png"  // of any kind of picture; the rest is a private chunk before IEND
	JPEG Format = "image/jpeg" // the rest is comments
	MP4  Format = "video/mp4"  // two seconds of H.264, 256x144; the rest is a free box at the end
	WAV  Format = "audio/wav"  // a tone as long as the size needs; sizes are even
	MP3  Format = "audio/mpeg" // one second of a tone; the rest is a private ID3 frame; at most 256 MiB
)

//go:embed media/clip.mp4
var clip string

//go:embed media/tone.mp3
var tone string

// Pixels and seconds of the clip and the tone.
const (
	clipWidth, clipHeight = 256, 144
	clipSeconds           = 2.0
	toneSeconds           = 1.071
)

// padding is how much of an object is its own where no size was asked for.
const padding = 64

func (f Format) ext() string {
	return map[Format]string{PNG: ".png", JPEG: ".jpg", MP4: ".mp4", WAV: ".wav", MP3: ".mp3"}[f]
}

// picture is what an image shows: a gradient in one of a few shades.
type picture struct {
	format        Format
	width, height int
	shade         uint64
}

const shades = 8

// draw is the picture's pixels.
func (p picture) draw() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, p.width, p.height))
	turn := uint8(p.shade * 255 / shades)
	for i := range p.width * p.height {
		across, down := uint8(255*(i%p.width)/p.width), uint8(255*(i/p.width)/p.height)
		copy(m.Pix[4*i:], []byte{across + turn, down - turn, turn ^ 0x80, 255})
	}
	return m
}

// encode is the picture as a file that ends where padding goes, and what ends it.
func (p picture) encode() (head, tail string, err error) {
	var b bytes.Buffer
	if p.format == JPEG {
		err = jpeg.Encode(&b, p.draw(), nil)
		s := b.String()
		return s[:2], s[2:], err // comments stand behind the start of image
	}
	err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, p.draw())
	s := b.String()
	return s[:len(s)-12], s[len(s)-12:], err
}

// object makes the bytes of an asset: of exactly that size in bytes, or of a few
// KiB where it is 0.
func (a *asset) object(size int64, seed uint64, encode func(picture) (head, tail string, err error)) (content, error) {
	if a.bytes != nil {
		return textContent(*a.bytes), nil
	}
	head, tail := "", ""
	switch a.format {
	case PNG, JPEG:
		var err error
		if head, tail, err = encode(picture{a.format, a.width, a.height, seed % shades}); err != nil {
			return content{}, err
		}
	case MP4:
		head = clip
	case MP3:
		tail = tone
	case WAV:
		return wave(size, seed)
	}
	least := int64(len(head) + len(tail) + 32)
	if size == 0 {
		size = least + padding
	}
	if size < least {
		return content{}, fmt.Errorf("%s of that size cannot be: at least %d bytes", a.format, least)
	}
	var c content
	c.addText(head)
	c.pad(a.format, size-int64(len(head)+len(tail)), noise(seed))
	c.addText(tail)
	if c.size != size {
		return content{}, fmt.Errorf("%s of %d bytes cannot be: too large for its format", a.format, size)
	}
	return c, nil
}

// pad adds n bytes that readers of the format step over.
func (c *content) pad(format Format, n int64, own noise) {
	switch format {
	case PNG:
		c.chunk(n, own)
	case JPEG:
		c.comments(n, murmur(own))
	case MP4:
		c.free(n, own)
	case MP3:
		c.private(n, murmur(own))
	}
}

// chunk adds an ancillary, private chunk that is safe to copy (PNG, section 4.7).
func (c *content) chunk(n int64, own noise) {
	const kind = "asPd"
	data := n - 12
	if data > math.MaxInt32 {
		return
	}
	sum := crc32.NewIEEE()
	_, _ = io.WriteString(sum, kind)
	buf := make([]byte, min(data, bufferSize))
	for off := int64(0); off < data; off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), data-off)]
		own.fill(part, off)
		_, _ = sum.Write(part)
	}
	c.addText(be32(data) + kind)
	c.add(data, own)
	c.addText(be32(int64(sum.Sum32())))
}

// comments adds COM segments (ITU T.81, B.2.4.5), each of at most 65,535 bytes
// behind its marker.
func (c *content) comments(n int64, own murmur) {
	const most = 2 + math.MaxUint16
	for n > 0 {
		segment := min(n, most)
		if rest := n - segment; rest > 0 && rest < 4 {
			segment -= 4 // so that the last one has room for its header
		}
		c.addText("\xff\xfe" + be32(segment - 2)[2:])
		c.add(segment-4, own)
		own = murmur(mix(uint64(own)))
		n -= segment
	}
}

// free adds a box that nobody reads (ISO/IEC 14496-12, section 8.1.2).
func (c *content) free(n int64, own noise) {
	head := be32(n) + "free"
	if n > math.MaxUint32 {
		head = be32(1) + "free" + be32(n>>32) + be32(n)
	}
	c.addText(head)
	c.add(n-int64(len(head)), own)
}

// private adds an ID3v2.3 tag with one PRIV frame.
func (c *content) private(n int64, own murmur) {
	const owner = "assetd\x00"
	tag := n - 10
	if tag >= 1<<28 {
		return
	}
	syncsafe := string([]byte{byte(tag >> 21 & 0x7f), byte(tag >> 14 & 0x7f), byte(tag >> 7 & 0x7f), byte(tag & 0x7f)})
	c.addText("ID3\x03\x00\x00" + syncsafe + "PRIV" + be32(tag-10) + "\x00\x00" + owner)
	c.add(tag-10-int64(len(owner)), own)
}

const (
	waveRate   = 22050 // samples a second, 16 bit, one channel
	waveHeader = 12 + 24 + 8 + padding + 8
)

// wave is a tone whose pitch depends on the seed, behind a few bytes of its own.
func wave(size int64, seed uint64) (content, error) {
	if size == 0 {
		size = waveHeader + waveRate // half a second
	}
	size += size % 2 // chunks are padded to even sizes
	data := size - waveHeader
	if data < 2 || size > math.MaxUint32 {
		return content{}, fmt.Errorf("%s of %d bytes cannot be: between %d bytes and 4 GiB", WAV, size, waveHeader+2)
	}
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("RIFF")
	le(uint32(size - 8))
	b.WriteString("WAVEfmt ")
	le(uint32(16))
	le([]uint16{1, 1})
	le([]uint32{waveRate, 2 * waveRate})
	le([]uint16{2, 16})
	b.WriteString("JUNK")
	le(uint32(padding))
	var c content
	c.addText(b.String())
	c.add(padding, noise(seed))
	b.Reset()
	b.WriteString("data")
	le(uint32(data))
	c.addText(b.String())
	b.Reset()
	period := 50 + int(seed%64) // samples: 195 to 441 Hz
	for i := range 16 * period {
		le(int16(8000 * math.Sin(2*math.Pi*float64(i)/float64(period))))
	}
	c.add(data, again(b.String()))
	return c, nil
}

// seconds is how long the asset plays.
func (a *asset) seconds() float64 {
	switch a.format {
	case MP4:
		return clipSeconds
	case MP3:
		return toneSeconds
	case WAV:
		return float64(a.now.size-waveHeader) / (2 * waveRate)
	}
	return 0
}

func be32(n int64) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(n)))
}
