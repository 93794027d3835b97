package media

import (
	"encoding/binary"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"

	"github.com/assetd/assetd/internal/run"
)

// imageHeader bounds how far into an image its size is looked for, in bytes:
// JPEGs may carry megabytes of profiles before it.
const imageHeader = 8 << 20

// measure reads from the whole body what its head does not show: width and height, and
// whether an MP4 holds pictures or only sound. What cannot be read remains unknown.
func (m *Type) measure(body io.ReaderAt, size int64) {
	defer func() {
		_ = recover() // the formats' readers meet hostile bytes; unknown stays unknown
	}()
	if m.Kind == run.Images {
		m.Width, m.Height = imageSize(m.MIME, io.NewSectionReader(body, 0, min(size, imageHeader)))
		return
	}
	if m.found == nil || !m.found.Is("video/mp4") && !m.found.Is("video/quicktime") && !m.found.Is("video/x-m4v") {
		return
	}
	t := tracks(body, size)
	m.Width, m.Height = t.width, t.height
	if t.sound && !t.pictures {
		m.MIME, m.Ext, m.Kind = "audio/mp4", ".m4a", run.Audios
	}
}

func imageSize(mime string, r io.Reader) (width, height int) {
	var read func(io.Reader) (image.Config, error)
	switch mime {
	case "image/png", "image/apng", "image/vnd.mozilla.apng":
		read = png.DecodeConfig
	case "image/jpeg":
		read = jpeg.DecodeConfig
	case "image/gif":
		read = gif.DecodeConfig
	case "image/webp":
		read = webp.DecodeConfig
	case "image/bmp":
		read = bmp.DecodeConfig
	case "image/tiff":
		read = tiff.DecodeConfig
	default:
		return 0, 0
	}
	c, err := read(r)
	if err != nil {
		return 0, 0
	}
	return c.Width, c.Height
}

// movie is what the tracks of an MP4 or MOV say.
type movie struct {
	pictures, sound bool
	width, height   int // of the largest track with pictures
}

// maxBoxes bounds how many boxes of a file are looked at.
const maxBoxes = 1 << 12

// box is one box of an ISO base media file (ISO/IEC 14496-12, section 4.2).
type box struct {
	kind       string
	start, end int64 // of what is in it
}

// boxes calls each for the boxes from start to end, until it says false. It
// reports whether their sizes add up to end exactly.
func boxes(r io.ReaderAt, start, end int64, left *int, each func(box) bool) bool {
	var h [16]byte
	for start < end {
		*left--
		if *left < 0 || end-start < 8 {
			return false
		}
		if _, err := r.ReadAt(h[:8], start); err != nil {
			return false
		}
		size, head := int64(binary.BigEndian.Uint32(h[:4])), int64(8)
		if size == 1 {
			if n, _ := r.ReadAt(h[8:], start+8); n < 8 {
				return false
			}
			size, head = int64(binary.BigEndian.Uint64(h[8:])), 16
		}
		// 0 is "to the end of the file", which proves no end.
		if size < head || size > end-start {
			return false
		}
		if !each(box{string(h[4:8]), start + head, start + size}) {
			return false
		}
		start += size
	}
	return true
}

func tracks(r io.ReaderAt, size int64) movie {
	var m movie
	left := maxBoxes
	boxes(r, 0, size, &left, func(b box) bool {
		if b.kind == "moov" {
			boxes(r, b.start, b.end, &left, func(b box) bool {
				if b.kind == "trak" {
					m.track(r, b, &left)
				}
				return true
			})
		}
		return true
	})
	return m
}

// track reads one trak box: tkhd ends in width and height as 16.16 numbers, and
// mdia/hdlr names what the track is.
func (m *movie) track(r io.ReaderAt, trak box, left *int) {
	var width, height int
	var b8 [8]byte
	boxes(r, trak.start, trak.end, left, func(b box) bool {
		switch {
		case b.kind == "tkhd" && b.end-b.start >= 84:
			if n, _ := r.ReadAt(b8[:], b.end-8); n == 8 {
				width, height = int(binary.BigEndian.Uint16(b8[0:])), int(binary.BigEndian.Uint16(b8[4:]))
			}
		case b.kind == "mdia":
			boxes(r, b.start, b.end, left, func(b box) bool {
				if b.kind == "hdlr" && b.end-b.start >= 12 {
					_, _ = r.ReadAt(b8[:4], b.start+8)
					m.pictures = m.pictures || string(b8[:4]) == "vide"
					m.sound = m.sound || string(b8[:4]) == "soun"
					if string(b8[:4]) != "vide" {
						width, height = 0, 0
					}
				}
				return true
			})
		}
		return true
	})
	if width*height > m.width*m.height {
		m.width, m.height = width, height
	}
}
