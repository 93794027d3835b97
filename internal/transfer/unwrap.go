package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/assetd/assetd/internal/transfer/media"
)

// decoders is how many bodies are decoded at a time: each takes up to media.MaxLayers windows.
const decoders = 8

// errPacked is a body that has to be decoded and came in a way that does not allow it:
// without its Content-Encoding, which shows when it is in the part, or as a range.
var errPacked = errors.New("the body is compressed")

// unwrapped is a body behind its encodings.
type unwrapped struct {
	raw     *rawBody
	head    []byte  // of what came
	levels  []level // outermost first
	reader  *bufio.Reader
	unfound []string      // encodings that were named and not found
	slots   chan struct{} // to give a slot back to; nil: none was taken
}

// level is one encoding that is decoded.
type level struct {
	media.Coding
	io.ReadCloser
	from *bufio.Reader
}

// rawBody reads a body as it comes and keeps what went wrong: decoders say it in words
// of their own.
type rawBody struct {
	f      *fetch
	b      *body
	got    int64
	length int64 // -1: not known
	err    error // other than io.EOF
}

func (r *rawBody) Read(p []byte) (int, error) {
	n, err := r.b.Read(p)
	r.got += int64(n)
	r.f.received += int64(n)
	switch {
	case r.length >= 0 && r.got > r.length:
		err = errTooMuch
	case r.length >= 0 && r.got < r.length && err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// takeEncoded reads an answer from the first byte on whose body is encoded, and puts it
// into the part decoded. False: it is not, and is to be read like any other. Identity was
// asked for, so this is rare, and kept simple: one connection, never held open, not to be
// gone on with, as neither length nor digests nor validators are those of what is stored.
func (f *fetch) takeEncoded(ctx context.Context, a *answer, q query, length int64) (done bool, err error) {
	said := codings(a.resp.Header)
	if len(said) == 0 && !f.unpack {
		return false, nil
	}
	b := f.watch(a)
	defer b.stop()
	b.throttle, b.conn = nil, nil
	u := &unwrapped{raw: &rawBody{f: f, b: b, length: length}}
	defer u.close()
	if err := u.open(said, f.c.decoders); err != nil {
		return true, f.undecoded(a, u, err)
	}
	if len(u.levels) == 0 {
		head, _ := u.reader.Peek(u.reader.Buffered())
		a.resp.Body = readAgain{io.MultiReader(bytes.NewReader(bytes.Clone(head)), a.resp.Body), a.resp.Body}
		f.received -= u.raw.got
		return false, nil
	}
	if a.resp.StatusCode == http.StatusPartialContent && !q.all {
		return true, errPacked
	}
	if err := f.begin(a, -1, -1); err != nil {
		return true, err
	}
	f.sums = newSums(nil, false)
	f.unfound = u.unfound
	for _, l := range u.levels {
		f.layers = append(f.layers, l.Name)
	}
	return true, f.copyDecoded(ctx, a, u)
}

// readAgain is a body of which the first bytes were read already.
type readAgain struct {
	io.Reader
	io.Closer
}

// open looks from layer to layer what the bytes are, until it has those of the asset.
// slots bounds how many bodies are decoded at a time.
func (u *unwrapped) open(said []string, slots chan struct{}) error {
	u.reader, u.unfound = bufio.NewReaderSize(u.raw, media.HeadSize), said
	for {
		head, err := u.reader.Peek(media.HeadSize)
		if err != nil && err != io.EOF {
			return err
		}
		if u.head == nil {
			u.head = bytes.Clone(head)
		}
		c, ok := media.Outermost(head, u.unfound)
		switch {
		case !ok:
			return nil
		case len(u.levels) == media.MaxLayers:
			return fmt.Errorf("it is encoded more than %d times", media.MaxLayers)
		case u.slots == nil:
			select {
			case slots <- struct{}{}:
				u.slots = slots
			case <-u.raw.b.ctx.Done():
				return context.Cause(u.raw.b.ctx)
			}
		}
		if i := slices.Index(u.unfound, c.Name); i >= 0 {
			u.unfound = slices.Delete(slices.Clone(u.unfound), i, i+1)
		}
		l := level{Coding: c, from: u.reader}
		if l.ReadCloser, err = c.Open(l.from); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		u.levels = append(u.levels, l)
		u.reader = bufio.NewReaderSize(l, media.HeadSize)
	}
}

// Read decodes. A decoder that panics on hostile bytes has an error.
func (l level) Read(p []byte) (n int, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			n, err = 0, fmt.Errorf("%s: %v", l.Name, cause)
		}
	}()
	n, err = l.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%s: %w", l.Name, err)
	}
	return n, err
}

// end reports, as an error, what follows the end of an encoding.
func (u *unwrapped) end() error {
	for _, l := range slices.Backward(u.levels) {
		if l.Trailer {
			if _, err := io.CopyN(io.Discard, l.from, drainBytes); err == nil {
				return fmt.Errorf("%s: more than %d bytes follow its end", l.Name, drainBytes)
			} else if err != io.EOF {
				return err
			}
			continue
		}
		if _, err := l.from.Peek(1); err == nil {
			return fmt.Errorf("%s: bytes follow its end", l.Name)
		} else if err != io.EOF {
			return err
		}
	}
	return nil
}

func (u *unwrapped) close() {
	for _, l := range u.levels {
		l.Close() //nolint:errcheck // what it decoded is known
	}
	if u.slots != nil {
		<-u.slots
	}
}

// copyDecoded puts the decoded body into the part. Each encoding tells its own end.
func (f *fetch) copyDecoded(ctx context.Context, a *answer, u *unwrapped) error {
	for fill := 0; ; {
		n, err := u.reader.Read(f.mem.data[fill:])
		if fill += n; fill >= flushBytes || err != nil {
			if err := f.append(ctx, f.mem.data[:fill]); err != nil {
				return err
			}
			fill = 0
		}
		if err == io.EOF {
			if err = u.end(); err == nil {
				f.proven = true
				return nil
			}
		}
		if err != nil {
			return f.undecoded(a, u, err)
		}
	}
}

// undecoded is the failure of a body that could not be decoded: of the network where
// it did not come whole, else of the body.
func (f *fetch) undecoded(a *answer, u *unwrapped, err error) error {
	raw := u.raw
	switch {
	case raw.err != nil:
		return brokenOff(raw.got, raw.length, raw.err)
	case raw.b.ctx.Err() != nil:
		return context.Cause(raw.b.ctx)
	case errors.Is(err, io.ErrUnexpectedEOF) && raw.length < 0 && len(a.resp.TransferEncoding) == 0:
		return brokenOff(raw.got, -1, err) // the connection's end, so it may have been cut
	}
	if f.layers == nil { // nothing was put into the part: for quarantine it gets what came
		if err := f.begin(a, -1, -1); err != nil {
			return err
		}
		if _, err := f.part.Write(u.head); err != nil {
			return partError(err)
		}
	}
	names := make([]string, len(u.levels))
	for i, l := range u.levels {
		names[i] = l.Name
	}
	f.media.Refused = "the body is encoded and cannot be decoded: " + clean(err.Error())
	if len(names) > 0 {
		f.media.Refused += " (" + strings.Join(names, " in ") + ")"
	}
	return f.notMedia()
}

// stillPacked is what becomes of a body that is compressed now that it is in the part: it
// is asked for once more, to be decoded on the way.
func (f *fetch) stillPacked() error {
	if f.unpack || f.layers != nil {
		f.media.Refused = "the body is compressed and cannot be decoded"
		return nil
	}
	return errPacked
}

// plainly reports whether the bytes are those of a media file, whatever encoding they are
// said to have.
func (f *fetch) plainly() bool {
	return f.media.Kind != "" && f.media.Sure
}

// codings lists the content codings that an answer's header names.
func codings(h http.Header) []string { return media.Codings(h.Values("Content-Encoding")) }

// encodingWarnings says what was made of a body that is, or is said to be, encoded.
func (f *fetch) encodingWarnings() []string {
	said := quote(strings.Join(codings(f.header), ", "))
	switch {
	case len(f.layers) > 0 && len(codings(f.header)) > 0:
		return []string{"sent with Content-Encoding " + said + " though none was asked for, stored decoded"}
	case len(f.layers) > 0:
		return []string{"sent compressed (" + strings.Join(f.layers, ", ") + ") without a Content-Encoding, stored decoded"}
	case len(f.unfound) > 0:
		return []string{"sent with Content-Encoding " + said + ", but not encoded: stored as sent"}
	}
	return nil
}
