package transfer

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/assetd/assetd/internal/run"
)

// packers are the encodings that servers use.
var packers = map[string]func(io.Writer) io.WriteCloser{
	"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	"raw deflate": func(w io.Writer) io.WriteCloser {
		z, _ := flate.NewWriter(w, flate.DefaultCompression)
		return z
	},
	"br": func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, 1) },
	"zstd": func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		return z
	},
}

// pack encodes b, first in the first of the encodings.
func pack(b []byte, names ...string) []byte {
	for _, name := range names {
		var out bytes.Buffer
		w := packers[name](&out)
		_, _ = w.Write(b)
		_ = w.Close()
		b = out.Bytes()
	}
	return b
}

// bzipped is "<html><body>no such object</body></html>" as bzip2, which the library only
// reads.
const bzipped = "BZh91AY&SY\xa9\xe4B!\x00\x00\x03\x99\x80@\x00\x80\x05\x1eW\x8e  \x001M2111\x06\xa0d\xd0\xda\x9ah\xc7\x02\x16\x92EQ\x96N\x07J)\x80\xe1\xfd\x08*\xd0&G\xc5\xdc\x91N\x14$*y\x10\x88@"

// sendAs serves b as it is, under a Content-Encoding or none, to ranged requests and
// others alike.
func sendAs(contentEncoding string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentEncoding != "" {
			w.Header()["Content-Encoding"] = []string{contentEncoding}
		}
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b)
	}
}

// said are spellings of the Content-Encoding of a body packed so.
func said(names ...string) []string {
	plain := strings.ReplaceAll(strings.Join(names, ", "), "raw deflate", "deflate")
	all := []string{plain, strings.ToUpper(plain), strings.ReplaceAll(plain, ", ", ","), plain + ", identity", ""}
	if strings.Contains(plain, "gzip") {
		all = append(all, strings.ReplaceAll(plain, "gzip", "x-gzip"))
	}
	return all
}

var packings = [][]string{
	{"gzip"},
	{"deflate"},
	{"raw deflate"},
	{"br"},
	{"zstd"},
	{"gzip", "br"},
	{"br", "gzip"},
	{"deflate", "gzip"},
	{"zstd", "gzip"},
	{"gzip", "gzip"},
	{"gzip", "zstd", "gzip"},
}

func TestCase_B1_AnEncodedErrorPageIsNoAsset(t *testing.T) {
	long := "<!DOCTYPE html><html><body>" + strings.Repeat("<p>no such object, and not for a while\n", 1000) + "</body></html>"
	pages := map[string]string{
		"HTML":      "<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>",
		"long HTML": long,
		"JSON":      `{"error":{"code":"AccessDenied","message":"the token is not valid for this object"}}`,
		"XML":       `<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>`,
		"text":      "upstream connect error or disconnect/reset before headers",
		"UTF-16":    string(utf16Text),
	}
	c := newClient(t, Config{})
	for name, page := range pages {
		for _, packing := range packings {
			if name == "UTF-16" && (packing[0] == "br" || packing[0] == "raw deflate" || len(packing) > 1) {
				continue
			}
			packed := pack([]byte(page), packing...)
			for _, header := range said(packing...) {
				t.Run(fmt.Sprintf("%s/%v/%q", name, packing, header), func(t *testing.T) {
					f := failed(t, c, serve(t, sendAs(header, packed)), &memPart{}, NotMedia)
					if f.Status != 200 {
						t.Errorf("status %d", f.Status)
					}
				})
			}
		}
	}
}

func TestCase_B1_AnErrorPageAsBzip2IsNoAsset(t *testing.T) {
	for _, header := range []string{"", "bzip2", "x-bzip2"} {
		if f := failed(t, newClient(t, Config{}), serve(t, sendAs(header, []byte(bzipped))), &memPart{}, NotMedia); !strings.Contains(f.Error(), "text/html") {
			t.Errorf("%q: %v", header, f)
		}
	}
}

func TestCase_B1_AnEncodedAssetIsStoredDecoded(t *testing.T) {
	c := newClient(t, Config{})
	wav := []byte("RIFF\x28\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x44\xac\x00\x00\x88\x58\x01\x00\x02\x00\x10\x00data\x04\x00\x00\x00\x00\x00\x01\x01")
	movie, err := os.ReadFile("../simulator/media/clip.mp4")
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"small PNG": pixelsPNG(8, 8), "large PNG": pixelsPNG(700, 700), "noisy PNG": picture(300_000, 1),
		"SVG": []byte(`<svg xmlns="http://www.w3.org/2000/svg"><circle r="5"/></svg>`), "WAV": wav,
		"MP4": movie,
	} {
		for _, packing := range packings {
			if name != "small PNG" && len(packing) > 1 {
				continue
			}
			packed := pack(body, packing...)
			for _, header := range said(packing...) {
				t.Run(fmt.Sprintf("%s/%v/%q", name, packing, header), func(t *testing.T) {
					part := &memPart{}
					r := fetched(t, c, serve(t, sendAs(header, packed)), part)
					mustBe(t, r, part, body)
					if want := map[bool]string{true: "without a Content-Encoding", false: "Content-Encoding"}[header == ""]; !strings.Contains(strings.Join(r.Warnings, "|"), want) || !strings.Contains(strings.Join(r.Warnings, "|"), "stored decoded") || !r.Proven {
						t.Errorf("%+v", r)
					}
					if part.mark.ETag != "" || part.mark.Total >= 0 {
						t.Errorf("the part can be gone on with under %+v: its bytes are not the server's", part.mark)
					}
				})
			}
		}
	}
}

func TestCase_B1_IdentityIsNoEncoding(t *testing.T) {
	png := pixelsPNG(8, 8)
	for _, header := range []string{"identity", "Identity", "identity, identity", "", "none"} {
		part := &memPart{}
		if r := fetched(t, newClient(t, Config{}), serve(t, with("Content-Encoding", header, serveBytes("image/png", png))), part); len(r.Warnings) != 0 {
			t.Errorf("%q: %q", header, r.Warnings)
		}
	}
}

func TestCase_B1_AnEncodingThatCannotBeDecodedIsAFailedAttempt(t *testing.T) {
	page := []byte("<html><body>" + strings.Repeat("not here, not now, ", 400) + "</body></html>")
	png, noise := pixelsPNG(300, 300), picture(9000, 3)[100:]
	type sent struct {
		header string
		body   []byte
	}
	cases := map[string]sent{
		"gzip that is none":              {"gzip", noise},
		"br that is none":                {"br", noise},
		"zstd that is none":              {"zstd", noise},
		"deflate that is none":           {"deflate", noise},
		"compress":                       {"compress", slices.Concat([]byte{0x1f, 0x9d, 0x90}, noise)},
		"compress, not said":             {"", slices.Concat([]byte{0x1f, 0x9d, 0x90}, noise)},
		"xz, not said":                   {"", slices.Concat([]byte("\xfd7zXZ\x00"), noise)},
		"lz4, not said":                  {"", slices.Concat([]byte("\x04\x22\x4d\x18"), noise)},
		"dictionary-compressed brotli":   {"dcb", slices.Concat([]byte("\xff\x44\x43\x42"), noise)},
		"dictionary-compressed zstd":     {"dcz", noise},
		"unknown word over a page":       {"base64", page},
		"aws-chunked over a page":        {"aws-chunked", page},
		"aws-chunked over a packed page": {"aws-chunked", pack(page, "gzip")},
		"gzip, damaged":                  {"gzip", damaged(pack(png, "gzip"))},
		"zstd, bytes after it":           {"zstd", append(pack(png, "zstd"), "and more"...)},
		"deflate, bytes after it":        {"deflate", append(pack(png, "deflate"), "and more"...)},
		"br, bytes after it":             {"br", append(pack(png, "br"), "and more"...)},
		"five layers":                    {"gzip, gzip, gzip, gzip, gzip", pack(png, "gzip", "gzip", "gzip", "gzip", "gzip")},
		"bzip2, damaged":                 {"", damaged([]byte(bzipped))},
	}
	for _, name := range []string{"gzip", "deflate", "br", "zstd"} {
		whole := pack(picture(200_000, 9), name)
		cases[name+", cut"] = sent{name, whole[:len(whole)-40]}
		cases[name+", cut, not said"] = sent{"", whole[:len(whole)-40]}
		cases[name+", empty"] = sent{name, pack(nil, name)}
	}
	// A head that cannot be told from an unknown format without its name is kept as one.
	delete(cases, "br, cut, not said")
	delete(cases, "deflate, cut, not said")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			part := &memPart{}
			failed(t, newClient(t, Config{}), serve(t, sendAs(tc.header, tc.body)), part, NotMedia)
		})
	}
}

// damaged is b with a bit turned near its end.
func damaged(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-6] ^= 0x10
	return b
}

func TestCase_B1_PlainMediaUnderAWrongEncodingIsStoredWithAWarning(t *testing.T) {
	png := picture(big, 4)
	for _, header := range []string{"gzip", "br", "zstd", "deflate", "aws-chunked", "gzip, aws-chunked", "base64", "compress", "utf-8", "dcb"} {
		t.Run(header, func(t *testing.T) {
			part := &memPart{}
			r := fetched(t, newClient(t, Config{}), serve(t, with("Content-Encoding", header, content(`"v1"`, png))), part)
			mustBe(t, r, part, png)
			if w := strings.Join(r.Warnings, "|"); !strings.Contains(w, "stored as sent") || r.Ext != ".png" {
				t.Errorf("%s, warnings %q", r.Ext, r.Warnings)
			}
			if part.mark.ETag != `"v1"` {
				t.Errorf("marked %+v: plain bytes can be gone on with", part.mark)
			}
		})
	}
}

func TestCase_B1_ChunksOfAnUploadAreTakenApart(t *testing.T) {
	png := pixelsPNG(500, 500)
	var body bytes.Buffer
	for b := range slices.Chunk(png, 300) {
		fmt.Fprintf(&body, "%x;chunk-signature=%064x\r\n%s\r\n", len(b), 1, b)
	}
	body.WriteString("0;chunk-signature=00\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n\r\n")
	part := &memPart{}
	r := fetched(t, newClient(t, Config{}), serve(t, sendAs("aws-chunked", body.Bytes())), part)
	mustBe(t, r, part, png)
}

// An encoded answer to a ranged request may be a range of the encoded object, or the whole
// of it under the plain one's Content-Range: it is asked for once more, without Range.
func TestCase_B1_AnEncodedRangeIsAskedForWhole(t *testing.T) {
	png := picture(700_000, 5)
	packed := pack(png, "gzip")
	for name, contentRange := range map[string]string{
		"of the encoded object": fmt.Sprintf("bytes 0-%d/%d", len(packed)-1, len(packed)),
		"a piece":               fmt.Sprintf("bytes 0-%d/%d", len(packed)-1, 2*len(packed)),
	} {
		t.Run(name, func(t *testing.T) {
			var a asking
			part := &memPart{}
			h := a.record(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Header().Set("ETag", `"v1"`)
				if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", contentRange)
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(packed)
			})
			mustBe(t, fetched(t, newClient(t, Config{Connections: 8}), serve(t, h), part), part, png)
			a.want(t, "bytes=0-", "")
		})
	}
}

func TestCase_B1_ABodyThatUnpacksWithoutEndIsBounded(t *testing.T) {
	zeros := make([]byte, 8<<20)
	for name, packing := range map[string][]string{"gzip": {"gzip"}, "br": {"br"}, "zstd": {"zstd"}, "twice": {"gzip", "zstd"}} {
		t.Run(name, func(t *testing.T) {
			bomb := pack(slices.Concat(pixelsPNG(8, 8), zeros), packing...)
			url := serve(t, sendAs(strings.Join(packing, ","), bomb))
			part := &memPart{}
			f := failed(t, newClient(t, Config{MaxSize: 1 << 20}), url, part, Rule)
			if len(part.data) > 2<<20 || !strings.Contains(f.Error(), "download.max_size") {
				t.Errorf("%d bytes, %v", len(part.data), f)
			}
			full := &memPart{reserveErr: run.ErrNoRoom}
			failed(t, newClient(t, Config{}), url, full, NoRoom)
			if len(full.data) != 0 {
				t.Errorf("%d bytes without space for them", len(full.data))
			}
			spaces := pack(bytes.Repeat([]byte(" "), 8<<20), packing...)
			text := &memPart{}
			failed(t, newClient(t, Config{}), serve(t, sendAs("", spaces)), text, NotMedia)
			if len(text.data) > 2<<20 {
				t.Errorf("%d bytes of a page were decoded", len(text.data))
			}
		})
	}
}

func TestCase_B1_AnEncodedBodyThatBreaksOffIsTriedAgain(t *testing.T) {
	png := picture(700_000, 6)
	packed := pack(png, "gzip")
	for name, h := range map[string]http.HandlerFunc{
		"under a length":         cut(len(packed)/2, sendAs("gzip", packed)),
		"under a length, unsaid": cut(len(packed)/2, sendAs("", packed)),
		"at the connection's end": func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(buf, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
			_, _ = buf.Write(packed[:len(packed)/2])
			buf.Flush()
			conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			part := &memPart{}
			failed(t, newClient(t, Config{}), serve(t, h), part, Network)
			mustBe(t, fetched(t, newClient(t, Config{}), serve(t, content(`"v1"`, png)), part), part, png)
		})
	}
}

// What is encoded without a word shows in the part only: the object is asked for again, and
// over one connection however large it is.
func TestCase_B1_AnEncodedObjectIsNotFetchedInParallel(t *testing.T) {
	png := picture(10<<20, 7)
	packed := pack(png, "zstd")
	var requests, encoded atomic.Int32
	part := &memPart{}
	r := fetched(t, newClient(t, Config{Connections: 8}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Range") == "" {
			encoded.Add(1)
		}
		content(`"v1"`, packed)(w, r)
	}), part)
	mustBe(t, r, part, png)
	if requests.Load() != 2 || encoded.Load() != 1 {
		t.Errorf("%d requests, %d without Range", requests.Load(), encoded.Load())
	}
}

// Digests and lengths are of the bytes that were sent.
func TestCase_B1_DigestsOfAnEncodedBodyAreNotHeldAgainstWhatIsInside(t *testing.T) {
	png := pixelsPNG(60, 60)
	for _, packing := range []string{"gzip", "zstd", "br"} {
		packed := pack(png, packing)
		for _, header := range []string{packing, ""} {
			for name, d := range digests(packed) {
				part := &memPart{}
				mustBe(t, fetched(t, newClient(t, Config{}), serve(t, with(d[0], d[1], sendAs(header, packed))), part), part, png)
				if part.mark.Total >= 0 {
					t.Errorf("%s: marked %+v", name, part.mark)
				}
			}
		}
	}
}

func TestCase_B1_AWordIsNoAssetHoweverShortAndPacked(t *testing.T) {
	for _, word := range []string{"no", "[]", "{}", "404", "gone", "error", "denied", "expired"} {
		for name := range packers {
			for _, header := range said(name) {
				failed(t, newClient(t, Config{}), serve(t, sendAs(header, pack([]byte(word), name))), &memPart{}, NotMedia)
			}
		}
	}
}

func TestCase_B5_TextWithNULsAndZerosAreNoAsset(t *testing.T) {
	page := "<html><head><title>Access Denied</title></head><body>no such object</body></html>"
	for name, body := range map[string]string{
		"before it": "\x00" + page, "in it": page[:30] + strings.Repeat("\x00", 10) + page[30:], "behind it": page + strings.Repeat("\x00", 5000),
		"word": "Error\x00\x00", "JSON": "\x00\x00{\"error\":\"gone\"}\x00", "zero": "\x00", "zeros": strings.Repeat("\x00", 4711), "many zeros": strings.Repeat("\x00", 300_000),
	} {
		for _, contentType := range []string{"image/png", "application/octet-stream"} {
			if f := failed(t, newClient(t, Config{}), serve(t, serveBytes(contentType, []byte(body))), &memPart{}, NotMedia); !strings.Contains(f.Error(), "zeros") && !strings.Contains(f.Error(), "NULs") {
				t.Errorf("%s: %v", name, f)
			}
		}
	}
	for name, body := range map[string][]byte{
		"zeros before what is something": append(make([]byte, 5000), 0xff, 0xfb, 0x90, 0x41),
		"numbers":                        {0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0xff, 0xfe, 0, 0, 7, 0, 9, 0, 0, 1, 1, 2},
	} {
		part := &memPart{}
		fetched(t, newClient(t, Config{}), serve(t, serveBytes("image/png", body)), part)
		if !slices.Equal(part.data, body) {
			t.Errorf("%s: %d bytes", name, len(part.data))
		}
	}
}

func TestCase_B1_LayersWithoutASignatureAreFoundUnderEachOther(t *testing.T) {
	c := newClient(t, Config{})
	page, png := []byte("<html><body>"+strings.Repeat("not here, not now, ", 40)+"</body></html>"), pixelsPNG(8, 8)
	for outer := range packers {
		for inner := range packers {
			failed(t, c, serve(t, sendAs("", pack(page, inner, outer))), &memPart{}, NotMedia)
			failed(t, c, serve(t, sendAs(strings.TrimPrefix(outer, "raw "), pack(page, inner, outer))), &memPart{}, NotMedia)
			part := &memPart{}
			mustBe(t, fetched(t, c, serve(t, sendAs("", pack(png, inner, outer))), part), part, png)
		}
	}
}
