package transfer

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func base64SHA256(b []byte) string {
	s := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(s[:])
}

// digests gives every digest field that is read, right for b.
func digests(b []byte) map[string][2]string {
	b64 := base64.StdEncoding.EncodeToString
	long := sha512.Sum512(b)
	short := md5.Sum(b)
	crc := binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return map[string][2]string{
		"repr, sha-256":    {"Repr-Digest", "sha-256=:" + base64SHA256(b) + ":"},
		"repr, both":       {"Repr-Digest", "md5=:AAAA:, sha-512=:" + b64(long[:]) + ":;x=1, sha-256=:" + base64SHA256(b) + ":"},
		"content, sha-512": {"Content-Digest", "sha-512=:" + b64(long[:]) + ":"},
		"Content-MD5":      {"Content-MD5", b64(short[:])},
		"google, md5":      {"X-Goog-Hash", "md5=" + b64(short[:])},
		"google, crc":      {"X-Goog-Hash", "crc32c=" + b64(crc)},
	}
}

// with adds a header field to what h answers.
func with(field, value string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add(field, value)
		h(w, r)
	}
}

func TestAnnouncedDigestIsVerified(t *testing.T) { // N17
	for _, n := range []int{1000, big} {
		body, wrong := picture(n, 7), picture(n, 8)
		h := content("", body)
		for name, d := range digests(body) {
			bad := digests(wrong)[name]
			url := serve(t, each(with(bad[0], bad[1], h), with(bad[0], bad[1], plain(h)), with(d[0], d[1], h)))
			c := newClient(t, Config{})
			part := &memPart{}
			for range 2 {
				f := failed(t, c, url, part, Network)
				if !strings.Contains(f.Error(), "announced") || len(part.data) != 0 {
					t.Errorf("%s: %v, %d bytes left", name, f, len(part.data))
				}
			}
			mustBe(t, fetched(t, c, url, part), part, body)
		}
	}
}

func TestMismatchNamesBothValues(t *testing.T) {
	body, wrong := picture(1000, 7), picture(1000, 8)
	d := digests(wrong)["repr, sha-256"]
	f := failed(t, newClient(t, Config{}), serve(t, with(d[0], d[1], content("", body))), &memPart{}, Network)
	if !strings.Contains(f.Error(), sum(body)) || !strings.Contains(f.Error(), sum(wrong)) {
		t.Error(f)
	}
}

func TestWrongDigestIsNotForgottenByAResume(t *testing.T) {
	body, wrong := picture(big, 7), picture(big, 8)
	d := digests(wrong)["repr, sha-256"]
	h := with(d[0], d[1], content(`"v1"`, body))
	url := serve(t, each(cut(300_000, h), h, content(`"v1"`, body)))
	c := newClient(t, Config{})
	part := &memPart{}
	failed(t, c, url, part, Network)
	failed(t, c, url, part, Network) // resumed, whole, and wrong
	if len(part.data) != 0 || part.mark.ETag != "" {
		t.Fatalf("%d bytes are left under %+v", len(part.data), part.mark)
	}
	mustBe(t, fetched(t, c, url, part), part, body)
}

func TestDigestOfOneMessageDoesNotCountForAResumedPart(t *testing.T) {
	body := picture(big, 7)
	rest := body[300_000:]
	c := newClient(t, Config{})
	for _, name := range []string{"content, sha-512", "Content-MD5"} {
		d := digests(rest)[name] // right, for what this answer carries
		part := &memPart{data: slices.Clone(body[:300_000]), mark: run.PartMark{ETag: `"v1"`, Total: int64(len(body))}}
		mustBe(t, fetched(t, c, serve(t, with(d[0], d[1], content(`"v1"`, body))), part), part, body)
	}
}

func TestDigestOfAPieceDoesNotCountForTheWhole(t *testing.T) {
	body := picture(3<<20, 7)
	for _, name := range []string{"content, sha-512", "Content-MD5"} {
		h := pieces(2<<20, `"v1"`, body)
		part := &memPart{}
		url := serve(t, each(with(digests(body[:2<<20])[name][0], digests(body[:2<<20])[name][1], h), h))
		mustBe(t, fetched(t, newClient(t, Config{}), url, part), part, body)
	}
}

func TestWhatIsNoDigestIsPassedOver(t *testing.T) {
	body := picture(1000, 7)
	c := newClient(t, Config{})
	for _, d := range [][2]string{
		{"Repr-Digest", "sha-256=:AAAA:"},
		{"Repr-Digest", "sha-256=" + base64SHA256([]byte("x"))},
		{"Repr-Digest", "sha-1=:AAAAAAAAAAAAAAAAAAAAAAAAAAA=:, md5=:AAAA:"},
		{"Repr-Digest", "sha-256=:not base64!:"},
		{"Repr-Digest", ",,=;::,sha-256"},
		{"Content-MD5", "d41d8cd98f00b204e9800998ecf8427e"},
		{"X-Goog-Hash", "sha1=AAAA, md5"},
	} {
		part := &memPart{}
		mustBe(t, fetched(t, c, serve(t, with(d[0], d[1], content("", body))), part), part, body)
	}
}

func TestDigestOfAnEncodedBodyIsPassedOver(t *testing.T) { // P3.13
	body := picture(1000, 7)
	d := digests([]byte("the unpacked object"))["google, md5"]
	part := &memPart{}
	h := with("Content-Encoding", "br", with(d[0], d[1], content("", body)))
	mustBe(t, fetched(t, newClient(t, Config{}), serve(t, h), part), part, body)
}

func FuzzDigestFields(f *testing.F) {
	for _, d := range digests([]byte("x")) {
		f.Add(d[0], d[1])
	}
	f.Fuzz(func(t *testing.T, field, value string) {
		s := newSums(http.Header{http.CanonicalHeaderKey(field): {value}}, true)
		s.add([]byte("x"))
		_ = fmt.Sprint(s.check())
		for _, w := range s.wants {
			if len(w.sum) != s.hashes[w.algo].Size() {
				t.Fatalf("%q: a digest of %d bytes for %s", value, len(w.sum), w.algo)
			}
		}
	})
}
