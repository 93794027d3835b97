package transfer

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer/media"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// A server may send anything: Fetch ends, without a panic, and what it calls
// whole has the size and the digest it says.
func FuzzServer(f *testing.F) {
	body := string(picture(300, 1))
	f.Add("HTTP/1.1 206 P\r\nETag: \"v1\"\r\nContent-Range: bytes 10-19/20\r\nContent-Length: 10\r\n\r\n0123456789", 10)
	f.Add("HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/20\r\n\r\n0123456789", 0)
	f.Add("HTTP/1.1 206 P\r\nETag: \"v1\"\r\nContent-Range: bytes 0-9/20\r\n\r\n0123456789", 0)
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x89PNG\r\r\n0\r\n\r\n", 0)
	f.Add("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nRepr-Digest: sha-256=:AAAA:\r\n\r\n"+body, 0)
	f.Add("HTTP/1.1 302 Found\r\nLocation: //x/y?z\r\n\r\n", 0)
	f.Add("HTTP/1.1 302 Found\r\nLocation: ../\x80?z\r\n\r\n", 0)
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 416 R\r\nContent-Range: bytes */5\r\n\r\n", 3)
	f.Add("HTTP/1.1 429 T\r\nRetry-After: 99999999999\r\nDate: x\r\n\r\n", 0)
	f.Add("HTTP/1.1 204 No\r\n\r\n", 0)
	c, err := New(Config{AllowHTTP: true, MaxSize: 1 << 20, StallTimeout: time.Second}, &dates{})
	if err != nil {
		f.Fatal(err)
	}
	c.transport.DisableKeepAlives = true
	f.Fuzz(func(t *testing.T, response string, have int) {
		onPipes(t, c, func(conn net.Conn) {
			if _, ok := readRequest(t, conn); ok {
				_, _ = io.WriteString(conn, response)
			}
		})
		part := &memPart{}
		if have = min(have, 20); have > 0 {
			part.data, part.mark = []byte("\x89PNG\r\n\x1a\n            ")[:have], run.PartMark{ETag: `"v1"`, Total: 20}
		}
		r, err := c.Fetch(context.Background(), request("http://cdn.test/a.png?"+secret), part, nil)
		if err != nil {
			if strings.Contains(err.Error(), "hmac") {
				t.Fatalf("the error tells the token: %v", err)
			}
			return
		}
		if r.Size != int64(len(part.data)) || r.SHA256 != sum(part.data) || r.Size == 0 {
			t.Fatalf("%+v of %d bytes", r, len(part.data))
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes */7", "BYTES 1-2/3", "bytes 0-9223372036854775807/9223372036854775807", "bytes 1-2/3, bytes 4-5/6", "bytes=1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseContentRange(http.Header{"Content-Range": {s}})
		if !ok {
			return
		}
		if r.first < 0 || r.last < r.first || r.length() <= 0 || r.total != -1 && r.total <= r.last {
			t.Fatalf("%q reads as %+v", s, r)
		}
		total := "*"
		if r.total >= 0 {
			total = fmt.Sprint(r.total)
		}
		again, ok := parseContentRange(http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%s", r.first, r.last, total)}})
		if !ok || again != r {
			t.Fatalf("%q reads as %+v, written anew as %+v", s, r, again)
		}
	})
}

func TestContentRangeIsReadStrictly(t *testing.T) {
	for s, want := range map[string]contentRange{
		"bytes 0-9/10": {0, 9, 10}, "bytes 5-5/*": {5, 5, -1}, "Bytes 1-2/3": {1, 2, 3}, " bytes 1-2/3 ": {1, 2, 3},
	} {
		if got, ok := parseContentRange(http.Header{"Content-Range": {s}}); !ok || got != want {
			t.Errorf("%q: %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{
		"", "bytes", "bytes 0-9", "bytes /10", "bytes */10", "bytes 9-0/10", "bytes 0-10/10", "bytes 0-9/5", "items 0-9/10",
		"bytes=0-9/10", "bytes 0-9/10/11", "bytes -9/10", "bytes 0-/10", "bytes 0--9/10", "bytes +0-9/10", "bytes 0x0-9/10", "bytes 0 - 9/10",
		"bytes 0-9/99999999999999999999", "bytes 0-4611686018427387904/*", "bytes 0-9/", "bytes 0-9/ *", "bytes\t0-9/10",
	} {
		if got, ok := parseContentRange(http.Header{"Content-Range": {s}}); ok {
			t.Errorf("%q: %+v", s, got)
		}
	}
	if _, ok := parseContentRange(http.Header{"Content-Range": {"bytes 0-9/10", "bytes 0-9/10"}}); ok {
		t.Error("two of them were read as one")
	}
}

func TestOnlyStrongValidatorsAreKept(t *testing.T) {
	for tag, want := range map[string]bool{
		`"abc"`: true, `"a-b:c/d"`: true, "\"\xc3\xa9\"": true, `"`: false, `""`: false, `W/"abc"`: false, `w/"abc"`: false,
		`abc`: false, `"abc`: false, `"a"c"`: false, `"a b"`: false, "\"a\tb\"": false, "": false,
		`"` + strings.Repeat("x", maxETag) + `"`: false,
	} {
		got := strong(http.Header{"Etag": {tag}})
		if (got != "") != want || got != "" && got != tag {
			t.Errorf("%q: kept as %q", tag, got)
		}
	}
	if strong(http.Header{"Etag": {`"a"`, `"b"`}}) != "" {
		t.Error("one of two was kept")
	}
}

// discarding is a part that keeps only its first bytes, so that what is measured
// is the transfer.
type discarding struct {
	memPart
	size int64
}

func (p *discarding) Write(b []byte) (int, error) {
	p.size += int64(len(b))
	if keep := media.HeadSize - len(p.data); keep > 0 {
		p.data = append(p.data, b[:min(keep, len(b))]...)
	}
	return len(b), nil
}

func TestMemoryDoesNotGrowWithTheBody(t *testing.T) { // X06
	c := newClient(t, Config{})
	block := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block)
	copy(block, pixelsPNG(8, 8))
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var size int
		_, _ = fmt.Sscan(r.URL.Query().Get("size"), &size)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for ; size > 0; size -= len(block) {
			_, _ = w.Write(block[:min(size, len(block))])
		}
	})
	allocated := func(size int) int64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		part := &discarding{}
		if _, err := c.Fetch(t.Context(), request(url+"&size="+fmt.Sprint(size)), part, nil); err != nil || part.size != int64(size) {
			t.Fatalf("%v, %d bytes", err, part.size)
		}
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc - before.TotalAlloc)
	}
	allocated(1 << 20) // fills the pools
	small, large := allocated(1<<20), allocated(96<<20)
	if grown := large - small; grown > 1<<20 {
		t.Errorf("96 MiB took %d bytes more than 1 MiB", grown)
	}
}
