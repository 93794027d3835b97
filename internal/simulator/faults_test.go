package simulator

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// got is what a client has of an answer.
type got struct {
	*http.Response
	body []byte
	err  error // of the headers or of the body
}

func get(t *testing.T, s *Sim, k run.Key, headers ...string) got {
	t.Helper()
	u, ok := s.URL(k)
	if !ok {
		t.Fatalf("no asset %v", k)
	}
	return getURL(t, u, headers...)
}

func getURL(t *testing.T, u string, headers ...string) got {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	must(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client(t).Do(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return got{resp, body, err}
}

// is reports status, length of the body and whether it ended as it should.
func (g got) is(status, length int, ended error) bool {
	return g.Response != nil && g.StatusCode == status && len(g.body) == length && errors.Is(g.err, ended)
}

const objectSize = 10_000

// TestFaultsOfTheWireReachTheClient asks for an object from byte 1000 on, so for
// 9,000 bytes, and says what a client must see.
func TestFaultsOfTheWireReachTheClient(t *testing.T) {
	cutShort := io.ErrUnexpectedEOF
	s := start(t)
	for i, c := range []struct {
		fault Fault
		holds func(g got) bool
	}{
		{Cut(500), func(g got) bool { return g.is(206, 500, cutShort) && g.ContentLength == 9000 }},
		{Cut(0), func(g got) bool { return g.is(206, 0, cutShort) }},
		{Reset(500), func(g got) bool { return errors.Is(g.err, syscall.ECONNRESET) }},
		{WrongLength(50), func(g got) bool { return g.is(206, 9000, cutShort) && g.ContentLength == 9050 }},
		{WrongLength(-50), func(g got) bool { return g.is(206, 8950, nil) }},
		{Chunked(), func(g got) bool { return g.is(206, 9000, nil) && g.ContentLength == -1 && len(g.TransferEncoding) == 1 }},
		{CloseDelimited(), func(g got) bool { return g.is(206, 9000, nil) && g.ContentLength == -1 && g.TransferEncoding == nil }},
		{BadChunk(500), func(g got) bool { return g.err != nil && len(g.body) == 500 }},
		{RawHeader("Content-Length", "5"), func(g got) bool { return g.Response == nil && g.err != nil }},
		{RawHeader("X-Padding", strings.Repeat("x", 11<<20)), func(g got) bool { return g.Response == nil && g.err != nil }},
		{HTML(), func(g got) bool { return g.is(200, len(g.body), nil) && bytes.Contains(g.body, []byte("<html>")) }},
		{JSON(), func(g got) bool { return g.is(200, len(g.body), nil) && g.body[0] == '{' }},
		{Empty(), func(g got) bool { return g.is(200, 0, nil) && g.ContentLength == 0 }},
		{Status(410), func(g got) bool {
			return g.is(410, len(g.body), nil) && g.Header.Get("ETag") == "" && g.Header.Get("Content-Range") == ""
		}},
		{NoRange(), func(g got) bool { return g.is(200, objectSize, nil) && g.Header.Get("Accept-Ranges") == "" }},
		{NoETag(), func(g got) bool { return g.is(206, 9000, nil) && g.Header.Values("ETag") == nil }},
		{WeakETag(), func(g got) bool { return g.is(206, 9000, nil) && strings.HasPrefix(g.Header.Get("ETag"), `W/"`) }},
		{WrongRange(10), func(g got) bool {
			return g.is(206, 8990, nil) && g.Header.Get("Content-Range") == "bytes 1010-9999/10000"
		}},
		{WrongRange(-10), func(g got) bool {
			return g.is(206, 9010, nil) && g.Header.Get("Content-Range") == "bytes 990-9999/10000"
		}},
		{WrongTotal(5), func(g got) bool {
			return g.is(206, 9000, nil) && g.Header.Get("Content-Range") == "bytes 1000-9999/10005"
		}},
		{ShortRange(100), func(g got) bool {
			return g.is(206, 100, nil) && g.Header.Get("Content-Range") == "bytes 1000-1099/10000"
		}},
		{NoContentRange(), func(g got) bool { return g.is(206, 9000, nil) && g.Header.Get("Content-Range") == "" }},
		{Multipart(), func(g got) bool {
			return g.is(206, len(g.body), nil) && len(g.body) > 9000 && strings.HasPrefix(g.Header.Get("Content-Type"), "multipart/byteranges;") && bytes.Contains(g.body, []byte("Content-Range: bytes 1000-9999/10000\r\n\r\n"))
		}},
		{Unsatisfiable(), func(g got) bool { return g.is(416, len(g.body), nil) }},
		{RangeUnder200(), func(g got) bool { return g.is(200, 10_000, nil) && g.Header.Get("Content-Range") != "" }},
		{ContentType("text/plain"), func(g got) bool { return g.is(206, 9000, nil) && g.Header.Get("Content-Type") == "text/plain" }},
		{ContentType(""), func(g got) bool { return g.is(206, 9000, nil) && g.Header.Values("Content-Type") == nil }},
		{ContentEncoded("gzip"), func(g got) bool {
			return g.StatusCode == 200 && g.Header.Get("Content-Encoding") == "gzip" && g.body[0] == 0x1f
		}},
		{ContentEncoded("zstd").With("Content-Encoding", ""), func(g got) bool {
			return g.is(200, len(g.body), nil) && g.Header.Get("Content-Encoding") == "" && bytes.HasPrefix(g.body, []byte("\x28\xb5\x2f\xfd"))
		}},
		{EncodedPage("gzip", "br"), func(g got) bool {
			return g.is(200, len(g.body), nil) && g.Header.Get("Content-Encoding") == "gzip, br" && !bytes.Contains(g.body, []byte("html"))
		}},
		{WrongEncoding("aws-chunked"), func(g got) bool { return g.is(206, 9000, nil) && g.Header.Get("Content-Encoding") == "aws-chunked" }},
		{Unfinished(5000), func(g got) bool {
			return g.is(206, 4000, nil) && g.Header.Get("Content-Range") == "bytes 1000-4999/5000"
		}},
		{Slow(1000, 1), func(g got) bool { return g.is(206, 9000, nil) }},
		{RedirectLoop(), func(g got) bool { return g.StatusCode == 302 && g.Header.Get("Location") == g.Request.URL.RequestURI() }},
		{RedirectNowhere(), func(g got) bool { return g.StatusCode == 302 && g.Header.Values("Location") == nil }},
	} {
		id := run.ID("wire" + string(rune('a'+i)))
		add(t, s, id, Image("a", objectSize, c.fault.Times(1)))
		k := key(id, run.Images, "a")
		g := get(t, s, k, "Range", "bytes=1000-")
		if !c.holds(g) {
			t.Errorf("%.40v: %d bytes, %v, %+v", c.fault, len(g.body), g.err, g.Response)
		}
		if n := s.Fired(k, c.fault); n != 1 {
			t.Errorf("%.40v fired %d times", c.fault, n)
		}
		if g := get(t, s, k, "Range", "bytes=1000-"); !g.is(206, 9000, nil) {
			t.Errorf("%.40v: the next answer was %v, %d bytes", c.fault, g.err, len(g.body))
		}
	}
	if unfired := s.Unfired(); unfired != nil {
		t.Errorf("never fired: %q", unfired)
	}
}

func TestAFaultThatCannotStrikeIsNotCounted(t *testing.T) {
	s := New()
	faults := []Fault{Cut(1 << 20), Reset(objectSize), ShortRange(1 << 20), NoRange(), IgnoreIfRange(), WrongRange(0), WrongTotal(1), Multipart(), ChangedTo(1), WrongLength(0)}
	opts := make([]AssetOption, 0, len(faults))
	for _, f := range faults {
		opts = append(opts, f)
	}
	add(t, s, "runs1", Image("a", objectSize, opts...))
	k := key("runs1", run.Images, "a")
	if w := ask(s.CDN(), target(t, s, k)); w.Code != 200 || w.Body.Len() != objectSize || w.Header().Get("Content-Range") != "" {
		t.Errorf("%d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	for _, f := range faults {
		if n := s.Fired(k, f); n != 0 {
			t.Errorf("%v fired %d times", f, n)
		}
	}
	if n := len(s.Unfired()); n != len(faults) {
		t.Errorf("%d of %d are told as never fired", n, len(faults))
	}
}

func TestAnObjectThatIsCutOffAtItsOriginIsWhatMustBeStored(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", objectSize, CutAtOrigin(4000)), Image("b", objectSize, Unfinished(4000).Times(2)))
	k := key("runs1", run.Images, "a")
	u := target(t, s, k)
	first, again := ask(s.CDN(), u), ask(s.CDN(), u)
	if first.Code != 200 || first.Body.Len() != 4000 || first.Header().Get("ETag") != again.Header().Get("ETag") || !bytes.Equal(first.Body.Bytes(), again.Body.Bytes()) {
		t.Errorf("%d, %d bytes", first.Code, first.Body.Len())
	}
	if e := s.Expected()[0].Assets[0]; e.Size != 4000 || e.SHA256 != textContent(first.Body.String()).sum() {
		t.Errorf("expected %+v", e)
	}
	u = target(t, s, key("runs1", run.Images, "b"))
	half, half2, all := ask(s.CDN(), u), ask(s.CDN(), u), ask(s.CDN(), u)
	if half.Body.Len() != 4000 || half2.Body.Len() != 4000 || all.Body.Len() != objectSize || half.Header().Get("ETag") == all.Header().Get("ETag") || !bytes.HasPrefix(all.Body.Bytes(), half.Body.Bytes()) {
		t.Errorf("%d, %d, %d bytes", half.Body.Len(), half2.Body.Len(), all.Body.Len())
	}
}

func TestAnObjectOfGivenBytes(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", 0, Bytes("image/avif", "some bytes")))
	w := ask(s.CDN(), target(t, s, key("runs1", run.Images, "a")))
	if w.Body.String() != "some bytes" || w.Header().Get("Content-Type") != "image/avif" {
		t.Errorf("%q, %v", w.Body, w.Header())
	}
	if e := s.Expected()[0].Assets[0]; e.Size != 10 || e.ContentType != "image/avif" {
		t.Errorf("expected %+v", e)
	}
}

func TestAnObjectChangesUnderItsURL(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", objectSize, Changed().After(1).Times(1), ChangedTo(5000).After(3).Times(1)))
	add(t, s, "runs2", Image("a", objectSize, Changed().After(1), SameETag(), IgnoreIfRange()))
	k := key("runs1", run.Images, "a")
	u := target(t, s, k)
	first := ask(s.CDN(), u)
	etag := first.Header().Get("ETag")
	changed := ask(s.CDN(), u, "Range", "bytes=5000-", "If-Range", etag)
	if changed.Code != 200 || changed.Body.Len() != objectSize || changed.Header().Get("ETag") == etag || bytes.Equal(changed.Body.Bytes(), first.Body.Bytes()) {
		t.Errorf("changed: %d, %d bytes, %s", changed.Code, changed.Body.Len(), changed.Header().Get("ETag"))
	}
	if w := ask(s.CDN(), u); w.Header().Get("ETag") != changed.Header().Get("ETag") || !bytes.Equal(w.Body.Bytes(), changed.Body.Bytes()) {
		t.Error("it changed once more")
	}
	if w := ask(s.CDN(), u); w.Body.Len() != 5000 {
		t.Errorf("changed to %d bytes", w.Body.Len())
	}
	e := s.Expected()[0].Assets[0]
	if e.Size != 5000 || len(e.Older) != 2 || e.Older[1] != textContent(first.Body.String()).sum() || e.Older[0] != textContent(changed.Body.String()).sum() {
		t.Errorf("expected %+v", e)
	}

	u = target(t, s, key("runs2", run.Images, "a"))
	one := ask(s.CDN(), u)
	two := ask(s.CDN(), u, "Range", "bytes=9000-", "If-Range", one.Header().Get("ETag"))
	if two.Code != 206 || two.Header().Get("ETag") != one.Header().Get("ETag") || bytes.Equal(two.Body.Bytes(), one.Body.Bytes()[9000:]) {
		t.Errorf("a server without sense: %d, %s", two.Code, two.Header().Get("ETag"))
	}
}

func TestETagsOfNodesThatDisagree(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", objectSize, NewETag()))
	u := target(t, s, key("runs1", run.Images, "a"))
	a, b := ask(s.CDN(), u), ask(s.CDN(), u)
	if a.Header().Get("ETag") == b.Header().Get("ETag") || !bytes.Equal(a.Body.Bytes(), b.Body.Bytes()) {
		t.Errorf("%s and %s", a.Header().Get("ETag"), b.Header().Get("ETag"))
	}
}

func TestDigestsAreOfTheWholeObject(t *testing.T) {
	s := New()
	add(t, s, "runs1", Image("a", objectSize, WrongDigest().Times(1), Digest().After(1)))
	u := target(t, s, key("runs1", run.Images, "a"))
	wrong := ask(s.CDN(), u).Header().Get("Repr-Digest")
	right := ask(s.CDN(), u, "Range", "bytes=5-").Header().Get("Repr-Digest")
	if !strings.HasPrefix(right, "sha-256=:") || !strings.HasSuffix(right, "=:") || wrong[:9] != right[:9] || wrong[12:] != right[12:] || wrong == right {
		t.Errorf("wrong %s, right %s", wrong, right)
	}
}

func TestRedirectsLeadToTheObject(t *testing.T) {
	s := start(t)
	for i, c := range []struct {
		fault Fault
		hops  int
		host  string
	}{
		{Redirect(302, 1), 1, "127.0.0.1"}, {Redirect(308, 3), 3, "127.0.0.1"}, {RedirectHost("localhost"), 1, "localhost"},
	} {
		id := run.ID("hops" + string(rune('a'+i)))
		add(t, s, id, Image("a", objectSize, c.fault))
		k := key(id, run.Images, "a")
		u, _ := s.URL(k)
		g := getURL(t, u)
		hops := 0
		for ; g.err == nil && g.StatusCode/100 == 3 && hops < 10; hops++ {
			to, err := g.Location()
			must(t, err)
			g = getURL(t, to.String())
		}
		if !g.is(200, objectSize, nil) || hops != c.hops || g.Request.URL.Hostname() != c.host {
			t.Errorf("%v: %d hops to %s, %v", c.fault, hops, g.Request.URL.Redacted(), g.err)
		}
		must(t, s.Idle(t.Context()))
		if served := s.Served(k); !served.Whole || s.Fired(k, c.fault) != 1 {
			t.Errorf("%v: %+v, fired %d times", c.fault, served, s.Fired(k, c.fault))
		}
	}
}
