package simulator

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// encoders are the encodings that ContentEncoded knows. "raw deflate" is what some servers call
// deflate.
var encoders = map[string]func(io.Writer) io.WriteCloser{
	"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	"raw deflate": func(w io.Writer) io.WriteCloser {
		z, _ := flate.NewWriter(w, flate.DefaultCompression) // the level is valid
		return z
	},
	"br": func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, brotli.BestSpeed) },
	"zstd": func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // the options are valid
		return z
	},
}

// ContentEncoded sends the right answer whole and encoded, asked or not, first in the first of the
// encodings: gzip, deflate, raw deflate, br, zstd. All of it is in memory then. With an
// empty Content-Encoding (see Fault.With) it comes without a word.
func ContentEncoded(encodings ...string) Fault {
	return spoil("encoded "+strings.Join(encodings, ", "), func(x *exchange) bool {
		if x.status != http.StatusOK && x.status != http.StatusPartialContent {
			return false
		}
		whole := io.NewSectionReader(x.body, 0, x.body.size)
		contentType := x.header.Get("Content-Type")
		x.say(http.StatusOK, contentType, encode(whole, encodings))
		x.header.Set("Content-Encoding", contentEncoding(encodings))
		return true
	})
}

// EncodedPage answers 200 with an HTML page that is encoded so, as ContentEncoded does, under the
// right answer's content type.
func EncodedPage(encodings ...string) Fault {
	return replace("encoded page "+strings.Join(encodings, ", "), func(x *exchange) {
		contentType := x.header.Get("Content-Type")
		x.say(http.StatusOK, contentType, encode(strings.NewReader(page("Please wait", "Checking your browser.")), encodings))
		x.header.Set("Content-Encoding", contentEncoding(encodings))
	})
}

// WrongEncoding sends the right answer as it is, under that Content-Encoding: S3 keeps
// aws-chunked, and any word that an upload had.
func WrongEncoding(word string) Fault {
	return spoil("wrong encoding "+word, func(x *exchange) bool {
		x.header.Set("Content-Encoding", word)
		return true
	})
}

func contentEncoding(encodings []string) string {
	return strings.ReplaceAll(strings.Join(encodings, ", "), "raw deflate", "deflate")
}

// encode panics where there is no such encoding: it is a mistake of the test.
func encode(r io.Reader, encodings []string) string {
	for _, name := range encodings {
		var b bytes.Buffer
		w := encoders[name](&b)
		_, _ = io.Copy(w, r) // neither memory nor content fails
		_ = w.Close()
		r = &b
	}
	all, _ := io.ReadAll(r)
	return string(all)
}

// Bytes lets the object be these bytes under that content type, for formats and brands that
// the simulator does not make.
func Bytes(contentType, b string) AssetOption {
	return assetOption(func(a *asset) { a.format, a.bytes = Format(contentType), &b })
}

// CutAtOrigin lets the object end after n bytes: it was never written to its end, and its
// length and its ETag are those of what there is.
func CutAtOrigin(n int64) AssetOption { return assetOption(func(a *asset) { a.end = n }) }

// Unfinished lets the object end after n bytes while the fault strikes, as one does that is
// still being written.
func Unfinished(n int64) Fault {
	return bend(numbered("unfinished", n), func(x *exchange) bool {
		if n >= x.object.size {
			return false
		}
		c := x.object.first(n)
		x.object = &version{content: c, etag: strings.TrimSuffix(x.object.etag, `"`) + `-unfinished"`, hash: sync.OnceValue(c.sum)}
		x.etag = x.object.etag
		return true
	})
}

// first is the first n bytes.
func (c content) first(n int64) content {
	short := content{size: n}
	for _, p := range c.pieces {
		if p.at >= n {
			break
		}
		p.end = min(p.end, n)
		short.pieces = append(short.pieces, p)
	}
	return short
}
