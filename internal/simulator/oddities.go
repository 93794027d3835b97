package simulator

import (
	"bytes"
	"crypto/md5" //nolint:gosec // announced by servers, not relied on
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// Servers that serve the object, but only where they are asked in the way they know,
// or that say of it what is not so.

// RefuseRange answers every request that has a Range with that status.
func RefuseRange(code int) Fault { return refuseWith("refuse range", "Range", code) }

// RefuseResume answers every request that has an If-Range with that status.
func RefuseResume(code int) Fault { return refuseWith("refuse resume", "If-Range", code) }

func refuseWith(name, field string, code int) Fault {
	return spoil(numbered(name, int64(code)), func(x *exchange) bool {
		if x.r.Header.Get(field) == "" {
			return false
		}
		x.refuse(code, name)
		x.replaced = true
		return true
	})
}

// RefuseAgent answers 403 to every User-Agent that begins so.
func RefuseAgent(prefix string) Fault {
	return spoil("refuse agent "+prefix, func(x *exchange) bool {
		if !strings.HasPrefix(x.r.UserAgent(), prefix) {
			return false
		}
		x.refuse(http.StatusForbidden, "user agent")
		x.replaced = true
		return true
	})
}

// gateCookie is the cookie that CookieRedirect asks for.
const gateCookie = "gate"

// CookieRedirect redirects a request without its cookie to the same URL and sets the
// cookie there.
func CookieRedirect() Fault {
	return aside("cookie redirect", http.StatusFound, func(x *exchange) string {
		x.header.Set("Set-Cookie", gateCookie+"="+x.gate()+"; Path=/; HttpOnly")
		return x.r.URL.RequestURI()
	}).harmless().unless(func(x *exchange) bool {
		c, err := x.r.Cookie(gateCookie)
		return err == nil && c.Value == x.gate()
	})
}

// gate is the cookie's value for the asset.
func (x *exchange) gate() string { return fmt.Sprintf("%016x", mix(x.asset.seed)) }

// unless spares the requests of which spared is true.
func (f Fault) unless(spared func(*exchange) bool) Fault {
	apply := f.apply
	f.apply = func(x *exchange) bool { return !spared(x) && apply(x) }
	return f
}

// LengthTwice gives the Content-Length as a list of two equal values (RFC 9110,
// section 8.6).
func LengthTwice() Fault {
	return spoil("length twice", func(x *exchange) bool {
		x.wire.twice = true
		return true
	})
}

// Transcoded serves the object as Google Cloud Storage does where it unpacks a
// stored gzip (decompressive transcoding): whole, in chunks, with the hashes and the
// size of what is stored.
func Transcoded() Fault {
	return spoil("transcoded", func(x *exchange) bool {
		if !x.genuine {
			return false
		}
		stored := pack(io.NewSectionReader(x.object, 0, x.object.size))
		x.off, x.n, x.status = 0, x.object.size, http.StatusOK
		for _, name := range []string{"Content-Range", "Accept-Ranges", "ETag"} {
			x.header.Del(name)
		}
		x.header.Set("X-Goog-Stored-Content-Encoding", "gzip")
		x.header.Set("X-Goog-Stored-Content-Length", strconv.Itoa(len(stored)))
		x.header["X-Goog-Hash"] = []string{
			"crc32c=" + announced(newCRC32C(), strings.NewReader(stored), 0),
			"md5=" + announced(md5.New(), strings.NewReader(stored), 0), //nolint:gosec // as above
		}
		x.header.Set("Warning", `214 UploadServer "gunzipped"`)
		x.header.Set("X-GUploader-Response-Body-Transformations", "gunzipped")
		x.wire.framing = chunked
		return true
	})
}

// WrongHash announces a hash that is not the object's in the field of that name:
// Content-MD5, Content-Digest, Repr-Digest or X-Goog-Hash. The bytes are right.
func WrongHash(field string) Fault {
	return spoil("wrong hash in "+field, func(x *exchange) bool {
		if !x.genuine {
			return false
		}
		whole := io.NewSectionReader(x.object, 0, x.object.size)
		switch field {
		case "Content-MD5":
			x.header.Set(field, announced(md5.New(), whole, 1)) //nolint:gosec // as above
		case "X-Goog-Hash":
			x.header.Set(field, "crc32c="+announced(newCRC32C(), whole, 1))
		default:
			x.header.Set(field, "sha-256=:"+announced(sha256.New(), whole, 1)+":")
		}
		return true
	})
}

// announced is the hash in base64, with the bits of flip turned in its first byte.
func announced(h hash.Hash, r io.Reader, flip byte) string {
	_, _ = io.Copy(h, r) // neither side fails
	sum := h.Sum(nil)
	sum[0] ^= flip
	return base64.StdEncoding.EncodeToString(sum)
}

func newCRC32C() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// URLForm lists the asset's URL as form makes it of the right one: with blanks
// around it, without its scheme.
func URLForm(form func(url string) string) AssetOption {
	return assetOption(func(a *asset) { a.urlForm = form })
}

// Inline lists the asset as a data URL (RFC 2397) that holds the object.
func Inline() AssetOption { return assetOption(func(a *asset) { a.inline = true }) }

// dataURL is the object as a data URL.
func (a *asset) dataURL() string {
	var b bytes.Buffer
	b.WriteString("data:" + string(a.format) + ";base64,")
	w := base64.NewEncoder(base64.StdEncoding, &b)
	_, _ = io.Copy(w, io.NewSectionReader(a.now, 0, a.now.size)) // neither memory nor content fails
	_ = w.Close()
	return b.String()
}

// Oddities adds runs of one asset each, for servers that have to be asked in another
// way or say of the object what is not so: in the end all is stored as Expected says,
// and Unfired lists nothing.
func Oddities(s *Sim) ([]run.ID, error) {
	c := &scene{sim: s, name: "oddities"}
	for _, met := range oddities() {
		c.add(Image(c.id(), 768*kib, met...)) // large enough to be resumed
	}
	return c.ids, c.err
}

func oddities() [][]AssetOption {
	half := Cut(400 * kib).Times(1)
	return [][]AssetOption{
		{RefuseRange(http.StatusBadRequest)},
		{RefuseRange(http.StatusNotFound)},
		{RefuseRange(http.StatusInternalServerError)},
		{RefuseRange(http.StatusNotImplemented)},
		{half, RefuseResume(http.StatusBadRequest)},
		{half, RefuseResume(http.StatusPreconditionFailed)},
		{half, RefuseResume(http.StatusInternalServerError)},
		{Transcoded()},
		{WrongHash("Content-MD5")},
		{WrongHash("Content-Digest")},
		{WrongHash("Repr-Digest")},
		{WrongHash("X-Goog-Hash")},
		{CookieRedirect()},
		{LengthTwice()},
		{Inline()},
		{URLForm(func(url string) string { return " \t" + url + "\r\n" })},
	}
}
