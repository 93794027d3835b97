package simulator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	_ "image/jpeg" // registered for image.Decode
	_ "image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// made is the content of the only asset of a run.
func made(t interface{ Fatal(...any) }, size int64, opt func(int64) RunOption) content {
	s := New()
	if err := s.AddRun("runs1", opt(size)); err != nil {
		t.Fatal(err)
	}
	for _, a := range s.assets {
		return a.now.content
	}
	t.Fatal("no asset")
	return content{}
}

func all(t interface{ Fatal(...any) }, c content) []byte {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.size))
	if err != nil || int64(len(b)) != c.size {
		t.Fatal(len(b), err)
	}
	return b
}

func format(f Format) func(int64) RunOption {
	add := map[string]func(string, int64, ...AssetOption) RunOption{"image": Image, "video": Video, "audio": Audio}
	kind, _, _ := strings.Cut(string(f), "/")
	return func(size int64) RunOption { return add[kind]("a", size, f) }
}

func formats() []Format { return []Format{PNG, JPEG, MP4, WAV, MP3} }

func TestAnyPlaceOfAnObjectCanBeReadAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(formats()).Draw(t, "format")
		size := rapid.Int64Range(16<<10, 200<<10).Draw(t, "size")
		c := made(t, size, format(f))
		b := all(t, c)
		for range 10 {
			off := rapid.Int64Range(0, c.size+10).Draw(t, "off")
			p := make([]byte, rapid.IntRange(0, 100<<10).Draw(t, "length"))
			n, err := c.ReadAt(p, off)
			want := b[min(off, c.size):min(off+int64(len(p)), c.size)]
			if !bytes.Equal(p[:n], want) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
			}
		}
	})
}

func TestALargeObjectCostsNoMemory(t *testing.T) {
	c := made(t, 8<<30, format(MP4)) // a size box of 64 bits
	p := make([]byte, bufferSize)
	off := int64(0)
	if n := testing.AllocsPerRun(100, func() { off += 80 << 20; _, _ = c.ReadAt(p, off) }); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func TestImagesOpenWholeAndOnlyWhole(t *testing.T) {
	for _, f := range []Format{PNG, JPEG} {
		for _, size := range []int64{0, 3 << 10, 4<<10 + 1, 64 << 10, 65<<10 + 3, 1 << 20, 1<<20 + 7} {
			c := made(t, size, func(size int64) RunOption { return Image("a", size, f, Pixels(40, 30)) })
			b := all(t, c)
			picture, name, err := image.Decode(bytes.NewReader(b))
			if err != nil || "image/"+name != string(f) {
				t.Fatalf("%s of %d: %v (%s)", f, size, err, name)
			}
			if got := picture.Bounds().Size(); got != image.Pt(40, 30) || size != 0 && int64(len(b)) != size {
				t.Errorf("%s of %d: %v, %d bytes", f, size, got, len(b))
			}
			if end := b[len(b)-12:]; !bytes.HasSuffix(end, []byte("\xff\xd9")) && !bytes.Contains(end, []byte("IEND")) {
				t.Errorf("%s of %d ends in %x", f, size, end)
			}
		}
	}
}

// pngChunks checks what image/png steps over: the checksums of strangers' chunks.
func TestEveryChunkOfAPNGHasItsChecksum(t *testing.T) {
	b := all(t, made(t, 100_001, format(PNG)))[8:]
	kinds := ""
	for len(b) > 0 {
		n := binary.BigEndian.Uint32(b)
		if got := binary.BigEndian.Uint32(b[8+n:]); got != crc32.ChecksumIEEE(b[4:8+n]) {
			t.Errorf("%s: checksum %x", b[4:8], got)
		}
		kinds += string(b[4:8]) + " "
		b = b[12+n:]
	}
	if !strings.HasPrefix(kinds, "IHDR ") || !strings.HasSuffix(kinds, "asPd IEND ") {
		t.Error(kinds)
	}
}

func TestJPEGsOfAllSizesOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		edge := rapid.SampledFrom([]int64{2 << 10, 65537, 2 * 65537, 3 * 65537}).Draw(t, "edge")
		size := edge + rapid.Int64Range(0, 2<<10).Draw(t, "more")
		b := all(t, made(t, size, format(JPEG)))
		if _, err := decodeJPEG(b); err != nil || int64(len(b)) != size {
			t.Fatalf("%d bytes of %d: %v", len(b), size, err)
		}
	})
}

func decodeJPEG(b []byte) (image.Image, error) {
	m, _, err := image.Decode(bytes.NewReader(b))
	return m, err
}

func TestVideosAreBoxesThatAddUp(t *testing.T) {
	for _, size := range []int64{0, 16 << 10, 1<<20 + 1, 256 << 20, 5 << 30} {
		c := made(t, size, format(MP4))
		if size != 0 && c.size != size {
			t.Errorf("%d bytes, want %d", c.size, size)
		}
		kinds := ""
		var h [16]byte
		for off := int64(0); off < c.size; {
			_, _ = c.ReadAt(h[:], off)
			n := int64(binary.BigEndian.Uint32(h[:]))
			if n == 1 {
				n = int64(binary.BigEndian.Uint64(h[8:]))
			}
			if n < 8 || off+n > c.size {
				t.Fatalf("a box of %d at %d of %d", n, off, c.size)
			}
			kinds += string(h[4:8]) + " "
			off += n
		}
		if kinds != "ftyp moov mdat free " && kinds != "ftyp moov free mdat free " {
			t.Errorf("boxes %s", kinds)
		}
	}
}

func TestAudiosSayWhatTheyAre(t *testing.T) {
	for _, size := range []int64{0, 1000, 1001, 64 << 10} {
		b := all(t, made(t, size, format(WAV)))
		le := binary.LittleEndian
		if string(b[:4]) != "RIFF" || int(le.Uint32(b[4:])) != len(b)-8 || string(b[8:16]) != "WAVEfmt " {
			t.Fatalf("%d: header %x", size, b[:16])
		}
		if string(b[36:40]) != "JUNK" || string(b[108:112]) != "data" || int(le.Uint32(b[112:])) != len(b)-116 {
			t.Errorf("%d: chunks %x", size, b[36:116])
		}
		if size != 0 && int64(len(b)) != size+size%2 {
			t.Errorf("%d: %d bytes", size, len(b))
		}
		loudest := int16(0)
		for i := 116; i+1 < len(b); i += 2 {
			loudest = max(loudest, int16(le.Uint16(b[i:])))
		}
		if loudest < 7900 || loudest > 8000 {
			t.Errorf("%d: the loudest sample is %d", size, loudest)
		}
	}
	b := all(t, made(t, 100_000, format(MP3)))
	tag := 10 + (int(b[6])<<21 | int(b[7])<<14 | int(b[8])<<7 | int(b[9]))
	if string(b[:5]) != "ID3\x03\x00" || tag != len(b)-len(tone) || string(b[10:14]) != "PRIV" {
		t.Errorf("tag of %d in %d bytes: %x", tag, len(b), b[:20])
	}
	if frame := binary.BigEndian.Uint32(b[14:]); int(frame) != tag-20 || b[tag] != 0xff {
		t.Errorf("frame of %d in a tag of %d, then %x", frame, tag, b[tag:tag+2])
	}
}

func TestNoTwoObjectsAreEqualAndEachIsTheSameNextTime(t *testing.T) {
	sums := map[string]string{}
	for seed := range uint64(3) {
		for _, id := range []run.ID{"runs1", "runs2"} {
			for _, f := range formats() {
				s, again := New(WithSeed(seed)), New(WithSeed(seed))
				for _, s := range []*Sim{s, again} {
					add(t, s, id, format(f)(20<<10), Image("b", 20<<10, f))
				}
				for k, a := range s.assets {
					sum, name := a.now.hash(), fmt.Sprint(seed, k, f)
					if other, taken := sums[sum]; taken {
						t.Errorf("%s equals %s", name, other)
					}
					sums[sum] = name
					if again.assets[k].now.hash() != sum || again.assets[k].path != a.path {
						t.Errorf("%s is another one next time", name)
					}
				}
			}
		}
	}
}

func TestSizesThatCannotBeAreRefusedAndLeaveNothing(t *testing.T) {
	for _, f := range formats() {
		for _, size := range []int64{1, 100, -1} {
			s := New()
			if err := s.AddRun("runs1", Image("fine", 0), format(f)(size)); err == nil || len(s.assets)+len(s.paths)+len(s.runs) != 0 {
				t.Errorf("%s of %d bytes: %v, %d assets", f, size, err, len(s.assets))
			}
		}
	}
	if err := New().AddRun("runs1", Audio("a", 1<<28+8<<10, MP3)); err == nil {
		t.Error("an ID3 tag larger than its format allows")
	}
	if err := New().AddRun("runs1", Image("a", 1<<32, PNG)); err == nil {
		t.Error("a chunk larger than its format allows")
	}
}

// TestPlayersTakeEveryFormat asks the strictest judge that may be at hand.
func TestPlayersTakeEveryFormat(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		testenv.Missing(t, "ffmpeg") // the other tests read the same formats in Go
	}
	for _, f := range formats() {
		file := filepath.Join(t.TempDir(), "asset"+f.ext())
		if err := os.WriteFile(file, all(t, made(t, 300<<10, format(f))), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-xerror", "-i", file, "-f", "null", "-").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}
