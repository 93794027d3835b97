package transfer

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer/media"
)

var utf16Text = []byte("\xff\xfeh\x00e\x00l\x00l\x00o\x00 \x00w\x00o\x00r\x00l\x00d\x00")

func serveBytes(contentType string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{contentType}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

func TestWhatIsNotMediaIsToldAndKeptForQuarantine(t *testing.T) { // N11, P3.8
	for name, body := range map[string][]byte{
		"empty":       {},
		"HTML":        []byte("<!DOCTYPE html><html><body>Access Denied</body></html>"),
		"HTML page":   []byte("\n\n<html lang=en><h1>no</h1>"),
		"svg in text": []byte("see <svg xmlns='http://www.w3.org/2000/svg'></svg>"),
		"svg in HTML": []byte("<html><body><svg xmlns='http://www.w3.org/2000/svg'/></body></html>"),
		"JSON":        []byte(`{"message":"not found"}`),
		"JSON list":   []byte(` [1,2,3] `),
		"XML":         []byte(`<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`),
		"bare XML":    []byte(`<Error><Code>AccessDenied</Code></Error>`),
		"text":        []byte("Access Denied"),
		"one letter":  []byte("x"),
		"UTF-16":      utf16Text,
		"playlist":    []byte("#EXTM3U\n#EXT-X-VERSION:3\nhttps://x/y.ts\n"),
		"csv":         []byte("a,b\n1,2\n"),
	} {
		for _, h := range []http.HandlerFunc{serveBytes("image/png", body), chunked(200, "", body), plain(serveBytes("", body))} {
			part := &memPart{data: []byte("older")}
			f := failed(t, newClient(t, Config{}), serve(t, h), part, NotMedia)
			if !bytes.Equal(part.data, body) || f.Host == "" || f.Status/100 != 2 {
				t.Errorf("%s: the part has %q; %+v", name, part.data, f)
			}
		}
	}
}

// page serves text without end.
func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(64<<30))
	w.Header().Set("ETag", `"v1"`)
	line := []byte(strings.Repeat("all work and no play\n", 4096))
	for {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

func TestLongTextIsNotFetchedToItsEnd(t *testing.T) {
	c := newClient(t, Config{})
	body, h := sized(big, `"v1"`)
	fresh := &memPart{}
	resumed := &memPart{data: slices.Clone(body[:300_000]), mark: run.PartMark{ETag: `"v0"`, Total: int64(len(body))}}
	for _, part := range []*memPart{fresh, resumed} {
		failed(t, c, serve(t, page), part, NotMedia)
		if n := len(part.data); n < quarantineBytes || n > quarantineBytes+2*bufferSize {
			t.Errorf("%d bytes kept", n)
		}
	}
	// Left where it was, it is no beginning of anything.
	var a asking
	fresh.mark.Total = int64(len(body)) // even where all else would fit
	fresh.data = fresh.data[:1000]
	mustBe(t, fetched(t, c, serve(t, a.record(h)), fresh), fresh, body)
	a.want(t, "bytes=0-")
}

func TestUnknownFormatTakesItsExtensionFromElsewhere(t *testing.T) {
	blob := []byte("\x00\x01\x02\x03 unknown \x00")
	for _, tc := range [][3]string{
		{"video/mp4", "/a.bin", ".mp4"},
		{"application/octet-stream", "/x/render.GLB", ".glb"},
		{"", "/x/render.usdz?format=.exe", ".usdz"},
		{"text/html", "/x/a.tar", ".tar"},
		{"nonsense", "/a.toolongtobe1", ""},
		{"", "/a.p%6eg", ""},
		{"", "/a.", ""},
		{"", "/.hidden/a", ""},
		{"", "/a.b/../", ""},
	} {
		body := bytes.NewReader(blob)
		m := media.Identify(blob, body, body.Size())
		m.Resolve(body, body.Size(), tc[0], urlExtension("https://cdn.test"+tc[1]))
		if m.Ext != tc[2] {
			t.Errorf("%s as %q: %q, want %q", tc[1], tc[0], m.Ext, tc[2])
		}
		if m.Refused != "" || m.Kind != "" {
			t.Errorf("%+v", m)
		}
	}
}
