package transfer

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// raw serves bytes as they are given, to every connection.
func raw(t *testing.T, c *Client, response string) (url string) {
	t.Helper()
	onPipes(t, c, func(conn net.Conn) {
		if _, ok := readRequest(t, conn); ok {
			_, _ = io.WriteString(conn, response)
		}
	})
	return "http://cdn.test/private/render.png?" + secret
}

func TestShortBodyIsNeverWhole(t *testing.T) { // N03, N05
	head := string(picture(100, 1))
	for name, response := range map[string]string{
		"length":        "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + head,
		"length, large": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + head,
		"range":         "HTTP/1.1 206 P\r\nContent-Length: 10000\r\nContent-Range: bytes 0-9999/10000\r\n\r\n" + head,
		"200, range":    "HTTP/1.1 200 OK\r\nContent-Range: bytes 0-999999/1000000\r\n\r\n" + head,
		"range, closed": "HTTP/1.1 206 P\r\nContent-Range: bytes 0-9999/10000\r\n\r\n" + head,
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + head[:100] + "\r\n",
		"cut chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + head,
		"bad chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + head,
		"nothing":       "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
	} {
		c := newClient(t, Config{})
		part := &memPart{}
		failed(t, c, raw(t, c, response), part, Network)
		if part.mark.ETag != "" {
			t.Errorf("%s: could be resumed under %q", name, part.mark.ETag)
		}
	}
}

func TestSenselessAnswersAreFailuresOfTheNetwork(t *testing.T) { // N05
	for name, response := range map[string]string{
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabcd",
		"header of 1 MiB": "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"no HTTP":         "SSH-2.0-OpenSSH_9.0\r\n",
		"a long line":     strings.Repeat("SSH", 50_000) + "\r\n\r\n",
		"our own URL":     "http://cdn.test/private/render.png?" + secret + "\r\n\r\n",
		"nothing":         "",
		"odd status":      "HTTP/1.1 2000 OK\r\n\r\n",
	} {
		c := newClient(t, Config{})
		part := &memPart{}
		f := failed(t, c, raw(t, c, response), part, Network)
		if part.resets != 0 || len(f.Error()) > 1000 {
			t.Errorf("%s: %d resets, a message of %d bytes", name, part.resets, len(f.Error()))
		}
	}
}

func TestCase_A20_PhaseTellsAMalformedResponseFromNone(t *testing.T) {
	for response, phase := range map[string]Phase{
		"": Awaiting,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd":       Header,
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabcd":                           Header,
		"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabcd":                          Header,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, bogus\r\n\r\n0\r\n\r\n": Header,
		"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n":          Header,
		"HTTP/1.1 200 OK\r\n: no name\r\n\r\n":                                        Header,
		"HTTP/1.1 200 OK\r\nX-Half":                                                   Header,
		"HTTP/1.1 2000 OK\r\n\r\n":                                                    Header,
		"SSH-2.0-OpenSSH_9.0\r\n":                                                     Header,
		"\x15\x03\x01\x00\x02\x02\x28":                                                Header,
		"H":                                                                           Header,
	} {
		c := newClient(t, Config{})
		f := failed(t, c, raw(t, c, response), &memPart{}, Network)
		if f.Phase != phase || f.Status != 0 {
			t.Errorf("%.40q: phase %d, want %d (%v)", response, f.Phase, phase, f)
		}
	}
}

func TestSentIsCalledOnceTheRequestIsOnItsWay(t *testing.T) {
	c := newClient(t, Config{})
	var sent atomic.Int32
	req := request(serve(t, content(`"v1"`, picture(100, 1))))
	req.Sent = func() { sent.Add(1) }
	if _, err := c.Fetch(t.Context(), req, &memPart{}, nil); err != nil || sent.Load() != 1 {
		t.Errorf("sent %d times, %v", sent.Load(), err)
	}
	req.URL = "http://127.0.0.1:1/a.png"
	if _, err := c.Fetch(t.Context(), req, &memPart{}, nil); err == nil || sent.Load() != 1 {
		t.Errorf("without a connection: sent %d times, %v", sent.Load(), err)
	}
}

func TestLengthBesideChunksDoesNotCount(t *testing.T) { // N05
	c := newClient(t, Config{})
	body := picture(100, 1)
	part := &memPart{}
	url := raw(t, c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body))
	mustBe(t, fetched(t, c, url, part), part, body)
}

func TestBodyThatEndsWithTheConnectionIsUnproven(t *testing.T) { // N04
	c := newClient(t, Config{})
	for _, n := range []int{100, big} {
		body := picture(n, 1)
		part := &memPart{}
		r := fetched(t, c, raw(t, c, "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\n\r\n"+string(body)), part)
		mustBe(t, r, part, body)
		if r.Proven || part.mark.ETag != "" {
			t.Errorf("%d bytes: proven %v, mark %+v", n, r.Proven, part.mark)
		}
	}
}

func TestUntoldEndIsProvenByARangeOrADigest(t *testing.T) { // P3.7
	c := newClient(t, Config{})
	body := picture(big, 1)
	for name, header := range map[string]string{
		"range":  fmt.Sprintf("HTTP/1.1 206 P\r\nContent-Range: bytes 0-%d/%d\r\n", len(body)-1, len(body)),
		"digest": "HTTP/1.1 200 OK\r\nRepr-Digest: sha-256=:" + base64SHA256(body) + ":\r\n",
	} {
		part := &memPart{}
		r := fetched(t, c, raw(t, c, header+"\r\n"+string(body)), part)
		mustBe(t, r, part, body)
		if !r.Proven {
			t.Errorf("%s proves nothing", name)
		}
	}
}

func TestRangeOfUntoldEndIsOverWhenItIsThere(t *testing.T) {
	c := newClient(t, Config{})
	body := picture(100, 1)
	onPipes(t, c, func(conn net.Conn) {
		if _, ok := readRequest(t, conn); ok {
			fmt.Fprintf(conn, "HTTP/1.1 206 P\r\nContent-Range: bytes 0-%d/%d\r\n\r\n%s", len(body)-1, len(body), body)
			_, _ = io.Copy(io.Discard, conn) // never closes by itself
		}
	})
	part := &memPart{}
	mustBe(t, fetched(t, c, "http://cdn.test/a.png?"+secret, part), part, body)
}

func TestLongerThanAnnouncedIsNotTaken(t *testing.T) {
	body := picture(big, 1)
	c := newClient(t, Config{})
	part := &memPart{}
	f := failed(t, c, serve(t, chunked(206, "bytes 0-399999/400000", body)), part, Network)
	if !strings.Contains(f.Error(), "more than") || len(part.data) > 400_000 {
		t.Errorf("%v, %d bytes written", f, len(part.data))
	}
	failed(t, c, serve(t, chunked(206, "bytes 0-262143/262144", body)), &memPart{}, Network)
}

func TestResumeThatIsAnsweredWithEverythingIsRewritten(t *testing.T) { // N06, N08
	for name, h2 := range map[string]func([]byte) http.HandlerFunc{
		"range ignored":  func(b []byte) http.HandlerFunc { return plain(content(`"v1"`, b)) },
		"object changed": func(b []byte) http.HandlerFunc { return content(`"v2"`, b) },
		"weak now":       func(b []byte) http.HandlerFunc { return content(`W/"v1"`, b) },
		"no ETag now":    func(b []byte) http.HandlerFunc { return content("", b) },
	} {
		_, h := sized(big, `"v1"`)
		body := picture(big, 99)
		var a asking
		url := serve(t, a.record(each(cut(300_000, h), h2(body))))
		c := newClient(t, Config{})
		part := &memPart{}
		failed(t, c, url, part, Network)
		r := fetched(t, c, url, part)
		mustBe(t, r, part, body)
		a.want(t, "bytes=0-", `bytes=300000- "v1"`)
		if part.resets != 2 || r.Received != int64(len(body)) {
			t.Errorf("%s: %d resets, %+v", name, part.resets, r)
		}
	}
}

func TestRangeThatDoesNotFitLeadsToOnePlainRequest(t *testing.T) { // N07, N08, N09
	body := picture(big, 7)
	good := content(`"v1"`, body)
	other := picture(big, 98)
	end := len(body) - 1
	for name, tc := range map[string]struct {
		bad   http.HandlerFunc
		first bool // also no answer to a first request
		plain bool // nor to a plain one
	}{
		"wrong start":        {from(5, good), true, true},
		"wrong start, told":  {shifted(good, fmt.Sprintf("bytes 5-%d/%d", end, len(body))), true, true},
		"other total":        {shifted(good, fmt.Sprintf("bytes 300000-%d/%d", end, len(body)+1)), false, false},
		"untold total":       {shifted(good, fmt.Sprintf("bytes 300000-%d/*", end)), true, true},
		"longer than body":   {shifted(good, fmt.Sprintf("bytes 300000-%d/%d", end-10, len(body))), true, true},
		"no Content-Range":   {shifted(good, ""), true, true},
		"garbage":            {shifted(good, "bytes 0x1-2/3"), true, true},
		"multipart":          {multipart, true, true},
		"other object":       {withoutIfRange(content(`"v2"`, other)), false, false},
		"without ETag":       {withoutIfRange(content("", other)), false, false},
		"weak ETag":          {withoutIfRange(content(`W/"v1"`, other)), false, false},
		"416":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(416) }, true, true},
		"200 with a range":   {status(200, fmt.Sprintf("bytes 300000-%d/%d", end, len(body)), body[300_000:]), true, true},
		"200, garbage range": {status(200, "bytes */5", body[300_000:]), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			var a asking
			url := serve(t, a.record(each(cut(300_000, good), tc.bad, good)))
			c := newClient(t, Config{})
			part := &memPart{}
			failed(t, c, url, part, Network)
			mustBe(t, fetched(t, c, url, part), part, body)
			a.want(t, "bytes=0-", `bytes=300000- "v1"`, "")
		})
		if tc.first {
			t.Run(name+", from the start", func(t *testing.T) {
				var a asking
				part := &memPart{}
				mustBe(t, fetched(t, newClient(t, Config{}), serve(t, a.record(each(tc.bad, good))), part), part, body)
				a.want(t, "bytes=0-", "")
			})
		}
		if tc.plain {
			t.Run(name+", for ever", func(t *testing.T) {
				requests := 0
				part := &memPart{}
				_, err := newClient(t, Config{}).Fetch(t.Context(), request(serve(t, func(w http.ResponseWriter, r *http.Request) {
					requests++
					from(300_000, tc.bad)(w, r)
				})), part, nil)
				if err == nil || requests != 2 || len(part.data) != 0 {
					t.Errorf("%v after %d requests, %d bytes", err, requests, len(part.data))
				}
			})
		}
	}
}

// from serves from that byte on, whatever is asked for.
func from(n int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", n))
		r.Header.Del("If-Range")
		h(w, r)
	}
}

func multipart(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
	w.WriteHeader(206)
	fmt.Fprint(w, "--x\r\nContent-Range: bytes 0-1/5\r\n\r\nab\r\n--x--\r\n")
}

// status serves b under that status and Content-Range.
func status(code int, contentRange string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.WriteHeader(code)
		_, _ = w.Write(b)
	}
}

func TestStatus200WithTheWholeRangeIsEverything(t *testing.T) { // N07
	for _, n := range []int{100, big} {
		body := picture(n, 1)
		all := fmt.Sprintf("bytes 0-%d/%d", len(body)-1, len(body))
		for _, h := range []http.HandlerFunc{status(200, all, body), chunked(200, all, body)} {
			part := &memPart{}
			mustBe(t, fetched(t, newClient(t, Config{}), serve(t, h), part), part, body)
		}
	}
}

// pieces serves no more than n bytes a request, whatever is asked for.
func pieces(n int64, etag string, b []byte) http.HandlerFunc {
	h := content(etag, b)
	return func(w http.ResponseWriter, r *http.Request) {
		var from int64
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+n-1))
		}
		h(w, r)
	}
}

func TestShortRangesAreGoneOnWith(t *testing.T) { // N07
	body := picture(5<<20, 1)
	var a asking
	part := &memPart{}
	r := fetched(t, newClient(t, Config{}), serve(t, a.record(pieces(2<<20, `"v1"`, body))), part)
	mustBe(t, r, part, body)
	a.want(t, "bytes=0-", `bytes=2097152- "v1"`, `bytes=4194304- "v1"`)
	if !r.Proven || part.resets != 1 {
		t.Errorf("%+v, %d resets", r, part.resets)
	}
}

func TestShortRangesWithoutUseAreAskedForPlainly(t *testing.T) { // N07
	for name, h := range map[string]http.HandlerFunc{
		"no validator": pieces(2<<20, "", picture(5<<20, 1)),
		"too short":    pieces(1000, `"v1"`, picture(5<<20, 1)),
		"small object": pieces(1000, `"v1"`, picture(5000, 1)),
	} {
		var a asking
		part := &memPart{data: []byte("junk")}
		r := fetched(t, newClient(t, Config{}), serve(t, a.record(h)), part)
		if !r.Proven || int64(len(part.data)) != r.Size || sum(part.data) != r.SHA256 {
			t.Errorf("%s: %+v, %d bytes", name, r, len(part.data))
		}
		a.want(t, "bytes=0-", "")
	}
}

func TestShortPieceOfAResumedPartKeepsWhatIsThere(t *testing.T) {
	body := picture(5<<20, 1)
	part := &memPart{data: slices.Clone(body[:4<<20]), mark: run.PartMark{ETag: `"v1"`, Total: int64(len(body))}}
	failed(t, newClient(t, Config{}), serve(t, pieces(1000, `"v1"`, body)), part, Network)
	if len(part.data) != 4<<20+1000 {
		t.Errorf("%d bytes in the part", len(part.data))
	}
}

func TestStatusesHaveTheirClass(t *testing.T) { // N11, N12
	at := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	for status, class := range map[int]Class{
		401: Refused, 403: Refused, 429: Throttled, 503: Throttled, 404: Gone, 410: Gone, 451: Gone,
		500: Server, 502: Server, 504: Server, 400: Server, 402: Server, 418: Server, 304: Server, 300: Server, 202: Server, 599: Server,
	} {
		part := &memPart{data: []byte("kept"), mark: run.PartMark{Total: -1}}
		f := failed(t, newClient(t, Config{}), serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", at.Format(http.TimeFormat))
			w.Header().Set("Retry-After", "Wed, 25 Feb 2026 12:01:00 GMT")
			w.WriteHeader(status)
			fmt.Fprint(w, "<html>Access Denied</html>")
		}), part, class)
		if f.Status != status || f.RetryAfter != time.Minute || !f.Date.Equal(at) || !strings.HasPrefix(f.Host, "127.0.0.1:") {
			t.Errorf("%d: %+v", status, f)
		}
		if !strings.Contains(f.Error(), fmt.Sprint(status)) || !strings.Contains(f.Error(), "/private/render.png") {
			t.Errorf("%d: the error does not name it: %v", status, f)
		}
		if string(part.data) != "kept" {
			t.Errorf("%d: the part was touched", status)
		}
	}
}

func TestDateOutOfACacheIsNotBelieved(t *testing.T) { // T02
	for name, value := range map[string]http.Header{
		"age": {"Date": {"Wed, 25 Feb 2026 12:00:00 GMT"}, "Age": {"600"}}, "none": {}, "garbage": {"Date": {"yesterday"}},
	} {
		if got := serverDate(value); !got.IsZero() {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestResetConnectionIsResumed(t *testing.T) { // N19
	body, h := sized(big, `"v1"`)
	url := serve(t, each(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 206 P\r\nETag: \"v1\"\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n%s", len(body), len(body)-1, len(body), body[:200_000])
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}, h))
	c := newClient(t, Config{})
	part := &memPart{}
	if f := failed(t, c, url, part, Network); !strings.Contains(f.Error(), "broken off after") {
		t.Error(f)
	}
	if len(part.data) > 0 && part.mark.ETag != `"v1"` {
		t.Errorf("mark %+v", part.mark)
	}
	mustBe(t, fetched(t, c, url, part), part, body)
}

func TestRefusedConnectionIsAFailureOfTheNetwork(t *testing.T) { // N19
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	f := failed(t, newClient(t, Config{}), "http://"+l.Addr().String()+"/a?"+secret, &memPart{}, Network)
	if !strings.Contains(f.Error(), "refused") || f.Status != 0 || f.Host != l.Addr().String() {
		t.Errorf("%+v", f)
	}
}
