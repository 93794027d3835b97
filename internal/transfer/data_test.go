package transfer

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/assetd/assetd/internal/run"
)

const svgText = `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><text>é %</text></svg>`

func percent(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, "%%%02x", c)
	}
	return s.String()
}

// lines wraps s, with a blank or whatever in place of each line's end.
func lines(s string, width int, end string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += width {
		b.WriteString(s[i:min(i+width, len(s))] + end)
	}
	return b.String()
}

func TestCase_A18_DataURLIsDecodedAndStored(t *testing.T) {
	body := picture(1003, 7) // its base64 has padding, and every digit
	std, web := base64.StdEncoding.EncodeToString(body), base64.URLEncoding.EncodeToString(body)
	wrapped := strings.Join(strings.SplitAfter(std, "A"), " \r\n\t")
	large := picture(3<<20, 7)
	for name, c := range map[string]struct {
		url      string
		want     []byte
		ext      string
		warnings int
	}{
		"base64":               {"data:image/png;base64," + std, body, ".png", 0},
		"upper case":           {"DATA:IMAGE/PNG;BASE64," + std, body, ".png", 0},
		"no media type":        {"data:;base64," + std, body, ".png", 0},
		"parameters":           {"data:image/png;charset=utf-8;name=a.png;base64," + std, body, ".png", 0},
		"base64 is not last":   {"data:image/png;base64;charset=utf-8," + std, body, ".png", 0},
		"blanks around it":     {"data: image/png ; base64 ," + std, body, ".png", 0},
		"white space":          {"data:image/png;base64," + wrapped, body, ".png", 0},
		"pluses as blanks":     {"data:image/png;base64," + strings.ReplaceAll(std, "+", " "), body, ".png", 0},
		"lines of 76":          {"data:image/png;base64," + lines(std, 76, " "), body, ".png", 0},
		"lines that are full":  {"data:image/png;base64," + lines(std, len(std)/4, " "), body, ".png", 0},
		"no semicolon":         {"data:base64," + std, body, ".png", 0},
		"alphabet for URLs":    {"data:image/png;base64," + web, body, ".png", 0},
		"no padding":           {"data:image/png;base64," + strings.TrimRight(std, "="), body, ".png", 0},
		"URLs, no padding":     {"data:image/png;base64," + strings.TrimRight(web, "="), body, ".png", 0},
		"base64, encoded":      {"data:image/png;base64," + percent([]byte(std)), body, ".png", 0},
		"base64, for a query":  {"data:image/png;base64," + url.QueryEscape(std), body, ".png", 0},
		"a fragment":           {"data:image/png;base64," + std + "#page=1", body, ".png", 0},
		"percent-encoded":      {"data:image/png," + percent(body), body, ".png", 0},
		"large":                {"data:image/png;base64," + base64.StdEncoding.EncodeToString(large), large, ".png", 0},
		"another media type":   {"data:image/jpeg;base64," + std, body, ".png", 1},
		"SVG":                  {"data:image/svg+xml," + url.PathEscape(svgText), []byte(svgText), ".svg", 0},
		"SVG, hardly encoded":  {"data:image/svg+xml;utf8," + svgText, []byte(svgText), ".svg", 0},
		"SVG, base64":          {"data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svgText)), []byte(svgText), ".svg", 0},
		"SVG, no media type":   {"data:," + url.PathEscape(svgText), []byte(svgText), ".svg", 0},
		"an unfinished escape": {"data:image/svg+xml," + strings.Replace(url.PathEscape(svgText), "%25", "%", 1), []byte(svgText), ".svg", 0},
	} {
		t.Run(name, func(t *testing.T) {
			part := &memPart{}
			r := fetched(t, newClient(t, Config{Connections: 4}), c.url, part)
			mustBe(t, r, part, c.want)
			if !r.Proven || r.Ext != c.ext || len(r.Warnings) != c.warnings || r.Host != "" {
				t.Errorf("%+v", r)
			}
			size, err := newClient(t, Config{}).Size(t.Context(), request(c.url))
			if err != nil || size != int64(len(c.want)) {
				t.Errorf("size %d, %v", size, err)
			}
		})
	}
}

func TestCase_A18_MalformedDataURLIsNothingToFetch(t *testing.T) {
	std := base64.StdEncoding.EncodeToString(picture(1000, 7))
	for _, raw := range []string{
		"data:", "data:image/png", "data:image/png;base64", "data:image/png;base64;" + std,
		"data:image/png;base64,A", "data:image/png;base64,AAAAA", "data:image/png;base64,!!!!", "data:image/png;base64,AA=A",
		"data:image/png;base64," + std[:400] + "%00" + std[400:], "data:image/png;base64,é" + std,
	} {
		part := &memPart{data: []byte("untouched")}
		f := failed(t, newClient(t, Config{}), raw, part, Nothing)
		if string(part.data) != "untouched" || f.Status != 0 || strings.Contains(f.Error(), "AAA") {
			t.Errorf("%.60s: %v, %q", raw, f, part.data)
		}
	}
}

func TestCase_A18_DataIsJudgedLikeAnyBody(t *testing.T) {
	c := newClient(t, Config{MaxSize: 1000})
	failed(t, c, "data:image/png;base64,"+base64.StdEncoding.EncodeToString(picture(1001, 7)), &memPart{}, Rule)
	for _, raw := range []string{
		"data:,", "data:image/png;base64,", "data:image/png,<html>no</html>", "data:text/plain,hello",
		"data:application/json;base64," + base64.StdEncoding.EncodeToString([]byte(`{"error":"no"}`)),
	} {
		failed(t, c, raw, &memPart{}, NotMedia)
	}
	failed(t, c, "data:image/png;base64,"+base64.StdEncoding.EncodeToString(picture(500, 7)), &memPart{reserveErr: run.ErrNoRoom}, NoRoom)
}

// A server cannot send its client to one: what it sends is to come from where it says.
func TestCase_A18_RedirectToADataURLIsRefused(t *testing.T) {
	failed(t, newClient(t, Config{}), serve(t, to(302, "data:image/png;base64,AAAA")), &memPart{}, Rule)
}

func FuzzData(f *testing.F) {
	for _, s := range []string{"data:image/png;base64,AAAA", "data:,%41%", "data:;base64,A=A=", "data:a;base64;b,-_ #x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		d, err := parseData(raw)
		if err != nil {
			return
		}
		once, err1 := io.ReadAll(d.reader())
		again, err2 := io.ReadAll(iotest.OneByteReader(d.reader()))
		if (err1 == nil) != (err2 == nil) || err1 == nil && !bytes.Equal(once, again) || len(once) > len(raw) {
			t.Fatalf("%d bytes (%v), and byte by byte %d (%v)", len(once), err1, len(again), err2)
		}
	})
}
