package magnific

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

const (
	maxBody   = 8 << 20   // bytes of an answer, packed or not
	smallBody = 256 << 10 // bytes: larger ones are in memory one at a time
	maxError  = 64 << 10  // bytes read of an answer that is no 2xx
	maxQuote  = 300       // runes of the server's words in an error
)

// cutError is a body whose end did not come.
type cutError struct{ cause error }

func (e *cutError) Error() string { return "the answer broke off: " + e.cause.Error() }
func (e *cutError) Unwrap() error { return e.cause }

// read is the answer in the body of a 200, or of another 2xx. Whatever the number of calls in flight,
// one large body is read and parsed at a time.
func (c *Client) read(ctx context.Context, resp *http.Response) (run.Answer, error) {
	if resp.ContentLength > maxBody {
		return run.Answer{}, tooLarge()
	}
	plain, err := unpacked(resp)
	if err != nil {
		return run.Answer{}, err
	}
	var body bytes.Buffer
	if err := readUpTo(&body, plain, smallBody); err != nil {
		return run.Answer{}, err
	}
	if body.Len() >= smallBody {
		select {
		case c.large <- struct{}{}:
			defer func() { <-c.large }()
		case <-ctx.Done():
			return run.Answer{}, &cutError{ctx.Err()}
		}
		if rest := resp.ContentLength - smallBody; rest > 0 { // growing would take it twice over
			body.Grow(int(rest) + bytes.MinRead)
		}
		if err := readUpTo(&body, plain, maxBody+1-smallBody); err != nil {
			return run.Answer{}, err
		}
		if body.Len() > maxBody {
			return run.Answer{}, tooLarge()
		}
	}
	return Parse(body.Bytes())
}

func tooLarge() error { return fmt.Errorf("its body is larger than %d MiB", maxBody>>20) }

func readUpTo(to *bytes.Buffer, from io.Reader, limit int64) error {
	_, err := io.CopyN(to, from, limit)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return unreadable(err)
}

// unreadable tells a damaged body from one that broke off: the first would come
// again as it is, the second is the network's.
func unreadable(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, new(flate.CorruptInputError)) {
		return fmt.Errorf("its gzip encoding is damaged: %w", err)
	}
	return &cutError{err}
}

// unpacked is the body without its content encoding. None was asked for, but some
// gateways pack all the same.
func unpacked(resp *http.Response) (io.Reader, error) {
	// What comes in is bounded like what goes out: gzip can hold any number of
	// empty blocks.
	raw := io.LimitReader(resp.Body, maxBody+1)
	switch encoding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		return raw, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, unreadable(err)
		}
		return z, nil
	default:
		return nil, fmt.Errorf("its content encoding %.20q was not asked for", encoding)
	}
}

// message is what the server says about its refusal, nil where it says nothing
// that can be shown. {"message": "..."} is documented; {"error": ...} and problem
// details (RFC 9457) occur.
func message(resp *http.Response, key string) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return nil
	}
	plain, err := document(body)
	if err != nil {
		return nil
	}
	if text := said(plain, 0); text != "" {
		return errors.New(harmless(signedurl.Redact(text), key))
	}
	return nil
}

// said is the most telling text of an error body, empty where there is none. The
// first of a list stands for all.
func said(doc []byte, depth int) string {
	const deepest = 3 // {"errors": [{"error": {"message": ...}}]}
	switch {
	case isString(doc):
		return strings.TrimSpace(text(doc))
	case isList(doc):
		for first := range elements(doc) {
			return said(first, depth)
		}
	case isObject(doc) && depth <= deepest:
		fields, err := members(doc)
		if err != nil {
			return ""
		}
		o := object{fields}
		for _, name := range []string{"message", "detail", "error", "errors", "msg", "error_description", "title"} {
			if text := said(o.get(name), depth+1); text != "" {
				return text
			}
		}
	}
	return ""
}

// harmless is a text in one line and of bounded length, left out where it quotes
// the key or a good part of it.
func harmless(text, key string) string {
	part := min(8, len(key))
	lower, secret := strings.ToLower(text), strings.ToLower(key)
	for i := 0; part > 0 && i+part <= len(secret); i++ {
		if strings.Contains(lower, secret[i:i+part]) {
			return "(left out: the server's words quote the key)"
		}
	}
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
	line = strings.Join(strings.Fields(line), " ")
	if runes := []rune(line); len(runes) > maxQuote {
		line = string(runes[:maxQuote]) + "…"
	}
	return line
}
