package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stillTime is how long a lane brings nothing before another one may take its piece.
const stillTime = 2 * time.Second

// errChanged is an answer that is not of the object the part began with, or no range
// of it.
var errChanged = errors.New("a further connection was answered with another object, or without a range")

// lane is one connection at a time of a transfer that has several: it fetches
// pieces until there are none.
type lane struct {
	w      *wide
	ctx    context.Context
	cancel context.CancelFunc
	mem    *buffer
	extra  bool         // lent by the client
	step   bool         // of the step that is not judged yet; the coordinator's
	got    atomic.Int64 // bytes
	last   atomic.Int64 // when something came, or was asked for; as UnixNano

	// Guarded by w.mu:
	piece  *piece
	limit  int64 // where its answer ends; 0: it has none
	closed bool  // on purpose
}

func (l *lane) touch() { l.last.Store(time.Now().UnixNano()) }

func (l *lane) still(now time.Time) bool {
	return now.UnixNano()-l.last.Load() > int64(stillTime)
}

// run fetches piece after piece. a is an answer that is running already, of which b
// stands at the piece's beginning; nil: there is none.
func (l *lane) run(a *answer, b *body) (err error) {
	for {
		if a == nil {
			if !l.w.assign(l) {
				return nil
			}
			if a, err = l.ask(); err != nil {
				return err
			}
			b = l.w.f.watch(a)
		}
		err = l.read(a, b)
		b.stop()
		l.w.setLimit(l, 0)
		if err != nil {
			var known *Failure
			if !errors.As(err, &known) {
				err = a.failed(classify(err), err)
			}
		}
		a.close()
		if a = nil; err != nil {
			return err
		}
	}
}

// ask asks for the piece under If-Range and holds the answer against it.
func (l *lane) ask() (*answer, error) {
	l.touch()
	f := l.w.f
	from, to := l.w.bounds(l)
	a, err := f.ask(l.ctx, query{from: from, to: to, etag: f.mark.ETag})
	if err != nil {
		return nil, err
	}
	told, tells := parseContentRange(a.resp.Header)
	size := a.resp.ContentLength
	switch status := a.resp.StatusCode; {
	case status == http.StatusPartialContent && tells && told.first == from && told.total == f.mark.Total &&
		strong(a.resp.Header) == f.mark.ETag && (size < 0 || size == told.length()):
		l.w.setLimit(l, told.last+1)
		return a, nil
	case status >= 200 && status < 300, status == http.StatusRequestedRangeNotSatisfiable:
		a.close() // all of an object may follow
		return nil, errChanged
	}
	a.drain()
	return nil, a.refusal()
}

// read reads an answer into the lane's piece, and into those behind it as long as
// the answer goes on and they are nobody's.
func (l *lane) read(a *answer, b *body) error {
	from, limit := l.w.stream(l)
	pos, fill := from, 0
	endless := a.endless(limit - from)
	for {
		n, err := b.Read(l.mem.data[fill:])
		fill += n
		if n > 0 {
			l.touch()
			l.got.Add(int64(n))
			l.w.moved.Add(int64(n))
		}
		over := pos + int64(fill) - limit
		switch {
		case over > 0 && !endless:
			return errTooMuch
		case over >= 0 && endless:
			fill, err = fill-int(over), io.EOF
		}
		if fill < flushBytes && err == nil && !l.w.reaches(l, pos+int64(fill)) {
			continue
		}
		more, werr := l.flush(pos, l.mem.data[:fill])
		if pos, fill = pos+int64(fill), 0; werr != nil || !more {
			return werr
		}
		switch {
		case err == io.EOF && pos == limit && limit-from >= shortestGain:
			return nil // a part of what was asked for: the rest is asked for anew
		case err == io.EOF:
			return brokenOff(pos-from, limit-from, io.ErrUnexpectedEOF)
		case err != nil:
			return brokenOff(pos-from, limit-from, err)
		}
	}
}

// flush writes what of b, which stands at pos in the object, is the lane's to write.
// more: the answer is to be read on.
func (l *lane) flush(pos int64, b []byte) (more bool, err error) {
	for {
		at, n, more := l.w.claim(l, pos, len(b))
		if n == 0 {
			return more, nil
		}
		b, pos = b[at-pos:], at
		if err := l.w.write(l, b[:n], pos); err != nil {
			return false, err
		}
		b, pos = b[n:], pos+int64(n)
	}
}

// write writes what was claimed.
func (w *wide) write(l *lane, b []byte, off int64) error {
	n, err := w.f.part.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return partError(fmt.Errorf("at byte %d: %w", off, err))
	}
	w.mu.Lock()
	front := w.pieces.front() == off
	l.piece.done += int64(n)
	w.written += int64(n)
	w.mu.Unlock()
	if !front {
		return nil // read back and hashed when the front has come to it
	}
	w.hashing.Lock()
	defer w.hashing.Unlock()
	if w.f.sums.at == off {
		w.f.sums.add(b)
	}
	return nil
}
