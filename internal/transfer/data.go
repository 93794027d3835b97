package transfer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/assetd/assetd/internal/signedurl"
)

// A data URL (RFC 2397) holds its object itself. It is decoded as a body that a
// server sent, so that sizes, media types and the part are judged in the same way.

// dataScheme is the scheme of an answer that nobody sent.
const dataScheme = "data"

var errBase64 = errors.New("the data URL holds what is no base64")

// answerData is the answer that a data URL stands for. The error is a *Failure.
func (f *fetch) answerData(ctx context.Context) (*answer, error) {
	d, err := parseData(f.req.URL)
	var size int64
	if err == nil {
		size, err = io.Copy(io.Discard, d.reader()) // counts, and finds what cannot be decoded
	}
	if err != nil {
		return nil, &Failure{Class: Nothing, Err: fmt.Errorf("%s: %w", signedurl.Source(f.req.URL), err)}
	}
	a := &answer{at: target{scheme: dataScheme}, received: f.c.clk.Now(), resp: &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: size, Body: io.NopCloser(d.reader()),
	}}
	if d.mediaType != "" {
		a.resp.Header.Set("Content-Type", d.mediaType)
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	return a, nil
}

// data is a data URL, taken apart.
type data struct {
	mediaType string // without base64; empty: none
	payload   string
	base64    bool
}

// parseData reads a data URL as browsers do (https://fetch.spec.whatwg.org/#data-urls),
// and takes base64 also where other parameters follow it.
func parseData(rawURL string) (d data, err error) {
	mediaType, payload, ok := signedurl.Data(rawURL)
	if !ok {
		return data{}, errors.New("the data URL has no comma, so no data")
	}
	d.payload, _, _ = strings.Cut(payload, "#")
	if strings.EqualFold(strings.TrimSpace(mediaType), "base64") {
		mediaType = ";base64" // the semicolon is left out now and then
	}
	var kept []string
	for i, param := range strings.Split(mediaType, ";") {
		param = strings.TrimSpace(param)
		if i > 0 && strings.EqualFold(param, "base64") {
			d.base64 = true
			continue
		}
		kept = append(kept, param)
	}
	if d.base64 && lostPlus(d.payload) {
		d.payload = strings.ReplaceAll(d.payload, " ", "+")
	}
	if kept[0] != "" {
		d.mediaType = strings.Join(kept, ";")
	}
	return d, nil
}

// lostPlus reports whether the blanks of base64 were pluses, as what was decoded like a
// form's value has them: single ones at irregular distances, and no other white space or
// plus. Blanks that wrap lines are all at one distance.
func lostPlus(payload string) bool {
	words := strings.Split(strings.Trim(payload, " "), " ")
	if len(words) < 2 || strings.ContainsAny(payload, "\r\n\t\f+-") || strings.Contains(payload, "%2") {
		return false
	}
	for _, word := range words[:len(words)-1] {
		if len(word) != len(words[0]) {
			return true
		}
	}
	return len(words[len(words)-1]) > len(words[0])
}

// reader gives the bytes that the URL holds.
func (d data) reader() io.Reader {
	plain := &percentReader{text: d.payload}
	if !d.base64 {
		return plain
	}
	return base64.NewDecoder(base64.RawStdEncoding, &base64Reader{from: plain})
}

// percentReader decodes percent-encoding. A % without two hex digits is itself.
type percentReader struct{ text string }

func (r *percentReader) Read(p []byte) (n int, err error) {
	for ; n < len(p) && r.text != ""; n++ {
		p[n] = r.text[0]
		used := 1
		if p[n] == '%' && len(r.text) > 2 {
			high, low := hexDigit(r.text[1]), hexDigit(r.text[2])
			if high >= 0 && low >= 0 {
				p[n], used = byte(high<<4|low), 3
			}
		}
		r.text = r.text[used:]
	}
	if n == 0 && r.text == "" && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func hexDigit(c byte) int {
	return strings.IndexByte("0123456789abcdef", lower(c))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// base64Reader gives the digits of base64 in the standard alphabet: it drops blanks
// and the padding at the end, and knows the alphabet for URLs.
type base64Reader struct {
	from   *percentReader
	padded bool // nothing but blanks and padding may follow
}

func (r *base64Reader) Read(p []byte) (int, error) {
	for {
		n, err := r.from.Read(p)
		kept := 0
		for _, c := range p[:n] {
			switch {
			case strings.IndexByte(" \t\r\n\f", c) >= 0:
				continue
			case c == '=':
				r.padded = true
				continue
			case c == '-':
				c = '+'
			case c == '_':
				c = '/'
			}
			if r.padded || c >= 0x80 {
				return 0, errBase64
			}
			p[kept] = c
			kept++
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}
