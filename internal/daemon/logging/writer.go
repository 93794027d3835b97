package logging

import (
	"cmp"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// lineWriter passes lines to a writer that may block, without blocking for long itself:
// a log pipe whose reader has stopped must not stop a download.
type lineWriter struct {
	lines   chan []byte
	done    chan struct{}
	dropped atomic.Int64
	epoch   time.Time
	behind  atomic.Int64 // ns from epoch to when the reader fell behind; 0: it has not
	once    sync.Once
}

const (
	// bufferedLines is how many lines are kept for a slow reader.
	bufferedLines = 4096
	// maxDelay is how long all who log wait together for a reader that is behind. A file
	// is behind for a moment when one commit accepts 10,000 runs.
	maxDelay = time.Second
	// flushTime is how long close waits for the reader.
	flushTime = time.Second
)

// write passes lines to w until it receives a nil one. lost returns the line that
// reports n dropped lines.
func (l *lineWriter) write(w io.Writer, lost func(n int64) []byte) {
	defer close(l.done)
	for line := range l.lines {
		if line == nil {
			return
		}
		if n := l.dropped.Swap(0); n > 0 {
			w.Write(lost(n)) //nolint:errcheck // as below
		}
		w.Write(line) //nolint:errcheck // an error of the log has nowhere to go
		if len(l.lines) <= bufferedLines/2 {
			l.behind.Store(0)
		}
	}
}

// Write queues a line, or drops it. It never returns an error.
func (l *lineWriter) Write(p []byte) (int, error) {
	line := append([]byte(nil), p...) // zap reuses p
	select {
	case l.lines <- line:
		return len(p), nil
	default:
	}
	since := max(time.Since(l.epoch), 1)
	if !l.behind.CompareAndSwap(0, int64(since)) {
		since = cmp.Or(time.Duration(l.behind.Load()), since) // it may have caught up just now
	}
	late := time.NewTimer(since + maxDelay - time.Since(l.epoch))
	defer late.Stop()
	select {
	case l.lines <- line:
	case <-late.C:
		l.dropped.Add(1)
	}
	return len(p), nil
}

// Sync does nothing: lines are written as they come.
func (l *lineWriter) Sync() error { return nil }

func (l *lineWriter) close() {
	l.once.Do(func() {
		late := time.NewTimer(flushTime)
		defer late.Stop()
		select {
		case l.lines <- nil: // senders may still be there: the channel is never closed
		case <-late.C:
			return
		}
		select {
		case <-l.done:
		case <-late.C:
		}
	})
}
