package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/signedurl"
)

// wideLeast is from how many missing bytes on an asset may get further connections:
// below it a single one is done before two others would have been made and judged.
const wideLeast = 8 << 20

const (
	pieceTime   = 3 * time.Second        // that a connection is to be busy with a piece
	pieceLeast  = pieceTime / 3          // as the end comes
	splitTime   = 100 * time.Millisecond // that half of a rest must be worth to be taken over
	dyingMargin = 10 * time.Second
	hashStep    = 8 << 20 // bytes read back and hashed at a time
	shortTick   = 10 * time.Millisecond
	longTick    = 100 * time.Millisecond
)

// wide is the transfer of one large asset over as many connections, lanes, as make
// it faster. Its one coordinator, in the goroutine of the fetch, opens and closes
// lanes, hashes the front as it grows and tells of the progress.
//
// A lane's failure is its own: its piece is given back and another goes on with it.
// Only when the last lane ends with bytes missing has the transfer failed, by what
// ended the last. An answer from another object ends it all: everything is asked for
// anew, over one connection.
type wide struct {
	f      *fetch
	parent context.Context // of the fetch
	ctx    context.Context // of the lanes
	cancel context.CancelFunc
	wake   chan struct{} // a lane has ended
	group  sync.WaitGroup
	grow   growth
	dies   time.Time    // when the URL does, by our clock; zero: not known
	moved  atomic.Int64 // bytes that came in

	hashing sync.Mutex // of f.sums

	mu       sync.Mutex
	pieces   *division
	lanes    []*lane
	stepping bool     // this is the transfer that tries steps
	each     float64  // bytes a second that a lane brings
	length   int64    // of the pieces that are given out
	written  int64    // bytes in the part
	most     int      // lanes
	readOn   bool     // answers that go on are not given up: they are read on to the next gap, however far
	dying    bool     // the URL may be dead by now, or is soon: what runs may be all that is ever answered
	refused  bool     // a request was
	hurt     bool     // a lane has failed since the last look
	anew     bool     // everything, as the object changed
	again    bool     // the rest, over one connection
	err      *Failure // of the lane that failed last
	fatal    error    // of the part, or of our rules
	panicked any
}

// divides reports whether the rest of the object is fetched as a wide one.
func (f *fetch) divides(told contentRange) bool {
	switch {
	case f.mark.ETag == "":
		return false
	case len(f.part.Beyond()) > 0:
		return true
	}
	return !f.narrow && f.cfg.Connections > 1 && told.total-told.first >= wideLeast && told.last+1 == told.total
}

// copyWide reads the rest of the object, beginning with an answer that carries it
// from the part's front on, and says what to ask for next; nil: nothing.
func (f *fetch) copyWide(ctx context.Context, a *answer, q query, told contentRange) (*query, error) {
	b := f.watch(a)
	defer b.stop()
	if !f.judged {
		if err := f.copyFrom(ctx, a, b, 0, told.length(), true); err != nil {
			return nil, err
		}
	}
	if f.media.Refused != "" || f.have == told.last+1 {
		if err := f.copyFrom(ctx, a, b, f.have-told.first, told.length(), false); err != nil {
			return nil, err
		}
		return f.rest(a, q, told)
	}
	w := f.newWide(ctx, a)
	defer w.end()
	w.start(a, b, told.last+1)
	if err := w.coordinate(); err != nil {
		return nil, err
	}
	w.end()
	return w.outcome()
}

func (f *fetch) newWide(ctx context.Context, a *answer) *wide {
	w := &wide{f: f, parent: ctx, wake: make(chan struct{}, 1), most: max(f.cfg.Connections, 1), length: leastPiece}
	w.ctx, w.cancel = context.WithCancel(ctx)
	if f.narrow {
		w.most = 1
	}
	if expiry, ok := signedurl.Expiry(f.req.URL); ok {
		now := a.received
		if date := serverDate(a.resp.Header); !date.IsZero() {
			now = date
		}
		w.dies = a.received.Add(expiry.Sub(now))
	}
	there := f.part.Beyond()
	w.pieces = divide(f.have, f.mark.Total, there)
	w.written = f.mark.Total - w.pieces.left()
	return w
}

// start makes the first lane, with the answer that runs already.
func (w *wide) start(a *answer, b *body, limit int64) {
	l := w.lane()
	l.limit, l.piece = limit, w.pieces.take(w.length)
	context.AfterFunc(l.ctx, func() { a.cancel(nil) })
	w.launch(l, a, b)
}

func (w *wide) lane() *lane {
	l := &lane{w: w, mem: w.f.c.buffers.Get().(*buffer)}
	l.ctx, l.cancel = context.WithCancel(w.ctx)
	l.touch()
	w.lanes = append(w.lanes, l)
	return l
}

func (w *wide) launch(l *lane, a *answer, b *body) {
	w.group.Go(func() {
		var err error
		defer func() { w.ended(l, err, recover()) }()
		err = l.run(a, b)
	})
}

// end waits for the lanes, which it ends.
func (w *wide) end() {
	w.cancel()
	w.group.Wait()
	w.endSteps()
	if w.panicked != nil {
		p := w.panicked
		w.panicked = nil
		panic(p)
	}
}

// coordinate goes on until no lane is left. The error is the part's.
func (w *wide) coordinate() error {
	timer := time.NewTimer(window)
	defer timer.Stop()
	for {
		behind, err := w.follow()
		if err != nil {
			w.end()
			return w.f.damaged(w.parent, Disk, err)
		}
		tick, over := w.steer(time.Now())
		switch {
		case over:
			return nil
		case behind:
			continue
		}
		timer.Reset(tick)
		select {
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// follow hashes the front as far as it has come, some of it at a time, and tells of
// the progress.
func (w *wide) follow() (behind bool, err error) {
	w.mu.Lock()
	front, written := w.pieces.front(), w.written
	w.mu.Unlock()
	w.f.progress(written, w.f.mark.Total)
	w.hashing.Lock()
	defer w.hashing.Unlock()
	if w.ctx.Err() != nil {
		return false, nil
	}
	err = w.f.sums.catchUp(w.ctx, w.f.part, front, hashStep, w.f.mem.data[:])
	if w.ctx.Err() != nil {
		err = nil // stopped: what is not hashed now is when it goes on
	}
	return w.f.sums.at < front, err
}

// steer looks after the lanes, and says when to look again.
func (w *wide) steer(now time.Time) (tick time.Duration, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lanes) == 0 {
		return 0, true
	}
	for _, l := range w.lanes {
		if l.piece != nil && l.piece.rest() == 0 && l.still(now) {
			w.close(l) // another has taken over what it was to bring
		}
	}
	w.grow.note(sample{now, w.moved.Load(), w.f.c.moved.Load()})
	if w.f.req.Valve != nil && w.f.req.Valve.Held() {
		w.hold()
		w.endSteps()
		w.grow = growth{}
		return longTick, false
	}
	w.f.rejoined = false
	w.steps(now)
	switch {
	case w.grow.stage != idle:
		return shortTick, false
	case len(w.lanes) < w.most && !now.Before(w.grow.again):
		return window, false
	}
	return longTick, false
}

// steps opens lanes and closes them again, as their rates tell.
func (w *wide) steps(now time.Time) {
	stepping, waiting, some := 0, 0, false
	for _, l := range w.lanes {
		if !l.step {
			continue
		}
		stepping++
		if l.got.Load() > 0 {
			some = true
		} else {
			waiting++
		}
	}
	if w.hurt || w.grow.stage != idle && stepping == 0 {
		w.hurt = false
		w.grow.changed(now)
	}
	w.measure(now, len(w.lanes))
	switch w.grow.judge(now, waiting, some, w.pieces.left()) {
	case stepUp:
		w.open(now)
	case stepBack:
		for _, l := range w.lanes {
			if l.step {
				w.close(l)
			}
		}
	}
	if w.grow.stage == idle {
		w.endSteps()
	}
}

// endSteps lets other transfers try.
func (w *wide) endSteps() {
	if w.stepping {
		w.stepping = false
		w.f.c.extra.stepped(w.f.host, w.grow.again)
	}
}

// measure sets the length of pieces by what a lane brings: long enough that asking
// for them costs little, short enough that the front is never far behind, and so
// that all end together. Where the URL may die on the way, all there is is shared
// out at once: an answer that runs goes on then, a new one is refused.
func (w *wide) measure(now time.Time, lanes int) {
	r, ok := w.grow.rate(w.grow.steady)
	if !ok {
		return
	}
	w.each = r.own / float64(len(w.lanes))
	share := w.pieces.free() / int64(lanes)
	if needs := float64(w.pieces.left()) / max(r.own, 1); !w.dies.IsZero() &&
		w.dies.Sub(now).Seconds() < 2*needs+dyingMargin.Seconds() {
		w.length, w.readOn, w.dying = max(share, leastPiece), true, true
		return
	}
	w.length = min(int64(w.each*pieceTime.Seconds()), max(share, int64(w.each*pieceLeast.Seconds())))
	w.length = min(max(w.length, leastPiece), mostPiece)
}

// open doubles the lanes, as far as that is allowed and there is work.
func (w *wide) open(now time.Time) {
	n := len(w.lanes)
	more := min(n, w.most-n, int(w.pieces.left()/leastPiece)-n)
	if more <= 0 || !w.stepping && !w.f.c.extra.begin(w.f.host, now) {
		return
	}
	w.stepping = true
	if more = w.f.c.extra.lend(more, w.f.cfg.Connections); more == 0 {
		return
	}
	w.measure(now, n+more)
	for _, l := range w.lanes {
		l.step = false
		if l.piece != nil && l.limit > l.piece.end {
			w.pieces.extend(l.piece, w.length-l.piece.rest()) // else its answer would soon be of no more use
		}
	}
	w.grow.opened(now, more, n)
	for range more {
		l := w.lane()
		l.extra, l.step = true, true
		w.launch(l, nil, nil)
	}
}

// close ends a lane on purpose.
func (w *wide) close(l *lane) {
	l.closed = true
	l.cancel()
}

// hold leaves one lane, whose answer carries all that is missing: only such a one
// can be held until after its URL has died. Where there is none, one is asked for,
// once.
func (w *wide) hold() {
	w.readOn, w.dying = true, true
	keep := w.lanes[0]
	for _, l := range w.lanes {
		if l.limit == w.f.mark.Total && l.piece.done == w.pieces.front() {
			keep = l
		}
	}
	if !w.f.rejoined && (keep.limit < w.f.mark.Total || keep.piece.done > w.pieces.front()) {
		w.f.rejoined, w.again = true, true
		w.cancel()
		return
	}
	for _, l := range w.lanes {
		if l != keep {
			w.close(l)
		}
	}
}

// ended takes a lane out.
func (w *wide) ended(l *lane, err error, panicked any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.lanes {
		if w.lanes[i] == l {
			w.lanes = append(w.lanes[:i:i], w.lanes[i+1:]...)
			break
		}
	}
	if l.piece != nil {
		w.pieces.drop(l.piece)
	}
	if l.extra {
		w.f.c.extra.giveBack(1)
	}
	l.cancel()
	w.f.c.buffers.Put(l.mem)
	switch {
	case panicked != nil:
		w.panicked = fmt.Errorf("%v\n%s", panicked, debug.Stack())
		w.cancel()
	case err != nil && !l.closed:
		w.failed(l, err)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// failed notes what ended a lane.
func (w *wide) failed(l *lane, err error) {
	var f *Failure
	switch {
	case errors.Is(err, errChanged):
		w.anew = true
		w.cancel()
		return
	case !errors.As(err, &f):
		f = &Failure{Class: classify(err), Host: w.f.host, Err: err}
	}
	switch f.Class {
	case Disk, NoRoom, Rule:
		w.fatal = f
		w.cancel()
		return
	case Network, Stall:
	default:
		if w.ctx.Err() != nil {
			return
		}
		// It wants no more requests than there are, or the URL is dead. Only the last
		// lane's refusal is the transfer's.
		w.most = max(len(w.lanes), 1)
		w.readOn, w.refused = true, true
		if f.Class == Throttled || f.Class == Refused && (w.dies.IsZero() || time.Now().Before(w.dies)) {
			w.f.c.extra.spare(w.f.host)
		}
	}
	w.err, w.hurt = f, true
}

// outcome is what to ask for when no lane is left; nil: nothing.
func (w *wide) outcome() (*query, error) {
	f := w.f
	f.received += w.moved.Load()
	f.have = w.pieces.front()
	f.progress(w.written, f.mark.Total)
	switch {
	case f.have == f.mark.Total:
		f.proven = true
		return nil, nil
	case w.fatal != nil:
		return nil, w.fatal
	case w.anew:
		f.narrow = true
		return &query{}, nil
	case w.again:
		return &query{from: f.have, etag: f.mark.ETag}, nil
	case w.err != nil && w.err.Status == http.StatusPreconditionFailed:
		return &query{all: true}, nil
	case w.err != nil:
		return nil, w.err
	}
	return nil, &Failure{Class: Network, Host: f.host, Err: fmt.Errorf("%s: its connections ended with bytes missing", signedurl.Source(f.req.URL))}
}
