package simulator

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// bend is a fault that changes the rules by which the right answer is made.
func bend(name string, apply func(*exchange) bool) Fault {
	return Fault{name: name, stage: rules, apply: func(x *exchange) bool {
		return x.object != nil && apply(x)
	}}
}

// spoil is a fault that changes the right answer.
func spoil(name string, apply func(*exchange) bool) Fault {
	return Fault{name: name, stage: spoils, apply: apply}
}

// replace is a fault that puts another answer in its place.
func replace(name string, apply func(*exchange)) Fault {
	return Fault{name: name, stage: spoils, deadly: true, apply: func(x *exchange) bool {
		apply(x)
		x.replaced = true
		return true
	}}
}

// Other answers.

// Status answers with that status and a page, or a message at the API.
func Status(code int) Fault {
	return replace(numbered("status", int64(code)), func(x *exchange) { x.refuse(code, "fault") })
}

// Body answers 200 with that body.
func Body(name, contentType, body string) Fault {
	return replace(name, func(x *exchange) { x.say(http.StatusOK, contentType, body) })
}

// HTML answers 200 with an HTML page.
func HTML() Fault { return Body("html", "text/html", page("Please wait", "Checking your browser.")) }

// JSON answers 200 with a JSON error.
func JSON() Fault { return Body("json", "application/json", `{"error":"object is being processed"}`) }

// Empty answers 200 with an empty body.
func Empty() Fault { return Body("empty", "application/octet-stream", "") }

// Huge puts n spaces before the right body, which stays valid JSON if it was.
func Huge(n int64) Fault {
	return spoil(numbered("huge", n), func(x *exchange) bool {
		body := content{}
		body.add(n, again(" "))
		rest := make([]byte, x.n)
		_, _ = x.body.ReadAt(rest, x.off)
		body.addText(string(rest))
		x.body, x.off, x.n, x.genuine = body, 0, body.size, false
		return true
	})
}

// GzipBomb answers 200 with n MiB of spaces, packed.
func GzipBomb(n int) Fault {
	member := pack(strings.NewReader(strings.Repeat(" ", 1<<20)))
	return replace(numbered("gzip bomb", int64(n)), func(x *exchange) {
		x.say(http.StatusOK, "application/json", "")
		x.body = content{}
		x.body.add(int64(n)*int64(len(member)), again(member)) // members may follow each other (RFC 1952, 2.2)
		x.n = x.body.size
		x.header.Set("Content-Encoding", "gzip")
	})
}

func pack(r io.Reader) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.Copy(w, r) // neither memory nor content fails
	_ = w.Close()
	return b.String()
}

// Half ends the body in its middle and says so: half of a JSON text.
func Half() Fault {
	return spoil("half", func(x *exchange) bool {
		x.n /= 2
		x.genuine = false
		return true
	})
}

// Redirects. Their targets carry the token like the URL they stand for.

// Redirect leads over so many further addresses of the CDN to the object.
func Redirect(code, hops int) Fault {
	return aside(numbered(numbered("redirect", int64(code)), int64(hops)), code, func(x *exchange) string {
		return hopPrefix + strconv.Itoa(hops-1) + x.r.URL.RequestURI()
	}).harmless()
}

// RedirectHost leads to the object under another name of its host, such as
// `localhost`.
func RedirectHost(name string) Fault {
	return aside("redirect to "+name, http.StatusFound, func(x *exchange) string {
		scheme, host, _ := strings.Cut(x.sim.cdnURL, "://")
		port := host[strings.LastIndexByte(host, ':')+1:]
		return scheme + "://" + name + ":" + port + hopPrefix + "0" + x.r.URL.RequestURI()
	}).harmless()
}

// RedirectTo leads anywhere.
func RedirectTo(url string) Fault {
	return aside("redirect to "+url, http.StatusFound, func(*exchange) string { return url })
}

// RedirectLoop leads to where the request already is.
func RedirectLoop() Fault {
	return aside("redirect loop", http.StatusFound, func(x *exchange) string { return x.r.URL.RequestURI() })
}

// RedirectNowhere has no Location.
func RedirectNowhere() Fault {
	return aside("redirect nowhere", http.StatusFound, func(*exchange) string { return "" })
}

func aside(name string, code int, to func(*exchange) string) Fault {
	f := replace(name, func(x *exchange) { x.redirect(code, to(x)) })
	apply := f.apply
	f.apply = func(x *exchange) bool { return !x.hop && apply(x) }
	return f
}

func (f Fault) harmless() Fault {
	f.deadly = false
	return f
}

// Changes of the object and of what is said of it.

// Changed puts another object of the same size under the URL, with another ETag,
// each time it strikes.
func Changed() Fault { return ChangedTo(-1) }

// ChangedTo does so with one of that size.
func ChangedTo(size int64) Fault {
	name := "changed"
	if size >= 0 {
		name = numbered(name, size)
	}
	return bend(name, func(x *exchange) bool {
		to := size
		if to < 0 {
			to = x.object.size
		}
		if err := x.asset.become(x.sim, to, len(x.asset.before)+1); err != nil {
			return false
		}
		x.object, x.etag = x.asset.now, x.asset.now.etag
		return true
	})
}

// NoRange serves the whole object whatever range is asked for.
func NoRange() Fault {
	return bend("no range", func(x *exchange) bool {
		x.ranges = false
		return x.r.Header.Get("Range") != ""
	})
}

// IgnoreIfRange serves the range although the object is another one.
func IgnoreIfRange() Fault {
	return bend("ignore if-range", func(x *exchange) bool {
		x.ifRange = false
		return x.r.Header.Get("If-Range") != ""
	})
}

// NoETag gives none.
func NoETag() Fault { return tagged("no etag", func(*exchange) string { return "" }) }

// WeakETag gives a weak one.
func WeakETag() Fault { return tagged("weak etag", func(x *exchange) string { return "W/" + x.etag }) }

// SameETag gives the same one whatever the object becomes.
func SameETag() Fault { return tagged("same etag", func(*exchange) string { return `"the same"` }) }

// NewETag gives another one with each answer, as CDNs do whose nodes disagree.
func NewETag() Fault {
	return tagged("new etag", func(x *exchange) string {
		return fmt.Sprintf(`"%016x"`, seeded(x.asset.seed, strconv.FormatInt(x.sim.log.last, 10)))
	})
}

func tagged(name string, tag func(*exchange) string) Fault {
	return bend(name, func(x *exchange) bool {
		x.etag = tag(x)
		return true
	})
}

// ContentType says that; empty: nothing.
func ContentType(value string) Fault {
	return spoil("content type "+value, func(x *exchange) bool {
		x.setHeader("Content-Type", value)
		return true
	})
}

// Header sets a header of the right answer, such as Age or Date; an empty value
// takes it away.
func Header(name, value string) Fault {
	return spoil("header "+name, func(x *exchange) bool {
		x.setHeader(name, value)
		return true
	})
}

// Digest adds a Repr-Digest (RFC 9530): the object's SHA-256.
func Digest() Fault { return digest("digest", 0) }

// WrongDigest adds one that is not the object's.
func WrongDigest() Fault { return digest("wrong digest", 1) }

func digest(name string, flip byte) Fault {
	return spoil(name, func(x *exchange) bool {
		if !x.genuine {
			return false
		}
		sum, err := hex.DecodeString(x.object.hash())
		if err != nil || len(sum) != sha256.Size {
			return false
		}
		sum[0] ^= flip
		x.header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
		return true
	})
}

// Latency holds the answer back for so long, besides the usual.
func Latency(d time.Duration) Fault {
	return spoil("latency "+d.String(), func(x *exchange) bool {
		x.delay += d
		return true
	})
}

// Slow sends so many bytes at once, and then nothing for so long.
func Slow(bytes int, every time.Duration) Fault {
	return spoil(fmt.Sprintf("slow %d %v", bytes, every), func(x *exchange) bool {
		x.chunk, x.every = min(max(bytes, 1), bufferSize), every
		return true
	})
}
