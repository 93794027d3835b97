package media

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
)

// oggPages is a stream of so many pages, the last of which ends it.
func oggPages(n int) []byte {
	var b []byte
	for i := range n {
		flags := byte(0)
		if i == n-1 {
			flags = 4
		}
		b = slices.Concat(b, []byte("OggS\x00"), []byte{flags}, make([]byte, 20), []byte{1, 200}, bytes.Repeat([]byte{byte(i)}, 200))
	}
	return b
}

// flacOf is a FLAC of so many frames of 4096 samples, of which only the headers are right.
func flacOf(frames int) []byte {
	info := make([]byte, 34)
	binary.BigEndian.PutUint16(info[0:], 4096)
	binary.BigEndian.PutUint16(info[2:], 4096)
	binary.BigEndian.PutUint64(info[10:], 44100<<44|1<<41|15<<36|uint64(4096*frames-96))
	b := slices.Concat([]byte("fLaC\x00\x00\x00\x22"), info, []byte("\x84\x00\x00\x04abcd"))
	for i := range frames {
		head := []byte{0xff, 0xf8, 0xc9, 0x18, byte(i)}
		if i == frames-1 {
			head = []byte{0xff, 0xf8, 0x79, 0x18, byte(i), 0x0f, 0x9f} // 4000 samples, written out
		}
		b = slices.Concat(b, head, []byte{flacSum(head)}, bytes.Repeat([]byte{1, 2, 3, 4, 5}, 60))
	}
	return b
}

// xingOf is an MP3 whose first frame says how many follow.
func xingOf(frames int) []byte {
	b := mp3Of(frames + 1)
	copy(b[36:], "Info\x00\x00\x00\x0f")
	binary.BigEndian.PutUint32(b[44:], uint32(frames))
	binary.BigEndian.PutUint32(b[48:], uint32(len(b)))
	return b
}

func fragmented() []byte {
	fragment := slices.Concat(boxOf("moof", make([]byte, 80)), boxOf("mdat", make([]byte, 300)))
	return slices.Concat(ftypOf("iso5", "dash"), boxOf("moov", boxOf("mvhd", make([]byte, 100)), boxOf("mvex", make([]byte, 32))), fragment, fragment)
}

// fast is an MP4 that can be played as it comes: moov first.
func fast() []byte {
	return slices.Concat(ftypOf("isom", "avc1"), boxOf("moov", boxOf("mvhd", make([]byte, 100)), trakOf("vide", 8, 8)), boxOf("mdat", make([]byte, 900)))
}

func aiff() []byte {
	return slices.Concat([]byte("FORM"), binary.BigEndian.AppendUint32(nil, 304), []byte("AIFF"), make([]byte, 300))
}

func midi() []byte {
	track := slices.Concat([]byte("MTrk\x00\x00\x00\x40"), make([]byte, 64))
	return slices.Concat([]byte("MThd\x00\x00\x00\x06\x00\x01\x00\x02\x00\x60"), track, track)
}

func au() []byte {
	return slices.Concat([]byte(".snd\x00\x00\x00\x18\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00\x1f\x40\x00\x00\x00\x01"), make([]byte, 256))
}

func jp2() []byte {
	return slices.Concat([]byte("\x00\x00\x00\x0cjP  \r\n\x87\n"), boxOf("ftyp", []byte("jp2 \x00\x00\x00\x00jp2 ")), boxOf("jp2h", make([]byte, 45)), boxOf("jp2c", make([]byte, 300), []byte{0xff, 0xd9}))
}

func rf64() []byte {
	return slices.Concat([]byte("RF64\xff\xff\xff\xffWAVEds64\x1c\x00\x00\x00"), binary.LittleEndian.AppendUint64(nil, 340), make([]byte, 20), []byte("data\xff\xff\xff\xff"), make([]byte, 292))
}

// clips are files of other makers that the simulator serves.
func clip(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../simulator/media/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wholeFiles(t *testing.T) map[string][]byte {
	svg := `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">` + strings.Repeat(`<circle r="5"/>`, 20) + "</svg>"
	matroska := slices.Concat([]byte{0x1a, 0x45, 0xdf, 0xa3, 0x84}, []byte("webm"), []byte{0x18, 0x53, 0x80, 0x67, 0x01, 0, 0, 0, 0, 0, 0x01, 0}, make([]byte, 256))
	return map[string][]byte{
		"PNG": pixelsPNG(300, 300), "JPEG": encoded(t, 300, 300, asJPEG), "GIF": encoded(t, 300, 300, asGIF), "BMP": encoded(t, 30, 30, bmp.Encode),
		"TIFF": encoded(t, 30, 30, asTIFF), "WebP": riffOf("WEBP", "VP8L", slices.Concat([]byte{0x2f}, make([]byte, 299))), "icon": iconOf(1),
		"AVIF": slices.Concat(ftypOf("avif", "mif1"), boxOf("meta", make([]byte, 100)), boxOf("mdat", make([]byte, 300))),
		"SVG":  []byte(svg), "SVG, UTF-16": unicodeOf(svg, binary.LittleEndian, 2, true), "JPEG 2000": jp2(),
		"MP4": movieOf("isom", trakOf("vide", 8, 8)), "MP4, moov first": fast(), "MP4, fragments": fragmented(), "MP4 of a camera": clip(t, "clip.mp4"),
		"Matroska": matroska, "AVI": riffOf("AVI ", "LIST", make([]byte, 300)),
		"WAV": riffOf("WAVE", "data", make([]byte, 300)), "RF64": rf64(), "AIFF": aiff(), "AU": au(), "MIDI": midi(), "FLAC": flacOf(40),
		"Ogg": oggPages(9), "MP3, counted": xingOf(30), "MP3": mp3Of(30), "MP3 with a tag": slices.Concat(id3Of(3, 0, 500), mp3Of(30)), "MP3 of an encoder": clip(t, "tone.mp3"),
		"AAC": aacOf(30, 0xf1), "FLAC with a tag": slices.Concat(id3Of(4, 0x10, 500), flacOf(40)),
	}
}

func TestCase_B2_FormatsTellThatTheyAreCutOff(t *testing.T) {
	for name, b := range wholeFiles(t) {
		n := len(b)
		if Truncated(bytes.NewReader(b), int64(n)) {
			t.Errorf("%s: cut off as it is", name)
		}
		places := []int{n / 2, n * 2 / 3, n * 9 / 10, n - 100, n - 20, n - 1}
		switch {
		case strings.HasPrefix(name, "FLAC"):
			places = []int{40, n / 2, n * 2 / 3, n - 400} // what a frame has behind its header is not looked at
		case name == "AAC", name == "MP3", name == "MP3 with a tag":
			places = []int{n - 100, n - 20, n - 1} // not between two frames
		case name == "AIFF", name == "RF64":
			places = places[:5] // some writers count a few bytes too many
		}
		for _, to := range places {
			if to < 40 {
				continue
			}
			if !Truncated(bytes.NewReader(b[:to]), int64(to)) {
				t.Errorf("%s: not cut off after %d of %d bytes", name, to, n)
			}
			if Complete(bytes.NewReader(b[:to]), int64(to)) {
				t.Errorf("%s: whole after %d of %d bytes", name, to, n)
			}
		}
	}
	for name, b := range map[string][]byte{
		"MP4 without moov":             slices.Concat(ftypOf("isom"), boxOf("mdat", make([]byte, 300))),
		"MP4 without moov, open":       slices.Concat(ftypOf("isom"), []byte("\x00\x00\x00\x00mdat"), make([]byte, 300)),
		"MP4 that ends before mdat":    fast()[:len(fast())-908],
		"MP4 of a moof without mdat":   slices.Concat(fragmented(), boxOf("moof", make([]byte, 80))),
		"AVIF that ends before mdat":   slices.Concat(ftypOf("avif"), boxOf("meta", make([]byte, 100))),
		"Ogg between two pages":        oggPages(9)[:8*228],
		"nothing but a tag":            id3Of(3, 0, 5000),
		"half a tag":                   id3Of(3, 0, 5000)[:2500],
		"PNG between two chunks":       pixelsPNG(30, 30)[:len(pixelsPNG(30, 30))-12],
		"FLAC that ends in a picture":  flacOf(40)[:48],
		"WAV between two chunks":       riffOf("WAVE", "fmt ", slices.Concat(make([]byte, 16), []byte("data\x00\x01\x00\x00"), make([]byte, 256)))[:36],
		"MP3, counted, at a frame":     xingOf(30)[:20*417],
		"Matroska, live, in a cluster": slices.Concat([]byte{0x1a, 0x45, 0xdf, 0xa3, 0x84}, []byte("webm"), []byte{0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0x1f, 0x43, 0xb6, 0x75, 0x42, 0x00}, make([]byte, 100)),
	} {
		if !Truncated(bytes.NewReader(b), int64(len(b))) {
			t.Errorf("%s: not cut off", name)
		}
	}
}

func TestCase_B2_WholeFilesAreNotTakenForCutOff(t *testing.T) {
	more := []byte("something that was appended, and is longer than a header of anything")
	for name, b := range wholeFiles(t) {
		if strings.HasPrefix(name, "SVG") {
			continue // text after a document is no document
		}
		for what, after := range map[string][]byte{"text": more, "zeros": make([]byte, 40), "a byte": {0}, "a tag": slices.Concat([]byte("TAG"), make([]byte, 125))} {
			if strings.HasPrefix(name, "Ogg") && what == "a byte" {
				after = []byte{7}
			}
			with := slices.Concat(b, after)
			if Truncated(bytes.NewReader(with), int64(len(with))) {
				t.Errorf("%s with %s behind it: cut off", name, what)
			}
		}
	}
	noise := make([]byte, 4500)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(noise)
	wavOf := func(riff, data uint32, n int) []byte {
		return slices.Concat([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, riff), []byte("WAVEfmt \x10\x00\x00\x00"), make([]byte, 16), []byte("data"), binary.LittleEndian.AppendUint32(nil, data), make([]byte, n))
	}
	jpeg := encoded(t, 30, 30, asJPEG)
	thumbnail := slices.Concat(jpeg[:2], []byte{0xff, 0xe1, 0x01, 0x02}, bytes.Repeat([]byte{0xff, 0xd9}, 128), jpeg[2:], []byte("SEFT, as phones append"))
	for name, b := range map[string][]byte{
		"WAV from a pipe (ffmpeg)":           wavOf(0xffffffff, 0xffffffff, 500),
		"WAV from a pipe (sox)":              wavOf(0x7ffff024, 0x7ffff000, 500),
		"WAV from a pipe (arecord)":          wavOf(0x80000024, 0x80000000, 500),
		"WAV, lengths never filled in":       wavOf(0, 0, 500),
		"WAV, only its length filled in":     wavOf(36+500, 0, 500),
		"WAV whose length counts its header": wavOf(44+500, 500, 500),
		"WAV, odd, padded":                   append(wavOf(36+501, 501, 501), 0),
		"WAV, odd, not padded":               wavOf(36+501, 501, 501),
		"WAV, odd, padding counted":          wavOf(36+502, 501, 501),
		"MP4 to the end of the file":         slices.Concat(fast()[:len(fast())-908], []byte("\x00\x00\x00\x00mdat"), make([]byte, 300)),
		"MP4 with a 64-bit length":           slices.Concat(fast()[:len(fast())-908], []byte("\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x01\x10"), make([]byte, 256)),
		"MP4, an init segment":               slices.Concat(ftypOf("iso5", "dash"), boxOf("moov", boxOf("mvhd", make([]byte, 100)), boxOf("mvex", make([]byte, 32)))),
		"MOV with zeros at its end":          append(movieOf("qt  ", trakOf("vide", 8, 8)), 0, 0, 0, 0),
		"HEIC with its picture in meta":      slices.Concat(ftypOf("heic", "mif1"), boxOf("meta", make([]byte, 4), boxOf("hdlr", make([]byte, 20)), boxOf("idat", make([]byte, 300)))),
		"JPEG with others in it":             thumbnail,
		"JPEG padded with zeros":             append(bytes.Clone(jpeg), make([]byte, 500)...),
		"GIF with bytes left over":           slices.Concat(encoded(t, 30, 30, asGIF)[:len(encoded(t, 30, 30, asGIF))-1], []byte{0, 0, 0x3b}),
		"live WebM":                          slices.Concat([]byte{0x1a, 0x45, 0xdf, 0xa3, 0x84}, []byte("webm"), []byte{0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0x1f, 0x43, 0xb6, 0x75, 0x80 | 20}, make([]byte, 20)),
		"SVG that is its root alone":         []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="4"/>`),
		"SVG with a comment behind it":       []byte("<svg><g/></svg >\n<!-- made by hand -->\n"),
		"SVG with a prefix":                  []byte(`<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:g/></s:svg>`),
		"FLAC from a pipe":                   slices.Concat([]byte("fLaC\x80\x00\x00\x22\x10\x00\x10\x00"), make([]byte, 300)),
		"MP3 with APE and ID3v1":             slices.Concat(mp3Of(9), []byte("APETAGEX"), make([]byte, 60), []byte("TAG"), make([]byte, 125)),
		"AU from a pipe":                     slices.Replace(au(), 8, 12, 0xff, 0xff, 0xff, 0xff),
		"noise":                              noise,
	} {
		if Truncated(bytes.NewReader(b), int64(len(b))) {
			t.Errorf("%s: cut off", name)
		}
	}
}
