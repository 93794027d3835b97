package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/image/bmp"

	"github.com/assetd/assetd/internal/run"
)

// result is what a body is stored as.
type result struct {
	Type
	Warnings []string
}

// judged is what b, announced as announced, from a URL that ends in name, is stored as. The
// error is why it is not media.
func judged(b []byte, name string, announced Announced) (result, error) {
	body, size := bytes.NewReader(b), int64(len(b))
	m := Identify(b[:min(len(b), HeadSize)], body, size)
	m.Resolve(body, size, announced.ContentType, strings.ToLower(path.Ext(name)))
	if m.Refused != "" {
		return result{Type: m}, errors.New(m.Refused)
	}
	return result{m, m.Warnings(announced)}, nil
}

// stored is what b is stored as, announced as an asset of the kind.
func stored(kind run.Kind, contentType, name string, b []byte) (result, error) {
	return judged(b, name, Announced{Kind: kind, ContentType: contentType})
}

// mustBeStored requires that media type and extension, and no warnings.
func mustBeStored(t *testing.T, r result, err error, mime, ext string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.MIME != mime || r.Ext != ext || len(r.Warnings) != 0 {
		t.Errorf("%s, %s, warnings %q; want %s, %s and none", r.MIME, r.Ext, r.Warnings, mime, ext)
	}
}

// id3Of is a tag of that many bytes after its header.
func id3Of(version, flags byte, n int) []byte {
	b := slices.Concat([]byte("ID3"), []byte{version, 0, flags, byte(n >> 21 & 0x7f), byte(n >> 14 & 0x7f), byte(n >> 7 & 0x7f), byte(n & 0x7f)})
	b = append(b, []byte("TIT2")...)
	b = append(b, bytes.Repeat([]byte{1, 'x'}, n/2+1)...)[:10+n]
	if flags&0x10 != 0 {
		b = append(b, slices.Concat([]byte("3DI"), b[3:10])...)
	}
	return b
}

// mp3Of is so many frames of silence: MPEG 1, layer III, 128 kbit/s, 44,100 Hz.
func mp3Of(frames int) []byte {
	frame := make([]byte, 417)
	copy(frame, "\xff\xfb\x90\x00")
	return bytes.Repeat(frame, frames)
}

// aacOf is so many frames of ADTS.
func aacOf(frames int, second byte) []byte {
	const n = 200
	frame := make([]byte, n)
	copy(frame, []byte{0xff, second, 0x50, 0x80, n >> 3, n & 7 << 5, 0xfc})
	return bytes.Repeat(frame, frames)
}

func flac() []byte {
	return slices.Concat([]byte("fLaC\x80\x00\x00\x22\x10\x00\x10\x00"), make([]byte, 100))
}

func oggOf(codec string) []byte {
	return slices.Concat([]byte("OggS\x00\x06"), make([]byte, 20), []byte{1, byte(len(codec))}, []byte(codec))
}

func TestCase_B3_ATagBeforeTheSoundDoesNotNameIt(t *testing.T) {
	tags := map[string][]byte{
		"v2.2": id3Of(2, 0, 200), "v2.3": id3Of(3, 0, 200), "v2.3, unsynchronised": id3Of(3, 0x80, 200), "v2.4": id3Of(4, 0, 201),
		"v2.4 with a footer": id3Of(4, 0x10, 200), "two": slices.Concat(id3Of(3, 0, 100), id3Of(4, 0x10, 300)),
		"empty": id3Of(3, 0, 0), "larger than what is sniffed": id3Of(3, 0, 300_000), "as large as what is sniffed": id3Of(4, 0, HeadSize-10),
		"one byte less": id3Of(4, 0, HeadSize-11), "padded beyond its size": append(id3Of(3, 0, 100), make([]byte, 700)...),
	}
	for name, tag := range tags {
		for _, c := range []struct {
			name      string
			body      []byte
			mime, ext string
		}{
			{"FLAC", flac(), "audio/flac", ".flac"},
			{"AAC", aacOf(5, 0xf1), "audio/aac", ".aac"},
			{"AAC with CRC", aacOf(5, 0xf0), "audio/aac", ".aac"},
			{"AAC, MPEG 2", aacOf(5, 0xf9), "audio/aac", ".aac"},
			{"MP3", mp3Of(5), "audio/mpeg", ".mp3"},
			{"WAV", wav(), "audio/wav", ".wav"},
			{"Musepack", slices.Concat([]byte("MPCKSH"), bytes.Repeat([]byte{0, 1, 2}, 40)), "audio/musepack", ".mpc"},
			{"a format that nobody knows", bytes.Repeat([]byte{0, 1, 2}, 40), "audio/mpeg", ".mp3"},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				r, err := stored(run.Audios, "", "a", slices.Concat(tag, c.body))
				mustBeStored(t, r, err, c.mime, c.ext)
			})
		}
		t.Run(name+"/a page", func(t *testing.T) {
			_, err := stored(run.Audios, "audio/mpeg", "a.mp3", slices.Concat(tag, []byte("<!DOCTYPE html><html><body>no</body></html>")))
			if err == nil {
				t.Error("stored")
			}
		})
	}
}

func ftypOf(major string, compatible ...string) []byte {
	return boxOf("ftyp", []byte(major+"\x00\x00\x00\x00"+strings.Join(compatible, "")))
}

func TestCase_B4_BrandsNameTheFormat(t *testing.T) {
	meta := slices.Concat(boxOf("meta", make([]byte, 60)), boxOf("mdat", make([]byte, 60)))
	video, sound := movieOf("isom", trakOf("vide", 8, 8))[20:], movieOf("isom", trakOf("soun", 0, 0))[20:]
	for _, c := range []struct {
		brands    string // major first
		rest      []byte
		kind      run.Kind
		mime, ext string
	}{
		{"avif mif1 miaf", meta, run.Images, "image/avif", ".avif"},
		{"avis avif msf1", meta, run.Images, "image/avif", ".avif"},
		{"miaf avif mif1", meta, run.Images, "image/avif", ".avif"},
		{"mif1 mif1 miaf avif MA1B", meta, run.Images, "image/avif", ".avif"},
		{"mif2 mif1 avif", meta, run.Images, "image/avif", ".avif"},
		{"msf1 msf1 avis", meta, run.Images, "image/avif", ".avif"},
		{"MA1A avif mif1", meta, run.Images, "image/avif", ".avif"},
		{"mp42 avif mif1", meta, run.Images, "image/avif", ".avif"},
		{"isom avif", video, run.Videos, "video/mp4", ".mp4"},
		{"heic mif1 heic", meta, run.Images, "image/heic", ".heic"},
		{"heix mif1", meta, run.Images, "image/heic", ".heic"},
		{"mif1 mif1 heic", meta, run.Images, "image/heic", ".heic"},
		{"mif1 miaf MiHB heix", meta, run.Images, "image/heic", ".heic"},
		{"miaf heic", meta, run.Images, "image/heic", ".heic"},
		{"msf1 hevc", meta, run.Images, "image/heic-sequence", ".heic"},
		{"hevc msf1", meta, run.Images, "image/heic-sequence", ".heic"},
		{"mif1 mif1 miaf", meta, run.Images, "image/heif", ".heif"},
		{"mif1", meta, run.Images, "image/heif", ".heif"},
		{"isom isom iso2 avc1 mp41", video, run.Videos, "video/mp4", ".mp4"},
		{"iso5 dash", video, run.Videos, "video/mp4", ".mp4"},
		{"mp42 mp42", sound, run.Audios, "audio/mp4", ".m4a"},
		{"M4A M4A mp42", sound, run.Audios, "audio/mp4", ".m4a"},
		{"M4B M4A", sound, run.Audios, "audio/mp4", ".m4b"},
		{"M4V M4A mp42", video, run.Videos, "video/x-m4v", ".m4v"},
		{"qt qt", video, run.Videos, "video/quicktime", ".mov"},
		{"3gp4 isom", video, run.Videos, "video/3gpp", ".3gp"},
		{"3gp9", video, run.Videos, "video/3gpp", ".3gp"},
		{"3g2a", video, run.Videos, "video/3gpp2", ".3g2"},
		{"crx crx isom", meta, run.Images, "image/x-canon-cr3", ".cr3"},
		{"f4v isom", video, run.Videos, "video/mp4", ".f4v"},
		{"MSNV mp42", video, run.Videos, "video/mp4", ".mp4"},
	} {
		t.Run(c.brands, func(t *testing.T) {
			all := strings.Fields(c.brands)
			for i := range all {
				all[i] = fmt.Sprintf("%-4s", all[i])
			}
			r, err := stored(c.kind, "", "a", slices.Concat(ftypOf(all[0], all[1:]...), c.rest))
			mustBeStored(t, r, err, c.mime, c.ext)
		})
	}
}

// unicodeOf is s in that encoding.
func unicodeOf(s string, order binary.ByteOrder, width int, mark bool) []byte {
	if mark {
		s = "\ufeff" + s
	}
	var b []byte
	if width == 4 {
		for _, r := range s {
			b = order.(binary.AppendByteOrder).AppendUint32(b, uint32(r))
		}
		return b
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.(binary.AppendByteOrder).AppendUint16(b, u)
	}
	return b
}

func TestCase_B5_SVGIsAnImageInWhateverUnicode(t *testing.T) {
	encodings := map[string]func(string) []byte{
		"UTF-8":       func(s string) []byte { return []byte(s) },
		"UTF-8, mark": func(s string) []byte { return []byte("\ufeff" + s) },
	}
	for name, order := range map[string]binary.ByteOrder{"LE": binary.LittleEndian, "BE": binary.BigEndian} {
		for _, width := range []int{2, 4} {
			for _, mark := range []bool{true, false} {
				encodings[fmt.Sprintf("UTF-%d%s, mark %v", 8*width, name, mark)] = func(s string) []byte { return unicodeOf(s, order, width, mark) }
			}
		}
	}
	const ns = ` xmlns="http://www.w3.org/2000/svg"`
	svgs := map[string]string{
		"bare":            `<svg` + ns + `><circle r="5"/></svg>`,
		"without a name":  `<svg width="5"></svg>`,
		"declared":        `<?xml version="1.0" encoding="UTF-16" standalone="no"?>` + "\r\n<svg" + ns + "/>",
		"XML 1.1":         `<?xml version="1.1" encoding="latin1"?><svg` + ns + "/>",
		"commented":       "<!-- made by hand > --><!-- twice --><svg" + ns + "/>",
		"document type":   `<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [ <!ENTITY a "b"> ]><svg/>`,
		"blanks":          " \r\n\t<svg" + ns + "/>",
		"prefixed":        `<svg:svg xmlns:svg="http://www.w3.org/2000/svg"><svg:circle r="5"/></svg:svg>`,
		"another prefix":  `<?xml version="1.0"?><s:svg xmlns:s="http://www.w3.org/2000/svg"/>`,
		"letters":         `<svg` + ns + `><text>Grüße, 世界 🖼</text></svg>`,
		"long comment":    "<!--" + strings.Repeat(" long", 2000) + "--><svg" + ns + "/>",
		"processing":      `<?xml version="1.0"?><?xml-stylesheet href="a.css"?><svg` + ns + "/>",
		"doctype, simple": "<!DOCTYPE svg><svg" + ns + "/>",
	}
	others := map[string]string{
		"HTML": "<!DOCTYPE html><html><body>no</body></html>", "HTML with one": "<html><body><svg" + ns + "/></body></html>",
		"XML": `<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`, "JSON": `{"message":"no such object"}`, "text": "Access denied.",
		"another root": `<?xml version="1.0"?><not xmlns="http://www.w3.org/2000/svg"><svg/></not>`,
	}
	for name, encode := range encodings {
		for what, svg := range svgs {
			r, err := stored(run.Images, "image/svg+xml", "a.svg", encode(svg))
			if err != nil || r.MIME != "image/svg+xml" || r.Ext != ".svg" || len(r.Warnings) != 0 {
				t.Errorf("%s, %s: %v, %+v", name, what, err, r)
			}
		}
		for what, text := range others {
			if _, err := stored(run.Images, "image/svg+xml", "a.svg", encode(text)); err == nil {
				t.Errorf("%s, %s: stored", name, what)
			}
		}
	}
}

// tgaOf is an uncompressed TGA: kind 2 is colours, 3 is grey.
func tgaOf(kind, bits byte, width, height int) []byte {
	b := make([]byte, 18)
	b[2], b[16] = kind, bits
	binary.LittleEndian.PutUint16(b[12:], uint16(width))
	binary.LittleEndian.PutUint16(b[14:], uint16(height))
	return append(b, bytes.Repeat([]byte{7}, width*height*int(bits)/8)...)
}

// iconOf is an icon, or a cursor (kind 2), with one picture.
func iconOf(kind byte) []byte {
	png := pixelsPNG(16, 16)
	b := []byte{0, 0, kind, 0, 1, 0, 16, 16, 0, 0, 1, 0, 32, 0}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(png)))
	return append(binary.LittleEndian.AppendUint32(b, 22), png...)
}

func TestCase_B6_ContentTypeAndURLWinOverAWeakSignature(t *testing.T) {
	rle := slices.Concat(tgaOf(10, 32, 40, 40)[:18], bytes.Repeat([]byte{0x87, 1, 2, 3, 4}, 200))
	weak := slices.Concat([]byte{0, 0, 2, 0}, make([]byte, 30), []byte{1, 2, 3})
	gray := encoded(t, 8, 8, bmp.Encode)
	for _, c := range []struct {
		name, contentType, file string
		body                    []byte
		kind                    run.Kind
		mime, ext               string
	}{
		{"TGA", "image/x-tga", "a.tga", tgaOf(2, 32, 30, 20), run.Images, "image/x-tga", ".tga"},
		{"TGA, grey", "image/tga", "a.tga", tgaOf(3, 8, 30, 20), run.Images, "image/x-tga", ".tga"},
		{"TGA, another alias", "image/x-targa", "a.TGA", tgaOf(2, 24, 30, 20), run.Images, "image/x-tga", ".tga"},
		{"TGA, other extension", "image/targa", "a.vda", weak, run.Images, "image/x-tga", ".vda"},
		{"TGA, no extension", "image/x-tga", "a", weak, run.Images, "image/x-tga", ".tga"},
		{"TGA, wrong extension", "image/x-tga", "a.png", weak, run.Images, "image/x-tga", ".tga"},
		{"TGA, no content type", "", "a.tga", weak, run.Images, "image/x-tga", ".tga"},
		{"TGA, any content type", "application/octet-stream", "a.tga", weak, run.Images, "image/x-tga", ".tga"},
		{"TGA by its size alone", "", "a", tgaOf(2, 32, 30, 20), run.Images, "image/x-tga", ".tga"},
		{"TGA, run lengths", "image/x-tga", "a.tga", rle, run.Images, "image/x-tga", ".tga"},
		{"icon", "image/x-icon", "favicon.ico", iconOf(1), run.Images, "image/x-icon", ".ico"},
		{"icon, Microsoft's word", "image/vnd.microsoft.icon", "favicon.ico", iconOf(1), run.Images, "image/x-icon", ".ico"},
		{"cursor", "", "a.cur", weak, run.Images, "image/x-icon", ".ico"},
		{"a colour that reads as MP3", "image/x-tga", "a.tga", slices.Concat([]byte{0xff, 0xfb, 0x90, 0}, make([]byte, 900)), run.Images, "image/x-tga", ".tga"},
		{"MP3 that reads as AAC", "audio/mpeg", "a.mp3", slices.Concat([]byte{0xff, 0xf1}, bytes.Repeat([]byte{0, 1}, 300)), run.Audios, "audio/mpeg", ".mp3"},
		{"AAC that reads as MP3", "audio/aac", "a.aac", slices.Concat([]byte{0xff, 0xfb, 0x90, 0}, make([]byte, 900)), run.Audios, "audio/aac", ".aac"},
		{"sound that has no signature", "audio/L16;rate=24000", "a.pcm", bytes.Repeat([]byte{0, 1, 255, 3}, 300), run.Audios, "audio/l16", ".pcm"},
		{"a picture of a kind not known here", "image/x-new", "a.new", weak, run.Images, "image/x-new", ".new"},
		{"transport stream", "video/mp2t", "a.ts", bytes.Repeat(slices.Concat([]byte{0x47, 0x40, 0}, bytes.Repeat([]byte{0xff}, 185)), 20), run.Videos, "video/mp2t", ".ts"},
		{"BMP", "image/bmp", "a.bmp", gray, run.Images, "image/bmp", ".bmp"},
		{"MP3", "audio/mpeg", "a.mp3", mp3Of(9), run.Audios, "audio/mpeg", ".mp3"},
		{"JPEG", "image/jpeg", "a.jpg", encoded(t, 8, 8, asJPEG), run.Images, "image/jpeg", ".jpg"},
		{"TIFF", "image/tiff", "a.tif", encoded(t, 8, 8, asTIFF), run.Images, "image/tiff", ".tiff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := stored(c.kind, c.contentType, c.file, c.body)
			mustBeStored(t, r, err, c.mime, c.ext)
		})
	}
}

func TestCase_B6_WhatHasASignatureIsNotRenamed(t *testing.T) {
	for _, c := range []struct {
		name, contentType, file, ext string
		body                         []byte
		warns                        bool
	}{
		{"PNG as TGA", "image/x-tga", "a.tga", ".png", pixelsPNG(8, 8), true},
		{"JPEG as TGA", "image/x-tga", "a.tga", ".jpg", encoded(t, 8, 8, asJPEG), true},
		{"icon as TGA", "image/x-tga", "a.tga", ".ico", iconOf(1), true},
		{"BMP as TGA", "image/x-tga", "a.tga", ".bmp", encoded(t, 8, 8, bmp.Encode), true},
		{"TIFF as TGA", "image/x-tga", "a.tga", ".tiff", encoded(t, 8, 8, asTIFF), true},
		{"TGA as PNG", "image/png", "a.png", ".tga", tgaOf(2, 32, 30, 20), true},
		{"icon as PNG", "image/png", "a.png", ".ico", iconOf(1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := stored(run.Images, c.contentType, c.file, c.body)
			if err != nil || r.Ext != c.ext || (len(r.Warnings) > 0) != c.warns {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
	for _, page := range []string{"<!DOCTYPE html><html></html>", "<html>\n", `{"error":"no"}`, "MZ is what this text begins with", "BM, too", "8BPS likewise", "icns", "MThd, a word", ".snd", "P6\nis where you stand", "MPCK", "GIF is no GIF", "RIFF"} {
		for _, file := range []string{"a.tga", "a.mp3", "a.new"} {
			_, err := stored(run.Images, "image/x-tga", file, []byte(page))
			if err == nil {
				t.Fatalf("%q as %s is stored", page, file)
			}
		}
	}
}

func TestCase_B7_AliasesOfAContentTypeDoNotWarn(t *testing.T) {
	video, sound := movieOf("isom", trakOf("vide", 8, 8)), movieOf("M4A ", trakOf("soun", 0, 0))
	opus, webm := oggOf("OpusHead\x01\x02"), append([]byte("\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"), make([]byte, 20)...)
	heic := slices.Concat(ftypOf("heic", "mif1"), boxOf("meta", make([]byte, 40)))
	any := []string{
		"", "application/octet-stream", "binary/octet-stream", "application/octetstream", "application/x-download", "application/force-download",
		"application/unknown", "application/binary", "application/x-www-form-urlencoded", "multipart/form-data", "*/*", ";;;", "application/download",
	}
	for _, c := range []struct {
		name   string
		kind   run.Kind
		body   []byte
		silent []string
		warns  []string
	}{
		{
			"PNG", run.Images, pixelsPNG(8, 8),
			[]string{"image/png", "image/x-png", "IMAGE/PNG", "image/png; charset=binary", "image/apng", "image/*"},
			[]string{"image/jpeg", "image/webp", "text/html", "text/plain", "video/mp4", "application/json", "video/*", "application/pdf"},
		},
		{
			"JPEG", run.Images, encoded(t, 8, 8, asJPEG),
			[]string{"image/jpeg", "image/jpg", "image/pjpeg", "image/x-jpeg", "image/jfif", "application/jpg"},
			[]string{"image/png", "image/jp2", "image/jxl"},
		},
		{"BMP", run.Images, encoded(t, 8, 8, bmp.Encode), []string{"image/bmp", "image/x-bmp", "image/x-ms-bmp", "image/x-windows-bmp"}, []string{"image/x-icon"}},
		{"TIFF", run.Images, encoded(t, 8, 8, asTIFF), []string{"image/tiff", "image/tif", "image/x-tiff"}, []string{"image/png"}},
		{"icon", run.Images, iconOf(1), []string{"image/x-icon", "image/vnd.microsoft.icon", "image/ico", "image/icon"}, []string{"image/png"}},
		{"HEIC", run.Images, heic, []string{"image/heic", "image/heif", "image/heic-sequence"}, []string{"image/jpeg", "image/avif"}},
		{"SVG", run.Images, []byte("<svg/>"), []string{"image/svg+xml", "image/svg", "text/xml", "application/xml"}, []string{"text/html", "image/png"}},
		{"WebP", run.Images, webpOf(8, 8), []string{"image/webp", "image/x-webp"}, []string{"image/png", "audio/wav"}},
		{
			"M4A", run.Audios, sound,
			[]string{"audio/mp4", "audio/x-m4a", "audio/m4a", "audio/x-mp4", "audio/aac", "audio/mp4a-latm", "video/mp4", "application/mp4"},
			[]string{"audio/mpeg", "audio/ogg", "video/webm"},
		},
		{"MP4", run.Videos, video, []string{"video/mp4", "application/mp4", "video/x-m4v", "video/mpeg4", "video/quicktime"}, []string{"video/webm", "audio/mpeg", "image/png"}},
		{"MOV", run.Videos, movieOf("qt  ", trakOf("vide", 8, 8)), []string{"video/quicktime", "video/mov", "video/x-quicktime", "video/mp4"}, []string{"video/webm"}},
		{"M4V", run.Videos, movieOf("M4V ", trakOf("vide", 8, 8)), []string{"video/x-m4v", "video/m4v", "video/mp4"}, []string{"video/webm"}},
		{"WebM", run.Videos, webm, []string{"video/webm", "audio/webm", "video/x-matroska"}, []string{"video/mp4"}},
		{
			"MP3", run.Audios, mp3Of(9),
			[]string{"audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mpeg-3", "audio/x-mp3", "audio/x-mpeg", "audio/mpg"},
			[]string{"audio/wav", "audio/ogg", "audio/mp4", "video/mpeg"},
		},
		{"AAC", run.Audios, aacOf(9, 0xf1), []string{"audio/aac", "audio/x-aac", "audio/aacp", "audio/x-hx-aac-adts"}, []string{"audio/wav"}},
		{"FLAC", run.Audios, flac(), []string{"audio/flac", "audio/x-flac", "application/flac", "application/x-flac"}, []string{"audio/ogg", "audio/mpeg"}},
		{
			"Opus", run.Audios, opus,
			[]string{"audio/ogg", "audio/opus", "application/ogg", "audio/x-opus", "audio/ogg; codecs=opus", "application/x-ogg", "audio/x-ogg"},
			[]string{"audio/mpeg", "audio/webm"},
		},
		{"WAV", run.Audios, wav(), []string{"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave; codec=1", "audio/x-pn-wav"}, []string{"audio/mpeg", "audio/l16"}},
	} {
		for _, contentType := range slices.Concat(any, c.silent) {
			if r, err := stored(c.kind, contentType, "a", c.body); err != nil || len(r.Warnings) != 0 {
				t.Errorf("%s as %q: %v, %q", c.name, contentType, err, r.Warnings)
			}
		}
		for _, contentType := range c.warns {
			r, err := stored(c.kind, contentType, "a", c.body)
			if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "sent as") {
				t.Errorf("%s as %q: %v, %q; want the one that the type differs", c.name, contentType, err, r.Warnings)
			}
		}
	}
}

func TestCase_B6_TransportStreamIsKnownByItsPackets(t *testing.T) {
	packets := func(n int, sync byte) []byte {
		b := make([]byte, 188*n)
		for i := range n {
			copy(b[188*i:], []byte{sync, 0x40, 0x11, 0x10, 0})
		}
		return b
	}
	for name, c := range map[string]struct {
		body      []byte
		mime, ext string
	}{
		"stream":          {packets(40, 'G'), "video/mp2t", ".ts"},
		"not in step":     {append([]byte{'G'}, packets(40, 'G')...), "application/octet-stream", ""},
		"another byte":    {packets(40, 'F'), "application/octet-stream", ""},
		"too few of them": {packets(3, 'G'), "application/octet-stream", ""},
	} {
		m := Identify(c.body[:min(len(c.body), HeadSize)], bytes.NewReader(c.body), int64(len(c.body)))
		if m.MIME != c.mime || m.Ext != c.ext || m.Refused != "" {
			t.Errorf("%s: %s %s %q", name, m.MIME, m.Ext, m.Refused)
		}
	}
}

func TestCase_B3_ATagBeforeABoxIsSkipped(t *testing.T) {
	for brand, ext := range map[string]string{"M4A ": ".m4a", "isom": ".mp4"} {
		for _, padding := range []int{0, 40} {
			body := append(append([]byte("ID3\x04\x00\x00\x00\x00\x00"), byte(padding)), make([]byte, padding)...)
			body = append(body, movieOf(brand, trakOf("soun", 0, 0))...)
			if m := Identify(body[:min(len(body), HeadSize)], bytes.NewReader(body), int64(len(body))); m.Ext != ext {
				t.Errorf("%q behind %d bytes: %s %s", brand, padding, m.MIME, m.Ext)
			}
		}
	}
}
