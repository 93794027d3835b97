package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Checks(20)
	goleak.VerifyTestMain(m)
}

// secret stands in every URL of these tests and must stand nowhere else.
const secret = "token=exp=1999999999~hmac=5ec4e7"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// memPart is a part in memory, with the faults a volume can have.
type memPart struct {
	mu   sync.Mutex
	data []byte // from the front on
	far  []chunk
	mark run.PartMark

	resets   int
	reserved []int64
	writes   int

	resetErr, reserveErr, writeErr, readErr error

	writeErrAt int // bytes after which writeErr comes
}

// chunk is bytes beyond a gap.
type chunk struct {
	off  int64
	data []byte
}

func (c chunk) end() int64 { return c.off + int64(len(c.data)) }

func (p *memPart) Have() (int64, run.PartMark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(len(p.data)), p.mark
}

func (p *memPart) Reset(m run.PartMark) error {
	if p.resetErr != nil {
		return p.resetErr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resets++
	p.data, p.far, p.mark = p.data[:0], nil, m
	return nil
}

func (p *memPart) Reserve(n int64) error {
	p.reserved = append(p.reserved, n)
	return p.reserveErr
}

func (p *memPart) Write(b []byte) (int, error) {
	have, _ := p.Have()
	return p.WriteAt(b, have)
}

func (p *memPart) WriteAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, there := off+int64(len(b)), len(p.data)
	for _, c := range p.far {
		there += len(c.data)
		if off < c.end() && c.off < end {
			return 0, fmt.Errorf("bytes %d to %d are written twice", off, end)
		}
	}
	if off < int64(len(p.data)) {
		return 0, fmt.Errorf("bytes from %d on are written twice", off)
	}
	if p.writeErr != nil && there+len(b) > p.writeErrAt {
		return 0, p.writeErr
	}
	p.writes++
	i := slices.IndexFunc(p.far, func(c chunk) bool { return c.end() == off })
	switch {
	case off == int64(len(p.data)):
		p.data = appended(p.data, b)
	case i >= 0:
		p.far[i].data = appended(p.far[i].data, b)
	default:
		p.far = append(p.far, chunk{off, bytes.Clone(b)})
	}
	for {
		i := slices.IndexFunc(p.far, func(c chunk) bool { return c.off == int64(len(p.data)) })
		if i < 0 {
			return len(b), nil
		}
		p.data = appended(p.data, p.far[i].data)
		p.far = slices.Delete(p.far, i, i+1)
	}
}

// appended appends b to a, whose memory doubles when it is full: by less, most of these
// tests' time would go into copies.
func appended(a, b []byte) []byte {
	if cap(a)-len(a) < len(b) {
		a = slices.Grow(a, max(len(a), len(b)))
	}
	return append(a, b...)
}

func (p *memPart) Beyond() (spans []run.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.far {
		spans = append(spans, run.Span{From: c.off, To: c.end()})
	}
	slices.SortFunc(spans, func(a, b run.Span) int { return int(a.From - b.From) })
	return spans
}

func (p *memPart) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr != nil {
		return 0, p.readErr
	}
	return bytes.NewReader(p.data).ReadAt(b, off)
}

// dates records what a client learns of hosts' clocks.
type dates struct {
	mu    sync.Mutex
	hosts []string
}

func (d *dates) Now() time.Time { return time.Now().UTC() }

func (d *dates) Observe(host string, _, _ time.Time, _ http.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts = append(d.hosts, host)
}

// newClient is a client that may connect to loopback.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.AllowNetworks == nil {
		cfg.AllowNetworks = loopback
	}
	cfg.AllowHTTP = true
	c, err := New(cfg, &dates{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve is a server on loopback, and the URL of an asset on it.
func serve(t *testing.T, h http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/private/render.png?" + secret
}

// onPipes makes the client talk to serve through pipes: no address is dialled and
// time can be faked. Each connection gets its own call of serve.
func onPipes(t *testing.T, c *Client, serve func(net.Conn)) {
	t.Helper()
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	c.connect = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		running.Go(func() {
			defer theirs.Close()
			serve(theirs)
		})
		return ours, nil
	}
}

// readRequest reads one request's head from a pipe and gives its first line.
func readRequest(t *testing.T, conn net.Conn) (line string, ok bool) {
	t.Helper()
	var head []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := conn.Read(one); err != nil {
			return "", false
		}
		head = append(head, one...)
	}
	first, _, _ := bytes.Cut(head, []byte("\r\n"))
	return string(first), true
}

func request(url string) Request {
	return Request{Key: run.Key{Run: "run1", Kind: run.Images, ID: "a"}, URL: url}
}

// fetched runs a Fetch that must succeed.
func fetched(t *testing.T, c *Client, url string, part Part) Result {
	t.Helper()
	r, err := c.Fetch(t.Context(), request(url), part, nil)
	if err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	return r
}

// failed runs a Fetch that must fail, with that class and no secret in its text.
func failed(t *testing.T, c *Client, url string, part Part, class Class) *Failure {
	t.Helper()
	_, err := c.Fetch(t.Context(), request(url), part, nil)
	return failure(t, err, class)
}

func failure(t *testing.T, err error, class Class) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("error %v (%T), want a *Failure", err, err)
	}
	if f.Class != class {
		t.Fatalf("failed as %q (%v), want %q", f.Class, f, class)
	}
	if bytes.Contains([]byte(f.Error()), []byte("hmac")) {
		t.Fatalf("the error tells the token: %v", f)
	}
	return f
}

// mustBe holds a whole part against the bytes that were served.
func mustBe(t *testing.T, r Result, p *memPart, want []byte) {
	t.Helper()
	if !bytes.Equal(p.data, want) {
		t.Fatalf("the part has %d bytes that differ from the %d served", len(p.data), len(want))
	}
	if r.Size != int64(len(want)) || r.SHA256 != sum(want) {
		t.Fatalf("result says %d bytes, %s; want %d, %s", r.Size, r.SHA256, len(want), sum(want))
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// pixelsPNG is a whole PNG of that size.
func pixelsPNG(width, height int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// picture is a PNG with noise behind its end, n bytes long or a little more.
func picture(n int, seed byte) []byte {
	b := pixelsPNG(8, 8)
	noise := make([]byte, max(n-len(b), 8))
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(noise)
	return append(b, noise...)
}

// content serves b with ranges and validators, as a good server does.
func content(etag string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "render.png", time.Time{}, bytes.NewReader(b))
	}
}

// cut serves what h serves, but ends the connection after n bytes of the body.
func cut(n int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h(&cutWriter{w, n}, r)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		_, _ = w.ResponseWriter.Write(b[:w.left])
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(b)
	return w.ResponseWriter.Write(b)
}
