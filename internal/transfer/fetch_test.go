package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

const big = 700 << 10 // beyond what is gathered in memory

// sized is a picture of more than n bytes, served as content under the ETag.
func sized(n int, etag string) ([]byte, http.HandlerFunc) {
	b := picture(n, 7)
	return b, content(etag, b)
}

// asking records the Range and If-Range of each request.
type asking struct {
	mu   sync.Mutex
	seen []string
}

func (a *asking) record(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, strings.Trim(r.Header.Get("Range")+" "+r.Header.Get("If-Range"), " "))
		a.mu.Unlock()
		h(w, r)
	}
}

func (a *asking) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(a.seen, want) {
		t.Errorf("asked for %q, want %q", a.seen, want)
	}
}

// each serves the n-th request with the n-th handler, the last for all that follow.
func each(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[min(n, len(handlers)-1)]
		n++
		mu.Unlock()
		h(w, r)
	}
}

func TestAssetsOfAllSizesArriveWhole(t *testing.T) {
	for _, n := range []int{1, 1000, 64 << 10, bufferSize - 3000, bufferSize, big, 3 << 20} {
		for _, etag := range []string{`"v1"`, `W/"v1"`, ""} {
			body, h := sized(n, etag)
			var a asking
			part := &memPart{data: []byte("left behind by another"), mark: run.PartMark{Total: -1}}
			c := newClient(t, Config{})
			r := fetched(t, c, serve(t, a.record(h)), part)
			mustBe(t, r, part, body)
			a.want(t, "bytes=0-")
			if !r.Proven || r.Kind != run.Images || r.Ext != ".png" || r.ContentType != "image/png" || len(r.Warnings) != 0 {
				t.Errorf("%d bytes: %+v", n, r)
			}
			if r.Received != int64(len(body)) || r.At.IsZero() || r.Key.ID != "a" || !strings.HasPrefix(r.Host, "127.0.0.1:") {
				t.Errorf("%d bytes: %+v", n, r)
			}
			resumable := etag == `"v1"` && len(body) > bufferSize
			if got := part.mark.ETag != ""; got != resumable || part.mark.Total != int64(len(body)) {
				t.Errorf("%d bytes under %q: mark %+v", n, etag, part.mark)
			}
			if part.resets != 1 || len(part.reserved) != 1 || part.reserved[0] != int64(len(body)) {
				t.Errorf("%d bytes: %d resets, reserved %v", n, part.resets, part.reserved)
			}
		}
	}
}

func TestExactlyOneBufferIsOneWrite(t *testing.T) {
	body := append(picture(1000, 1), make([]byte, bufferSize)...)[:bufferSize]
	for name, h := range map[string]http.HandlerFunc{
		"length":  content(`"v1"`, body),
		"chunked": chunked(206, "bytes 0-262143/262144", body),
	} {
		part := &memPart{}
		mustBe(t, fetched(t, newClient(t, Config{}), serve(t, h), part), part, body)
		if part.writes != 1 {
			t.Errorf("%s: %d writes", name, part.writes)
		}
	}
}

// chunked serves b without a length, in chunks.
func chunked(status int, contentRange string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentRange != "" {
			w.Header().Set("Content-Range", contentRange)
		}
		w.WriteHeader(status)
		for p := range slices.Chunk(b, 10_000) {
			_, _ = w.Write(p)
			w.(http.Flusher).Flush()
		}
	}
}

func TestBodyOfUntoldLengthIsProvenByItsChunks(t *testing.T) {
	for _, n := range []int{100, big} {
		body := picture(n, 1)
		part := &memPart{}
		r := fetched(t, newClient(t, Config{}), serve(t, chunked(200, "", body)), part)
		mustBe(t, r, part, body)
		if !r.Proven || part.mark.Total != -1 || part.mark.ETag != "" {
			t.Errorf("%+v, mark %+v", r, part.mark)
		}
		if len(part.reserved) != 1 || part.reserved[0] != reserveStep {
			t.Errorf("reserved %v, want one step", part.reserved)
		}
	}
}

func TestRequestsCarryNothingOfOurs(t *testing.T) {
	var got http.Header
	body, h := sized(100, `"v1"`)
	part := &memPart{}
	mustBe(t, fetched(t, newClient(t, Config{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		h(w, r)
	}), part), part, body)
	want := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "Range": {"bytes=0-"}, "User-Agent": {"assetd"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	conns := map[string]bool{}
	_, small := sized(100, "")
	_, large := sized(big, "")
	missing := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, strings.Repeat("x", 20_000), 404) }
	moved := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(302)
		_, _ = w.Write(make([]byte, 20_000))
	}
	h := each(small, large, missing, moved, small, large)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		conns[r.RemoteAddr] = true
		mu.Unlock()
		h(w, r)
	})
	c := newClient(t, Config{})
	for range 5 {
		_, _ = c.Fetch(t.Context(), request(url), &memPart{}, nil)
	}
	if len(conns) != 1 {
		t.Errorf("5 transfers took %d connections", len(conns))
	}
}

func TestCutTransferIsResumedUnderItsValidator(t *testing.T) {
	body, h := sized(big, `"v1"`)
	var a asking
	url := serve(t, a.record(each(cut(300_000, h), h)))
	c := newClient(t, Config{})
	part := &memPart{}
	f := failed(t, c, url, part, Network)
	if f.Status != 206 || len(part.data) != 300_000 {
		t.Fatalf("%+v, %d bytes kept, want 300000", f, len(part.data))
	}
	r := fetched(t, c, url, part)
	mustBe(t, r, part, body)
	a.want(t, "bytes=0-", `bytes=300000- "v1"`)
	if part.resets != 1 || r.Received != int64(len(body)-300_000) || !r.Proven {
		t.Errorf("%d resets, %+v", part.resets, r)
	}
	if want := int64(len(body) - 300_000); part.reserved[len(part.reserved)-1] != want {
		t.Errorf("reserved %v, want at last what was missing, %d", part.reserved, want)
	}
}

func TestCutSmallTransferLeavesThePartAlone(t *testing.T) {
	body, h := sized(50_000, `"v1"`)
	url := serve(t, each(cut(30_000, h), h))
	c := newClient(t, Config{})
	part := &memPart{data: []byte("untouched")}
	failed(t, c, url, part, Network)
	if string(part.data) != "untouched" {
		t.Fatalf("the part was written to: %d bytes", len(part.data))
	}
	mustBe(t, fetched(t, c, url, part), part, body)
}

func TestPartWithoutStrongValidatorIsBegunAnew(t *testing.T) {
	body, h := sized(big, `"v1"`)
	total := int64(len(body))
	for name, mark := range map[string]run.PartMark{
		"none": {Total: total}, "untold total": {ETag: `"v1"`, Total: -1}, "too long": {ETag: `"v1"`, Total: 1000},
	} {
		var a asking
		part := &memPart{data: slices.Clone(body[:2000]), mark: mark}
		mustBe(t, fetched(t, newClient(t, Config{}), serve(t, a.record(h)), part), part, body)
		if len(a.seen) != 1 || a.seen[0] != "bytes=0-" {
			t.Errorf("%s: asked %q", name, a.seen)
		}
	}
}

func TestPartThatIsWholeIsOnlyHashed(t *testing.T) {
	body := picture(big, 1)
	part := &memPart{data: slices.Clone(body), mark: run.PartMark{ETag: `"v1"`, Total: int64(len(body))}}
	r := fetched(t, newClient(t, Config{}), "http://127.0.0.1:1/a.png?"+secret, part) // nobody answers there
	mustBe(t, r, part, body)
	if !r.Proven || r.Received != 0 || r.Host != "" || part.resets != 0 {
		t.Errorf("%+v, %d resets", r, part.resets)
	}
}

func TestPartThatCannotBeReadBackIsBegunAnew(t *testing.T) {
	body, h := sized(big, `"v1"`)
	part := &breaking{memPart: memPart{data: slices.Clone(body[:300_000]), mark: run.PartMark{ETag: `"v1"`, Total: int64(len(body))}}, at: 100_000}
	c := newClient(t, Config{})
	url := serve(t, h)
	f := failed(t, c, url, part, Disk)
	if !strings.Contains(f.Error(), "read back") || len(part.data) != 0 {
		t.Fatalf("%v, %d bytes left", f, len(part.data))
	}
	part.at = 1 << 40
	mustBe(t, fetched(t, c, url, part), &part.memPart, body)
}

// breaking is a part whose medium cannot be read from one byte on.
type breaking struct {
	memPart
	at int64
}

func (p *breaking) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > p.at {
		return 0, io.ErrNoProgress
	}
	return p.memPart.ReadAt(b, off)
}

func TestSizeBeyondTheLimitIsRefusedWithoutAByteWritten(t *testing.T) {
	body, h := sized(big, `"v1"`)
	for name, h := range map[string]http.HandlerFunc{
		"ranged": h, "plain": plain(h), "small": content("", body[:20_000]),
	} {
		part := &memPart{}
		f := failed(t, newClient(t, Config{MaxSize: 10_000}), serve(t, h), part, Rule)
		if part.resets != 0 || part.writes != 0 || !strings.Contains(f.Error(), "max_size") {
			t.Errorf("%s: %d resets, %d writes, %v", name, part.resets, part.writes, f)
		}
	}
}

func TestSizeBeyondTheLimitIsRefusedInMidStream(t *testing.T) {
	part := &memPart{}
	failed(t, newClient(t, Config{MaxSize: 200_000}), serve(t, chunked(200, "", picture(big, 1))), part, Rule)
	if n := len(part.data); n == 0 || n > 200_000 {
		t.Errorf("%d bytes written", n)
	}
}

// plain serves as one that knows no ranges.
func plain(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		h(w, r)
	}
}

func TestTroubleWithThePartIsTold(t *testing.T) {
	_, large := sized(big, `"v1"`)
	_, small := sized(1000, `"v1"`)
	full := fmt.Errorf("reserving: %w", run.ErrNoRoom)
	for name, tc := range map[string]struct {
		part  *memPart
		h     http.HandlerFunc
		class Class
		is    error
	}{
		"no room, large":        {&memPart{reserveErr: full}, large, NoRoom, run.ErrNoRoom},
		"no room, small":        {&memPart{reserveErr: full}, small, NoRoom, run.ErrNoRoom},
		"no room, untold":       {&memPart{reserveErr: full}, chunked(200, "", picture(big, 1)), NoRoom, run.ErrNoRoom},
		"no room after all":     {&memPart{writeErr: full, writeErrAt: 100_000}, large, NoRoom, run.ErrNoRoom},
		"offline":               {&memPart{writeErr: run.ErrVolumeOffline}, large, Disk, run.ErrVolumeOffline},
		"write error, small":    {&memPart{writeErr: io.ErrClosedPipe}, small, Disk, io.ErrClosedPipe},
		"reset error, large":    {&memPart{resetErr: io.ErrClosedPipe}, large, Disk, io.ErrClosedPipe},
		"reset error, small":    {&memPart{resetErr: io.ErrClosedPipe}, small, Disk, io.ErrClosedPipe},
		"head cannot be read":   {&memPart{readErr: io.ErrClosedPipe}, large, Disk, io.ErrClosedPipe},
		"head, small":           {&memPart{readErr: io.ErrClosedPipe}, small, Disk, io.ErrClosedPipe},
		"reserve fails anyhow":  {&memPart{reserveErr: io.ErrClosedPipe}, large, Disk, io.ErrClosedPipe},
		"written, but not all":  {&memPart{writeErr: io.ErrShortWrite, writeErrAt: 200_000}, large, Disk, io.ErrShortWrite},
		"room is gone, resumed": {&memPart{data: picture(big, 7)[:1000], mark: run.PartMark{ETag: `"v1"`, Total: int64(len(picture(big, 7)))}, reserveErr: full}, large, NoRoom, run.ErrNoRoom},
	} {
		_, err := newClient(t, Config{}).Fetch(t.Context(), request(serve(t, tc.h)), tc.part, nil)
		if !strings.HasPrefix(err.Error(), string(tc.class)) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := failure(t, err, tc.class)
		if !errors.Is(f, tc.is) {
			t.Errorf("%s: %v does not wrap %v", name, f, tc.is)
		}
		if name == "room is gone, resumed" && len(tc.part.data) != 1000 {
			t.Errorf("%s: the part was not kept", name)
		}
	}
}

func TestProgressTellsHowFar(t *testing.T) {
	body, h := sized(big, `"v1"`)
	url := serve(t, each(cut(300_000, h), h))
	c := newClient(t, Config{})
	part := &memPart{}
	var first, second []string
	tell := func(to *[]string) func(int64, int64) {
		return func(done, total int64) { *to = append(*to, fmt.Sprintf("%d/%d", done, total)) }
	}
	_, _ = c.Fetch(t.Context(), request(url), part, tell(&first))
	if _, err := c.Fetch(t.Context(), request(url), part, tell(&second)); err != nil {
		t.Fatal(err)
	}
	total := "/" + strconv.Itoa(len(body))
	if first[0] != "0"+total || first[len(first)-1] != "300000"+total {
		t.Errorf("first: %v", first)
	}
	if second[0] != "300000"+total || second[len(second)-1] != strconv.Itoa(len(body))+total {
		t.Errorf("second: %v", second)
	}
}

// stalledWriter sends so many bytes at most, and then nothing until its client is gone.
type stalledWriter struct {
	http.ResponseWriter
	left int
	gone <-chan struct{}
}

func (w *stalledWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		<-w.gone
		return 0, http.ErrAbortHandler
	}
	return w.ResponseWriter.Write(b)
}

func TestStoppedTransferKeepsWhatHasCome(t *testing.T) {
	body, h := sized(3<<20, `"v1"`)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := fmt.Errorf("another is more urgent")
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 { // it cannot be whole before the stop takes effect
			w = &stalledWriter{w, 2 << 20, r.Context().Done()}
		}
		h(w, r)
	})
	c := newClient(t, Config{})
	part := &memPart{}
	_, err := c.Fetch(ctx, request(url), part, func(done, _ int64) {
		if done > 1<<20 {
			cancel(why)
		}
	})
	f := failure(t, err, Canceled)
	if !errors.Is(f, why) || len(part.data) <= 1<<20 {
		t.Fatalf("%v, %d bytes", f, len(part.data))
	}
	r := fetched(t, c, url, part)
	mustBe(t, r, part, body)
	if part.resets != 1 {
		t.Errorf("begun anew: %d resets", part.resets)
	}
	cancel(nil)
	_, err = c.Fetch(ctx, request(url), &memPart{}, nil)
	failure(t, err, Canceled)
}

func TestDatesAreLearntFromEveryHop(t *testing.T) {
	_, h := sized(100, "")
	url := serve(t, h)
	first := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) })
	c := newClient(t, Config{})
	r := fetched(t, c, first, &memPart{})
	got := c.clk.(*dates).hosts
	if len(got) != 2 || got[0] == got[1] || got[1] != r.Host || !strings.Contains(first, got[0]) {
		t.Errorf("learnt from %q, fetched from %q", got, r.Host)
	}
}

// Whatever a server does between the attempts, the part never mixes versions:
// the property that all of resuming stands for.
func TestNeverAMixOfTwoVersions(t *testing.T) {
	versions := [][]byte{picture(big, 1), picture(big, 2), picture(big+90_000, 3)}
	c := newClient(t, Config{})
	var mu sync.Mutex
	var next http.HandlerFunc
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := next
		mu.Unlock()
		h(w, r)
	})
	rapid.Check(t, func(rt *rapid.T) {
		part := &memPart{}
		for range 6 {
			v := rapid.IntRange(0, len(versions)-1).Draw(rt, "version")
			etag := rapid.SampledFrom([]string{`"v` + strconv.Itoa(v) + `"`, `W/"same"`, ""}).Draw(rt, "etag")
			h := content(etag, versions[v])
			switch rapid.IntRange(0, 4).Draw(rt, "fault") {
			case 0:
				h = cut(rapid.IntRange(0, big).Draw(rt, "cut"), h)
			case 1:
				h = plain(h)
			case 2:
				h = shifted(h, rapid.SampledFrom([]string{"bytes 5-", "bytes 0-9/10", "", "items 0-1/2", "bytes */100"}).Draw(rt, "range"))
			case 3:
				h = withoutIfRange(h)
			}
			mu.Lock()
			next = h
			mu.Unlock()
			r, err := c.Fetch(context.Background(), request(url), part, nil)
			if err != nil {
				continue
			}
			if !slices.ContainsFunc(versions, func(v []byte) bool { return bytes.Equal(v, part.data) }) {
				rt.Fatalf("the part is none of the versions, %d bytes", len(part.data))
			}
			if r.SHA256 != sum(part.data) {
				rt.Fatal("the digest is not the part's")
			}
			return
		}
	})
}

// shifted lies about where its ranges lie.
func shifted(h http.HandlerFunc, contentRange string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h(&headerWriter{ResponseWriter: w, contentRange: contentRange}, r)
	}
}

// withoutIfRange is a server that gives ranges of whatever it has now.
func withoutIfRange(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Range")
		h(w, r)
	}
}

// headerWriter replaces Content-Range on the way out of a 206.
type headerWriter struct {
	http.ResponseWriter
	contentRange string
}

func (w *headerWriter) WriteHeader(status int) {
	if status == http.StatusPartialContent {
		w.Header().Set("Content-Range", w.contentRange)
		if w.contentRange == "" {
			w.Header().Del("Content-Range")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func TestCase_A7_SuccessOfAnyNumberCarriesTheObject(t *testing.T) {
	body := picture(300_000, 3)
	for _, status := range []int{201, 202, 207, 208, 226, 299} {
		answer := func(contentType string, body []byte) string {
			return serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(status)
				_, _ = w.Write(body)
			})
		}
		for _, contentType := range []string{"image/png", "application/octet-stream", ""} {
			part := &memPart{}
			if r := fetched(t, newClient(t, Config{}), answer(contentType, body), part); !bytes.Equal(part.data, body) || r.Ext != ".png" {
				t.Errorf("%d %s: %d bytes, %q", status, contentType, len(part.data), r.Ext)
			}
		}
		for _, contentType := range []string{"image/png", "text/html", "application/json", "text/plain; charset=utf-8", ""} {
			if f := failed(t, newClient(t, Config{}), answer(contentType, []byte(`{"status":"processing"}`)), &memPart{}, Server); f.Status != status {
				t.Errorf("%d %s: %+v", status, contentType, f)
			}
		}
		failed(t, newClient(t, Config{}), answer("image/png", nil), &memPart{}, Server)
	}
	failed(t, newClient(t, Config{}), serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(205) }), &memPart{}, Server)
}
