package transfer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// maxLayers is how many encodings of one body are decoded.
const maxLayers = 3

// zstdWindow is the largest window, in bytes, that a zstd frame may ask for (RFC
// 9659, section 3). The others' are bounded by their formats: 32 KiB for deflate,
// 900 kB for bzip2, 16 MiB for brotli.
const zstdWindow = 8 << 20

// coding is a content coding (RFC 9110, section 8.4.1), or a way to compress files
// that servers use as one.
type coding struct {
	name  string
	magic []byte // that every body begins with; nil: none, the bytes are tried
	tail  bool   // bytes may follow its end
	open  func(io.Reader) (io.ReadCloser, error)
}

// The codings that can be decoded. Those without a magic are in the order in which
// they are tried: a zlib header leaves little to chance, brotli less than raw
// deflate.
var (
	signedCodings = []coding{
		{name: "gzip", magic: []byte{0x1f, 0x8b, 8}, open: func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
		{name: "zstd", magic: []byte{0x28, 0xb5, 0x2f, 0xfd}, open: openZstd},
		{name: "bzip2", magic: []byte("BZh"), open: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	}
	unsignedCodings = []coding{
		{name: "deflate", open: zlib.NewReader}, // RFC 1950, and below RFC 1951 alone, as some servers have it
		{name: "br", open: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(brotli.NewReader(r)), nil }},
		{name: "deflate", open: func(r io.Reader) (io.ReadCloser, error) { return flate.NewReader(r), nil }},
	}
	// awsChunked is how S3 takes uploads. Objects often keep the word as their
	// Content-Encoding, over plain bytes.
	awsChunked = coding{name: "aws-chunked", tail: true, open: func(r io.Reader) (io.ReadCloser, error) {
		return io.NopCloser(httputil.NewChunkedReader(r)), nil
	}}
)

// sealed are the signatures of compressed bodies that cannot be decoded here.
var sealed = []struct{ name, magic string }{
	{"xz", "\xfd7zXZ\x00"},
	{"lzip", "LZIP"},
	{"lz4", "\x04\x22\x4d\x18"},
	{"compress", "\x1f\x9d"},
	{"snappy", "\xff\x06\x00\x00sNaPpY"},
	{"bzip2", "BZh"}, // also gzip and zstd, where what follows is not theirs
	{"gzip", "\x1f\x8b"},
	{"zstd", "\x28\xb5\x2f\xfd"},
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// otherNames are names that are not registered and found all the same.
var otherNames = map[string]string{"brotli": "br", "zlib": "deflate", "zstandard": "zstd", "zst": "zstd", "bzip": "bzip2", "bz2": "bzip2", "none": "identity"}

// codings lists the content codings that an answer names, in the order they were
// applied, in lower case, without identity and without the x- of old names.
func codings(h http.Header) []string {
	var names []string
	for _, name := range list(h, "Content-Encoding") {
		name, _, _ = strings.Cut(strings.ToLower(name), ";")
		name = strings.TrimPrefix(strings.Trim(name, " \t\""), "x-")
		if other, ok := otherNames[name]; ok {
			name = other
		}
		if name != "" && name != "identity" {
			names = append(names, name)
		}
	}
	return names
}

// outermost finds the outermost encoding of a body that starts with head; said is
// what its header names. The bytes decide: a name without its bytes is nothing, and
// bytes that have a signature need no name. What has none is tried, and without a
// name it must lead to something that is known.
func outermost(head []byte, said []string) (coding, bool) {
	for _, c := range signedCodings {
		if bytes.HasPrefix(head, c.magic) && (c.name != "bzip2" || bzip2Block(head)) {
			return c, true
		}
	}
	if len(head) >= 8 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}) && head[0]>>4 == 5 {
		return signedCodings[1], true // zstd that begins with a frame to be skipped (RFC 8878, section 3.1.2)
	}
	if len(said) > 0 && said[len(said)-1] == awsChunked.name && chunkHead(head) {
		return awsChunked, true
	}
	plain := identify(head, nil, 0)
	if plain.sure {
		return coding{}, false
	}
	for _, c := range unsignedCodings {
		inner, ok := c.try(head)
		if !ok {
			continue
		}
		if slices.Contains(said, c.name) || !plain.text && (known(inner, maxLayers-1) || short(head, inner)) {
			return c, true
		}
	}
	return coding{}, false
}

// bzip2Block reports whether a block or the end of a stream follows the header.
func bzip2Block(head []byte) bool {
	return len(head) >= 10 && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// chunkHead reports whether a chunk's size and signature come first.
func chunkHead(head []byte) bool {
	line, _, found := bytes.Cut(head[:min(len(head), 128)], []byte("\r\n"))
	size, _, _ := bytes.Cut(line, []byte(";"))
	return found && len(size) > 0 && len(bytes.Trim(size, "0123456789abcdefABCDEF")) == 0
}

// known reports whether decoded bytes are text or of a format with a signature, or
// decode to that in up to so many further layers: what is no encoding at all does not.
func known(inner []byte, layers int) bool {
	if len(inner) < 8 {
		return false
	}
	for _, c := range signedCodings {
		if bytes.HasPrefix(inner, c.magic) {
			return true
		}
	}
	if m := identify(inner, nil, 0); m.sure || m.text {
		return true
	}
	return layers > 0 && slices.ContainsFunc(unsignedCodings, func(c coding) bool {
		next, ok := c.try(inner)
		return ok && known(next, layers-1)
	})
}

// short reports whether all of a body that is too little for any media decodes to a word.
func short(body, inner []byte) bool {
	return len(body) < leastMedia && len(bytes.TrimSpace(inner)) > 0 && printable(inner) && utf8.Valid(inner)
}

// try decodes what a body starts with. False: it is not of this coding.
func (c coding) try(head []byte) (inner []byte, ok bool) {
	defer func() {
		if recover() != nil { // a decoder meets hostile bytes
			inner, ok = nil, false
		}
	}()
	from := bufio.NewReader(bytes.NewReader(head))
	r, err := c.open(from)
	if err != nil {
		return nil, false
	}
	defer r.Close()
	inner = make([]byte, headSize)
	for n := 0; ; {
		m, err := r.Read(inner[n:])
		n += m
		switch {
		case n == len(inner):
			return inner, true
		case err == io.EOF:
			_, err := from.ReadByte() // what follows its end is not of it
			return inner[:n], n > 0 && err == io.EOF
		case errors.Is(err, io.ErrUnexpectedEOF): // the head ends in mid-stream
			return inner[:n], n > 0
		case err != nil:
			return nil, false
		}
	}
}
