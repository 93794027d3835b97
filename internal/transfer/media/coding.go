package media

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http/httputil"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// MaxLayers is how many encodings of one body are decoded at most.
const MaxLayers = 3

// zstdWindow is the largest window, in bytes, that a zstd frame may ask for (RFC
// 9659, section 3). The others' are bounded by their formats: 32 KiB for deflate,
// 900 kB for bzip2, 16 MiB for brotli.
const zstdWindow = 8 << 20

// Coding is a content coding (RFC 9110, section 8.4.1), or a way to compress files that
// servers use as one.
type Coding struct {
	Name    string
	Trailer bool // bytes may follow its end
	Open    func(io.Reader) (io.ReadCloser, error)

	magic []byte // that every body begins with; nil: none, the bytes are tried
}

// The codings that can be decoded. Those without a magic are in the order in which
// they are tried: a zlib header leaves little to chance, brotli less than raw
// deflate.
var (
	signedCodings = []Coding{
		{Name: "gzip", magic: []byte{0x1f, 0x8b, 8}, Open: func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
		{Name: "zstd", magic: []byte{0x28, 0xb5, 0x2f, 0xfd}, Open: openZstd},
		{Name: "bzip2", magic: []byte("BZh"), Open: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	}
	unsignedCodings = []Coding{
		{Name: "deflate", Open: zlib.NewReader}, // RFC 1950, and below RFC 1951 alone, as some servers have it
		{Name: "br", Open: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(brotli.NewReader(r)), nil }},
		{Name: "deflate", Open: func(r io.Reader) (io.ReadCloser, error) { return flate.NewReader(r), nil }},
	}
	// awsChunked is how S3 takes uploads. Objects often keep the name as their
	// Content-Encoding, over plain bytes.
	awsChunked = Coding{Name: "aws-chunked", Trailer: true, Open: func(r io.Reader) (io.ReadCloser, error) {
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

// Codings lists the content codings that the values of Content-Encoding fields name, in
// the order they were applied, in lower case, without identity and without the x- of old
// names.
func Codings(values []string) []string {
	var names []string
	for name := range strings.SplitSeq(strings.Join(values, ","), ",") {
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

// Outermost finds the outermost encoding of a body that starts with head; named are the
// codings that its header names (Codings). The bytes decide: a name that the bytes
// contradict is ignored, and bytes that have a signature need no name. A coding without a
// signature is tried, and without a name it must lead to something that is known.
func Outermost(head []byte, named []string) (Coding, bool) {
	for _, c := range signedCodings {
		if bytes.HasPrefix(head, c.magic) && (c.Name != "bzip2" || bzip2Block(head)) {
			return c, true
		}
	}
	if len(head) >= 8 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}) && head[0]>>4 == 5 {
		return signedCodings[1], true // zstd that begins with a frame to be skipped (RFC 8878, section 3.1.2)
	}
	if len(named) > 0 && named[len(named)-1] == awsChunked.Name && chunkHead(head) {
		return awsChunked, true
	}
	plain := sniff(head, nil, 0)
	if plain.Sure {
		return Coding{}, false
	}
	for _, c := range unsignedCodings {
		inner, ok := c.try(head)
		if !ok {
			continue
		}
		if slices.Contains(named, c.Name) || !plain.text && (known(inner, MaxLayers-1) || short(head, inner)) {
			return c, true
		}
	}
	return Coding{}, false
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
	if m := sniff(inner, nil, 0); m.Sure || m.text {
		return true
	}
	return layers > 0 && slices.ContainsFunc(unsignedCodings, func(c Coding) bool {
		next, ok := c.try(inner)
		return ok && known(next, layers-1)
	})
}

// short reports whether all of a body that is too little for any media decodes to a word.
func short(body, inner []byte) bool {
	return len(body) < leastMedia && len(bytes.TrimSpace(inner)) > 0 && printable(inner) && utf8.Valid(inner)
}

// try decodes what a body starts with. False: it is not of this coding.
func (c Coding) try(head []byte) (inner []byte, ok bool) {
	defer func() {
		if recover() != nil { // a decoder meets hostile bytes
			inner, ok = nil, false
		}
	}()
	from := bufio.NewReader(bytes.NewReader(head))
	r, err := c.Open(from)
	if err != nil {
		return nil, false
	}
	defer r.Close()
	inner = make([]byte, HeadSize)
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
