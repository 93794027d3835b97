package media

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/assetd/assetd/internal/run"
)

// boxOf is an ISO media box.
func boxOf(kind string, in ...[]byte) []byte {
	b := slices.Concat(in...)
	return slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(8+len(b))), []byte(kind), b)
}

func trakOf(handler string, width, height int) []byte {
	tkhd := make([]byte, 84)
	binary.BigEndian.PutUint16(tkhd[76:], uint16(width))
	binary.BigEndian.PutUint16(tkhd[80:], uint16(height))
	return boxOf("trak", boxOf("tkhd", tkhd), boxOf("mdia", boxOf("mdhd", make([]byte, 24)), boxOf("hdlr", slices.Concat(make([]byte, 8), []byte(handler), make([]byte, 13)))))
}

// movieOf is an MP4 with those tracks.
func movieOf(brand string, tracks ...[]byte) []byte {
	return slices.Concat(
		boxOf("ftyp", []byte(brand+"\x00\x00\x02\x00"+brand)),
		boxOf("mdat", bytes.Repeat([]byte{0, 1, 2, 3}, 1000)),
		boxOf("moov", slices.Concat(append([][]byte{boxOf("mvhd", make([]byte, 100))}, tracks...)...)),
	)
}

func encoded(t *testing.T, width, height int, encode func(io.Writer, image.Image) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.Black, color.White})); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }
func asGIF(w io.Writer, m image.Image) error  { return gif.Encode(w, m, nil) }
func asTIFF(w io.Writer, m image.Image) error { return tiff.Encode(w, m, nil) }

// webpOf is the start of a lossless WebP of that size.
func webpOf(width, height int) []byte {
	bits := uint32(width-1) | uint32(height-1)<<14
	vp8l := slices.Concat([]byte{0x2f}, binary.LittleEndian.AppendUint32(nil, bits), make([]byte, 3))
	return riffOf("WEBP", "VP8L", vp8l)
}

func riffOf(form, chunk string, b []byte) []byte {
	in := slices.Concat([]byte(form+chunk), binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b)
	return slices.Concat([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, uint32(len(in))), in)
}

func wav() []byte {
	return riffOf("WAVE", "fmt ", slices.Concat([]byte{1, 0, 1, 0, 0x44, 0xac, 0, 0, 0x88, 0x58, 1, 0, 2, 0, 16, 0}, []byte("data\x04\x00\x00\x00\x00\x00\x01\x01")))
}

func TestKindAndExtensionComeFromTheBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		body     []byte
		mime     string
		ext      string
		kind     run.Kind
		announce run.Kind
	}{
		"PNG":            {pixelsPNG(8, 8), "image/png", ".png", run.Images, run.Images},
		"JPEG":           {encoded(t, 8, 8, asJPEG), "image/jpeg", ".jpg", run.Images, run.Images},
		"GIF":            {encoded(t, 8, 8, asGIF), "image/gif", ".gif", run.Images, run.Images},
		"BMP":            {encoded(t, 8, 8, bmp.Encode), "image/bmp", ".bmp", run.Images, run.Images},
		"TIFF":           {encoded(t, 8, 8, asTIFF), "image/tiff", ".tiff", run.Images, run.Images},
		"WebP":           {webpOf(8, 8), "image/webp", ".webp", run.Images, run.Images},
		"SVG":            {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), "image/svg+xml", ".svg", run.Images, run.Images},
		"SVG, commented": {[]byte("<?xml version='1.0'?><!-- " + strings.Repeat("x", 9000) + " --><!DOCTYPE svg><svg></svg>"), "image/svg+xml", ".svg", run.Images, run.Images},
		"SVG with a BOM": {[]byte("\ufeff <!-- x --><svg></svg>"), "image/svg+xml", ".svg", run.Images, run.Images},
		"netpbm":         {[]byte("P3\n1 1\n255\n0 0 0\n"), "image/x-portable-pixmap", ".ppm", run.Images, run.Images},
		"AVIF":           {boxOf("ftyp", []byte("avif\x00\x00\x00\x00avif")), "image/avif", ".avif", run.Images, run.Images},
		"MP4":            {movieOf("isom", trakOf("vide", 8, 8), trakOf("soun", 0, 0)), "video/mp4", ".mp4", run.Videos, run.Videos},
		"MOV":            {movieOf("qt  ", trakOf("vide", 8, 8)), "video/quicktime", ".mov", run.Videos, run.Videos},
		"MP4, sound":     {movieOf("isom", trakOf("soun", 0, 0)), "audio/mp4", ".m4a", run.Audios, run.Audios},
		"WebM, sound":    {append([]byte("\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"), make([]byte, 20)...), "video/webm", ".webm", run.Videos, run.Audios},
		"WAV":            {wav(), "audio/wav", ".wav", run.Audios, run.Audios},
		"MP3":            {[]byte("\xff\xfb\x90\x00\x00"), "audio/mpeg", ".mp3", run.Audios, run.Audios},
		"FLAC":           {[]byte("fLaC\x00\x00\x00\x22"), "audio/flac", ".flac", run.Audios, run.Audios},
	} {
		r, err := stored(tc.announce, "", "a", tc.body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.MIME != tc.mime || r.Ext != tc.ext || r.Kind != tc.kind || len(r.Warnings) != 0 {
			t.Errorf("%s: %s, %s, %s, %q", name, r.MIME, r.Ext, r.Kind, r.Warnings)
		}
	}
}

func TestWarningsSayWhatIsOdd(t *testing.T) {
	size := func(w, h int) func(*Announced) {
		return func(r *Announced) { r.Width, r.Height = &w, &h }
	}
	none := func(*Announced) {}
	png := pixelsPNG(30, 20)
	for name, tc := range map[string]struct {
		body        []byte
		contentType string
		announce    run.Kind
		size        func(*Announced)
		want        string // in the only warning; empty: none
	}{
		"nothing":                {png, "image/png", run.Images, size(30, 20), ""},
		"on its side":            {png, "image/png", run.Images, size(20, 30), ""},
		"no size told":           {png, "image/png", run.Images, none, ""},
		"size 0 told":            {png, "image/png", run.Images, size(0, 0), ""},
		"a preview":              {png, "image/png", run.Images, size(420, 280), "30x20 pixels, announced as 420x280"},
		"JPEG preview":           {encoded(t, 30, 20, asJPEG), "image/jpeg", run.Images, size(31, 20), "30x20"},
		"GIF preview":            {encoded(t, 30, 20, asGIF), "", run.Images, size(31, 20), "30x20"},
		"BMP preview":            {encoded(t, 30, 20, bmp.Encode), "", run.Images, size(31, 20), "30x20"},
		"TIFF preview":           {encoded(t, 30, 20, asTIFF), "", run.Images, size(31, 20), "30x20"},
		"WebP preview":           {webpOf(30, 20), "", run.Images, size(31, 20), "30x20"},
		"video preview":          {movieOf("isom", trakOf("soun", 900, 900), trakOf("vide", 640, 360)), "video/mp4", run.Videos, size(1920, 1080), "640x360"},
		"video":                  {movieOf("isom", trakOf("vide", 640, 360)), "video/mp4", run.Videos, size(640, 360), ""},
		"an image for a video":   {png, "image/png", run.Videos, none, "announced among the videos, but is image/png"},
		"a video for an audio":   {movieOf("isom", trakOf("vide", 8, 8)), "video/mp4", run.Audios, none, ""},
		"a PDF":                  {[]byte("%PDF-1.7\n\x00\x01"), "application/pdf", run.Images, none, "but is application/pdf"},
		"unknown":                {[]byte("\x00\x01\x02"), "image/png", run.Images, none, "no format that is known"},
		"other content type":     {png, "image/jpeg", run.Images, none, `sent as "image/jpeg", but is image/png`},
		"HTML content type":      {png, "text/html; charset=utf-8", run.Images, none, `sent as "text/html"`},
		"content type's alias":   {wav(), "audio/x-wav", run.Audios, none, ""},
		"content type in vogue":  {encoded(t, 8, 8, asJPEG), "image/jpg", run.Images, none, ""},
		"content type, upper":    {png, "IMAGE/PNG", run.Images, none, ""},
		"content type of no use": {png, "binary/octet-stream", run.Images, none, ""},
		"content type broken":    {png, ";;;", run.Images, none, ""},
	} {
		announced := Announced{Kind: tc.announce, ContentType: tc.contentType}
		tc.size(&announced)
		r, err := judged(tc.body, "a.png", announced)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tc.want == "" && len(r.Warnings) != 0 || tc.want != "" && (len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], tc.want)) {
			t.Errorf("%s: %q, want %q", name, r.Warnings, tc.want)
		}
	}
}

func TestContainersTellWhetherTheyAreWhole(t *testing.T) {
	ogg := func(flags byte, body string) []byte {
		return slices.Concat([]byte("OggS\x00"), []byte{flags}, make([]byte, 20), []byte{1, byte(len(body))}, []byte(body))
	}
	matroska := slices.Concat([]byte{0x1a, 0x45, 0xdf, 0xa3, 0x84}, []byte("webm"), []byte{0x18, 0x53, 0x80, 0x67, 0x01, 0, 0, 0, 0, 0, 0, 8}, make([]byte, 8))
	animated := func() []byte {
		var b bytes.Buffer
		frame := image.NewPaletted(image.Rect(0, 0, 40, 40), color.Palette{color.Black, color.White})
		if err := gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{frame, frame, frame}, Delay: []int{1, 1, 1}}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, whole := range map[string][]byte{
		"PNG":      pixelsPNG(300, 300),
		"JPEG":     encoded(t, 300, 300, asJPEG),
		"GIF":      encoded(t, 300, 300, asGIF),
		"GIF, 3":   animated(),
		"WebP":     webpOf(30, 30),
		"WAV":      wav(),
		"AVI, two": slices.Concat(riffOf("AVI ", "LIST", []byte("abcd")), riffOf("AVIX", "LIST", []byte("abcd"))),
		"MP4":      movieOf("isom", trakOf("vide", 8, 8)),
		"Ogg":      slices.Concat(ogg(2, "vorbis"), ogg(0, "more"), ogg(4, "end")),
		"Matroska": matroska,
	} {
		if !Complete(bytes.NewReader(whole), int64(len(whole))) {
			t.Errorf("%s: not whole", name)
		}
		for n := range whole {
			if name == "AVI, two" && n == len(whole)/2 {
				continue // the first of the two is whole by itself
			}
			if Complete(bytes.NewReader(whole[:n]), int64(n)) {
				t.Errorf("%s: whole without its last %d of %d bytes", name, len(whole)-n, len(whole))
			}
		}
	}
	padded := append(encoded(t, 9, 9, asJPEG), 0, 0, 0)
	if !Complete(bytes.NewReader(padded), int64(len(padded))) {
		t.Error("padded JPEG: not whole")
	}
	for name, b := range map[string][]byte{
		"MP3": []byte("ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00"), "text": []byte("hello, world, hello"), "empty": {},
		"open WAV":         slices.Replace(wav(), 4, 8, 0xff, 0xff, 0xff, 0xff),
		"open MP4":         slices.Concat(movieOf("isom"), []byte("\x00\x00\x00\x00mdat1234")),
		"MP4, no moov":     slices.Concat(boxOf("ftyp", []byte("isom\x00\x00\x02\x00isom")), boxOf("mdat", make([]byte, 100))),
		"Ogg, not ended":   ogg(2, "vorbis"),
		"open Matroska":    slices.Replace(slices.Clone(matroska), 13, 21, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"64-bit box, huge": []byte("\x00\x00\x00\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xffxxxx"),
	} {
		if Complete(bytes.NewReader(b), int64(len(b))) {
			t.Errorf("%s: whole", name)
		}
	}
}

func FuzzMedia(f *testing.F) {
	for _, b := range [][]byte{pixelsPNG(8, 8), wav(), webpOf(8, 8), movieOf("isom", trakOf("vide", 8, 8)), []byte("<svg"), utf16Text, []byte("GIF89a"), []byte("OggS"), []byte("II*\x00\x08\x00\x00\x00")} {
		f.Add(b, "gzip", "image/png")
	}
	f.Fuzz(func(t *testing.T, b []byte, encoding, contentType string) {
		r := bytes.NewReader(b)
		m := Identify(b[:min(len(b), HeadSize)], r, int64(len(b)))
		Outermost(b[:min(len(b), HeadSize)], []string{encoding})
		if len(b) == 0 && m.Refused == "" {
			t.Fatal("nothing counts as media")
		}
		m.Resolve(r, int64(len(b)), contentType, ".new")
		if m.Ext != "" && (m.Ext[0] != '.' || strings.ContainsAny(m.Ext, "/\\ \x00")) {
			t.Fatalf("extension %q", m.Ext)
		}
		m.Warnings(Announced{ContentType: contentType})
		if Complete(r, int64(len(b))) && len(b) < 12 {
			t.Fatal("whole, and shorter than any header")
		}
	})
}
