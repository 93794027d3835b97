package transfer

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
)

// sums hashes a part from its first byte on. Bytes that are written where it
// stands are hashed as they pass; others are read back from the part. So a part
// can be gone on with at once, and what was there before is hashed on the way.
type sums struct {
	at     int64 // bytes hashed
	hashes map[string]hash.Hash
	wants  []want
}

// want is a digest that the server announced.
type want struct {
	field string // that announced it
	algo  string
	sum   []byte
}

// newSums hashes with SHA-256, and with whatever else the answer's digest fields
// need: Repr-Digest and x-goog-hash tell of the whole object; Content-Digest (RFC
// 9530) and Content-MD5 of what this one message carries, so they count where
// that is everything. All are of the bytes as sent, so a Content-Encoding that
// was not asked for leaves it open what they cover, and they are passed over; so are
// those of another form of the object than the one that is sent.
func newSums(h http.Header, everything bool) *sums {
	s := &sums{hashes: map[string]hash.Hash{"sha-256": sha256.New()}}
	if len(codings(h)) > 0 || transformed(h) {
		return s
	}
	s.dictionary(h, "Repr-Digest")
	for _, item := range list(h, "X-Goog-Hash") {
		algo, value, _ := strings.Cut(item, "=")
		if algo == "md5" || algo == "crc32c" {
			s.expect("x-goog-hash", algo, value)
		}
	}
	if everything {
		s.dictionary(h, "Content-Digest")
		s.expect("Content-MD5", "md5", h.Get("Content-MD5"))
	}
	return s
}

// dictionary reads `sha-256=:<base64>:, ...` (RFC 9530, section 2; RFC 8941).
// Algorithms it calls insecure are passed over.
func (s *sums) dictionary(h http.Header, field string) {
	for _, item := range list(h, field) {
		item, _, _ = strings.Cut(item, ";")
		algo, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		inner, opened := strings.CutPrefix(value, ":")
		inner, closed := strings.CutSuffix(inner, ":")
		if opened && closed && (algo == "sha-256" || algo == "sha-512") {
			s.expect(field, algo, inner)
		}
	}
}

// list gives the comma-separated members of all fields of that name.
func list(h http.Header, field string) []string {
	var items []string
	for _, value := range h.Values(field) {
		for item := range strings.SplitSeq(value, ",") {
			items = append(items, strings.TrimSpace(item))
		}
	}
	return items
}

// expect notes a digest; what is no digest of that algorithm is passed over.
func (s *sums) expect(field, algo, value string) {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil {
		return
	}
	h := s.hashes[algo]
	if h == nil {
		switch algo {
		case "sha-512":
			h = sha512.New()
		case "md5":
			h = md5.New()
		case "crc32c":
			h = crc32.New(crc32.MakeTable(crc32.Castagnoli))
		}
	}
	if len(sum) != h.Size() {
		return
	}
	s.hashes[algo] = h
	s.wants = append(s.wants, want{field, algo, sum})
}

func (s *sums) add(p []byte) {
	for _, h := range s.hashes {
		h.Write(p)
	}
	s.at += int64(len(p))
}

// catchUp hashes up to n bytes further, but not past end, from the part.
func (s *sums) catchUp(ctx context.Context, part io.ReaderAt, end, n int64, buf []byte) error {
	for end = min(end, s.at+n); s.at < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), end-s.at)]
		got, err := part.ReadAt(p, s.at)
		s.add(p[:got])
		if got < len(p) {
			return fmt.Errorf("the part cannot be read back at byte %d: %w", s.at, err)
		}
	}
	return nil
}

// sha256 is the hex digest of what was hashed.
func (s *sums) sha256() string { return hex.EncodeToString(s.hashes["sha-256"].Sum(nil)) }

// check holds the bytes against what the server announced.
func (s *sums) check() error {
	for _, w := range s.wants {
		if got := s.hashes[w.algo].Sum(nil); !bytes.Equal(got, w.sum) {
			return fmt.Errorf("%s announced %s %x, the bytes that came have %x", w.field, w.algo, w.sum, got)
		}
	}
	return nil
}

// transformed reports whether an answer says that its body is not what the server
// stores: Google Cloud Storage unpacks what is stored as gzip and announces the
// hashes of the gzip (https://cloud.google.com/storage/docs/transcoding), and proxies
// change bodies (RFC 7234, section 5.5.7: warning 214).
func transformed(h http.Header) bool {
	for _, warning := range list(h, "Warning") {
		if code, _, _ := strings.Cut(warning, " "); code == "214" {
			return true
		}
	}
	stored := strings.ToLower(strings.TrimSpace(h.Get("X-Goog-Stored-Content-Encoding")))
	return stored != "" && stored != "identity" || strings.TrimSpace(h.Get("X-GUploader-Response-Body-Transformations")) != ""
}
