package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/transfer/ranges"
)

// stillTime is how long a worker receives nothing before another one may take its range.
const stillTime = 2 * time.Second

// errChanged is an answer that is not of the object the part began with, or no range
// of it.
var errChanged = errors.New("a further connection was answered with another object, or without a range")

// worker is one connection at a time of a transfer that has several: it fetches
// ranges until there are none.
type worker struct {
	p      *parallel
	ctx    context.Context
	cancel context.CancelFunc
	mem    *buffer
	extra  bool         // lent by the client
	step   bool         // of the step that is not judged yet; the coordinator's
	got    atomic.Int64 // bytes
	last   atomic.Int64 // when something came, or was asked for; as UnixNano

	// Guarded by p.mu:
	assigned *ranges.Range
	limit    int64 // where its answer ends; 0: it has none
	closed   bool  // on purpose
}

func (w *worker) touch() { w.last.Store(time.Now().UnixNano()) }

func (w *worker) still(now time.Time) bool {
	return now.UnixNano()-w.last.Load() > int64(stillTime)
}

// run fetches range after range. a is an answer that is running already, of which b
// is at the range's beginning; nil: there is none.
func (w *worker) run(a *answer, b *body) (err error) {
	for {
		if a == nil {
			if !w.p.assign(w) {
				return nil
			}
			if a, err = w.ask(); err != nil {
				return err
			}
			b = w.p.f.watch(a)
		}
		err = w.read(a, b)
		b.stop()
		w.p.setLimit(w, 0)
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

// ask asks for the range under If-Range and holds the answer against it.
func (w *worker) ask() (*answer, error) {
	w.touch()
	f := w.p.f
	from, to := w.p.bounds(w)
	a, err := f.ask(w.ctx, query{from: from, to: to, etag: f.mark.ETag})
	if err != nil {
		return nil, err
	}
	told, tells := parseContentRange(a.resp.Header)
	size := a.resp.ContentLength
	switch status := a.resp.StatusCode; {
	case status == http.StatusPartialContent && tells && told.first == from && told.total == f.mark.Total &&
		strong(a.resp.Header) == f.mark.ETag && (size < 0 || size == told.length()):
		w.p.setLimit(w, told.last+1)
		return a, nil
	case status >= 200 && status < 300, status == http.StatusRequestedRangeNotSatisfiable:
		a.close() // all of an object may follow
		return nil, errChanged
	}
	a.drain()
	return nil, a.refusal()
}

// read reads an answer into the worker's range, and into those after it as long as
// the answer goes on and they are free.
func (w *worker) read(a *answer, b *body) error {
	from, limit := w.p.stream(w)
	pos, fill := from, 0
	endless := a.endless(limit - from)
	for {
		n, err := b.Read(w.mem.data[fill:])
		fill += n
		if n > 0 {
			w.touch()
			w.got.Add(int64(n))
			w.p.moved.Add(int64(n))
		}
		over := pos + int64(fill) - limit
		switch {
		case over > 0 && !endless:
			return errTooMuch
		case over >= 0 && endless:
			fill, err = fill-int(over), io.EOF
		}
		if fill < flushBytes && err == nil && !w.p.reaches(w, pos+int64(fill)) {
			continue
		}
		more, werr := w.flush(pos, w.mem.data[:fill])
		if pos, fill = pos+int64(fill), 0; werr != nil || !more {
			return werr
		}
		switch {
		case err == io.EOF && pos == limit && limit-from >= shortestGain:
			return nil // a part of what was asked for: the rest is asked for again
		case err == io.EOF:
			return brokenOff(pos-from, limit-from, io.ErrUnexpectedEOF)
		case err != nil:
			return brokenOff(pos-from, limit-from, err)
		}
	}
}

// flush writes what of b, which is at pos in the object, is the worker's to write.
// more: the answer is to be read on.
func (w *worker) flush(pos int64, b []byte) (more bool, err error) {
	for {
		at, n, more := w.p.claim(w, pos, len(b))
		if n == 0 {
			return more, nil
		}
		b, pos = b[at-pos:], at
		if err := w.p.write(w, b[:n], pos); err != nil {
			return false, err
		}
		b, pos = b[n:], pos+int64(n)
	}
}

// write writes what was claimed.
func (p *parallel) write(w *worker, b []byte, off int64) error {
	n, err := p.f.part.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return partError(fmt.Errorf("at byte %d: %w", off, err))
	}
	p.mu.Lock()
	front := p.ranges.Front() == off
	w.assigned.Written += int64(n)
	p.written += int64(n)
	p.mu.Unlock()
	if !front {
		return nil // read back and hashed when the front has come to it
	}
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if p.f.sums.at == off {
		p.f.sums.add(b)
	}
	return nil
}
