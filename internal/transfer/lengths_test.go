package transfer

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// rawHead answers with these lines and the body, on a connection that ends then.
func rawHead(body []byte, lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
		_, _ = conn.Write(body)
	}
}

func TestCase_A20_EqualContentLengthsAreOne(t *testing.T) {
	for _, n := range []int{12420, big} {
		body := picture(n, 7)
		n := len(body)
		chunk := append([]byte(fmt.Sprintf("%x\r\n", n)), append(body, "\r\n0\r\n\r\n"...)...)
		l := func(format string) string { return strings.ReplaceAll("Content-Length: "+format, "N", fmt.Sprint(n)) }
		for name, c := range map[string]struct {
			body  []byte
			lines []string
		}{
			"one field":                 {body, []string{"HTTP/1.1 200 OK", l("N, N")}},
			"without a blank":           {body, []string{"HTTP/1.1 200 OK", l("N,N")}},
			"leading zeros":             {body, []string{"HTTP/1.1 200 OK", l("0N, N")}},
			"three, blanks":             {body, []string{"HTTP/1.1 200 OK", l("  N ,\tN , N ")}},
			"an empty member":           {body, []string{"HTTP/1.1 200 OK", l("N,")}},
			"lower case":                {body, []string{"HTTP/1.1 200 OK", "content-length: " + l("N, N")[16:]}},
			"two fields":                {body, []string{"HTTP/1.1 200 OK", l("N"), l("N")}},
			"two fields, one is a list": {body, []string{"HTTP/1.1 200 OK", l("N"), l("N, N")}},
			"two lists":                 {body, []string{"HTTP/1.1 200 OK", l("N,N"), "X-A: b", l("N, N")}},
			"behind a long field":       {body, []string{"HTTP/1.1 200 OK", "X-Long: " + strings.Repeat("x", 30_000), l("N, N")}},
			"after an interim answer":   {body, []string{"HTTP/1.1 103 Early Hints", "Link: </a>", "", "HTTP/1.1 200 OK", l("N, N")}},
			"a range":                   {body, []string{"HTTP/1.1 206 Partial Content", l("N, N"), fmt.Sprintf("Content-Range: bytes 0-%d/%d", n-1, n)}},
			"HTTP/1.0":                  {body, []string{"HTTP/1.0 200 OK", l("N, N")}},
			"chunked":                   {chunk, []string{"HTTP/1.1 200 OK", l("N, N"), "Transfer-Encoding: chunked"}},
		} {
			part := &memPart{}
			r := fetched(t, newClient(t, Config{}), serve(t, rawHead(c.body, c.lines...)), part)
			mustBe(t, r, part, body)
			if !r.Proven {
				t.Errorf("%s: not proven", name)
			}
		}
	}
}

func TestCase_A20_DifferentContentLengthsAreRefused(t *testing.T) {
	body := picture(1000, 7)
	for _, lines := range [][]string{
		{"Content-Length: 1000, 1001"},
		{"Content-Length: 1000, 1000, 12"},
		{"Content-Length: 1000", "Content-Length: 12"},
		{"Content-Length: 1000, x"},
		{"Content-Length: x, x"},
		{"Content-Length: -1, -1"},
		{"Content-Length: ,"},
		{"Content-Length: 1000 1000"},
		{"Content-Length: 99999999999999999999, 99999999999999999999"},
	} {
		part := &memPart{}
		f := failed(t, newClient(t, Config{}), serve(t, rawHead(body, append([]string{"HTTP/1.1 200 OK"}, lines...)...)), part, Network)
		if !strings.Contains(f.Error(), "Content-Length") || len(part.data) > 0 {
			t.Errorf("%q: %v", lines, f)
		}
	}
}

// A body that is shorter than its length is cut, however that is written.
func TestCase_A20_ListedLengthIsHeldAgainstTheBody(t *testing.T) {
	body := picture(big, 7)
	n := len(body) + 1000
	h := rawHead(body, "HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d, %d", n, n))
	failed(t, newClient(t, Config{}), serve(t, h), &memPart{}, Network)
}

func TestCase_A20_OverTLSAndThroughAProxy(t *testing.T) {
	body := picture(big, 7)
	h := rawHead(body, "HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d, %d", len(body), len(body)))
	cert, pool := certificate(t, time.Now().Add(time.Hour), "cdn.test")
	c, u := secure(t, cert, pool, h)
	part := &memPart{}
	mustBe(t, fetched(t, c, u, part), part, body)

	forward := httptest.NewServer(h) // a proxy that answers in the server's place
	t.Cleanup(forward.Close)
	address, err := url.Parse(forward.URL)
	if err != nil {
		t.Fatal(err)
	}
	part = &memPart{}
	mustBe(t, fetched(t, newClient(t, Config{Proxy: address}), "http://cdn.test/a.png?"+secret, part), part, body)
}

// What one answer taught is not learned again by every further request of the fetch.
func TestCase_A20_IsFoundOutOnceInAFetch(t *testing.T) {
	body := picture(3<<20, 7)
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var from int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		part := body[from:min(from+(1<<20), len(body))]
		rawHead(part, "HTTP/1.1 206 Partial Content", `ETag: "v1"`, fmt.Sprintf("Content-Length: %d, %d", len(part), len(part)),
			fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, from+len(part)-1, len(body)))(w, r)
	})
	part := &memPart{}
	mustBe(t, fetched(t, newClient(t, Config{}), url, part), part, body)
	if want := int32(4 + 1); asked.Load() > want {
		t.Errorf("%d requests, want %d at most", asked.Load(), want)
	}
}

func TestLengthConnGivesWhatIsNoHeadAsItIs(t *testing.T) {
	for _, text := range []string{
		"", "x", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "\r\n\r\nrest", strings.Repeat("x", 2*maxHeaderBytes), "HTTP/1.1 101 Switching\r\n\r\nContent-Length: 1, 1\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n", "a\n\nContent-Length: 1, 1\n",
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(theirs, text)
			theirs.Close()
		}()
		got, err := io.ReadAll(newLengthConn(ours))
		if string(got) != text || err != nil {
			t.Errorf("%.40q came as %.40q, %v", text, got, err)
		}
	}
}
