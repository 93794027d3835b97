package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/transfer/media"
)

// flushBytes is how much is gathered before it is written: TLS hands out 16 KiB
// at a time, and a write to a network file system costs a round trip.
const flushBytes = 64 << 10

// begin starts the part again for an object of total bytes, of which this answer
// carries length (-1: not told). Its room is reserved first. A small object that
// comes at once is read into memory before the part is touched: no half of it is
// ever there, so it needs no mark.
func (f *fetch) begin(a *answer, total, length int64) error {
	if err := f.fits(total); err != nil {
		return err
	}
	f.have, f.reserved, f.judged = 0, 0, false
	f.layers, f.unfound = nil, nil
	f.mark = run.PartMark{Total: total}
	f.sums = newSums(a.resp.Header, length == total)
	f.progress(0, total)
	f.small = total >= 0 && total <= bufferSize && length == total
	if f.small {
		return f.reserve(total)
	}
	if total >= 0 {
		f.mark.ETag = strong(a.resp.Header)
		f.mark.Object, f.mark.Early = signedurl.Object(f.req.URL), f.req.Early
	}
	if err := f.part.Reset(f.mark); err != nil {
		return partError(err)
	}
	return f.reserve(total) // where it is not known, append does, a step at a time
}

// resume goes on with the part from where it ends.
func (f *fetch) resume(a *answer, told contentRange) error {
	if err := f.fits(told.total); err != nil {
		return err
	}
	if f.sums == nil {
		f.sums = newSums(a.resp.Header, false)
	}
	missing := told.total - f.have
	for _, s := range f.part.Beyond() {
		missing -= s.Len()
	}
	return f.reserve(missing)
}

// fits holds a size against the largest that is allowed.
func (f *fetch) fits(size int64) error {
	if f.cfg.MaxSize > 0 && size > f.cfg.MaxSize {
		return &ruleError{fmt.Sprintf("%d bytes are more than download.max_size (%d) allows", size, f.cfg.MaxSize)}
	}
	return nil
}

func (f *fetch) reserve(n int64) error {
	if n <= 0 {
		return nil
	}
	if err := f.part.Reserve(n); err != nil {
		return partError(err)
	}
	return nil
}

// copy reads the answer's body into the part: length bytes, or where that is -1
// as many as come.
func (f *fetch) copy(ctx context.Context, a *answer, length int64) error {
	b := f.watch(a)
	defer b.stop()
	return f.copyFrom(ctx, a, b, 0, length, false)
}

// copyFrom is copy of a body of which so many bytes have been read. With headOnly
// it stops when the part's head can be judged.
func (f *fetch) copyFrom(ctx context.Context, a *answer, b *body, got, length int64, headOnly bool) error {
	// Where the connection's end is the body's, a range is over when it is there.
	endless := a.endless(length)
	var fill int
	for {
		if b.shut() && !f.small {
			if err := f.append(ctx, f.mem.data[:fill]); err != nil {
				return err
			}
			fill = 0
			if err := f.waitHeld(b); err != nil {
				return brokenOff(got, length, err)
			}
		}
		n, err := b.Read(f.mem.data[fill:])
		fill, got = fill+n, got+int64(n)
		f.received += int64(n)
		if length >= 0 && got > length {
			return errTooMuch
		}
		if endless && got == length {
			err = io.EOF
		}
		if f.small {
			if err == nil && got < length {
				continue
			}
			if err == nil || err == io.EOF {
				err = f.gathered(b, got, length, err)
			}
			if err != io.EOF {
				return brokenOff(got, length, err) // nothing of it was written
			}
		}
		if fill >= flushBytes || err != nil {
			if werr := f.append(ctx, f.mem.data[:fill]); werr != nil {
				return werr
			}
			fill = 0
			if err == nil && headOnly && f.judged {
				return nil
			}
		}
		if err == io.EOF && length >= 0 && got < length {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return brokenOff(got, length, err)
		}
	}
}

// endless reports whether the connection's end is the body's, though its length is
// known.
func (a *answer) endless(length int64) bool {
	return length >= 0 && a.resp.ContentLength < 0 && len(a.resp.TransferEncoding) == 0
}

// standBy waits, without memory of its own, until the held transfer may be read again:
// many are held at a time.
func (f *fetch) waitHeld(b *body) error {
	f.c.buffers.Put(f.mem)
	f.mem = nil
	_, err := b.pass(1)
	f.mem = f.c.buffers.Get().(*buffer)
	return err
}

// brokenOff says how far a body came.
func brokenOff(got, length int64, err error) error {
	if length < 0 {
		return fmt.Errorf("broken off after %d bytes: %w", got, err)
	}
	return fmt.Errorf("broken off after %d of %d bytes: %w", got, length, err)
}

// gathered makes ready for a small object that is in memory: io.EOF where the
// part may be written.
func (f *fetch) gathered(b *body, got, length int64, err error) error {
	for err == nil { // the end is not known yet
		var n int
		if n, err = b.Read(f.mem.head[:1]); n > 0 {
			return errTooMuch
		}
	}
	if err != io.EOF {
		return err
	}
	if got < length {
		return io.ErrUnexpectedEOF
	}
	if err := f.part.Reset(f.mark); err != nil {
		return partError(err)
	}
	return io.EOF
}

// append writes p behind what is there, hashes it, and judges the head.
func (f *fetch) append(ctx context.Context, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if f.mark.Total < 0 {
		if err := f.fits(f.have + int64(len(p))); err != nil {
			return err
		}
		if f.reserved < int64(len(p)) {
			if err := f.reserve(reserveStep); err != nil {
				return err
			}
			f.reserved = reserveStep
		}
		f.reserved -= int64(len(p))
	}
	n, err := f.part.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return partError(err)
	}
	before := f.have
	f.have += int64(n)
	f.progress(f.have, f.mark.Total)
	if f.sums.at == before {
		f.sums.add(p)
	} else if err := f.sums.catchUp(ctx, f.part, f.have, 4*int64(n), f.mem.data[:]); err != nil {
		return f.damaged(ctx, Disk, err) // p's memory was free for this: it is written
	}
	if !f.judged && f.have >= media.HeadSize {
		if err := f.judge(); err != nil {
			return err
		}
	}
	if f.judged && f.media.Refused != "" && f.have >= quarantineBytes {
		return f.notMedia()
	}
	return nil
}
