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
	"github.com/assetd/assetd/internal/transfer/ranges"
)

// minParallel is from how many missing bytes on an asset may get further connections:
// below it a single one is done before two others would have been made and judged.
const minParallel = 8 << 20

const (
	rangeTime    = 3 * time.Second        // that a connection is to be busy with a range
	minRangeTime = rangeTime / 3          // as the end comes
	splitTime    = 100 * time.Millisecond // that half of a rest must be worth to be taken over
	expiryMargin = 10 * time.Second
	hashStep     = 8 << 20 // bytes read back and hashed at a time
	shortTick    = 10 * time.Millisecond
	longTick     = 100 * time.Millisecond
)

// parallel is the transfer of one large asset over as many connections, each with a worker, as make
// it faster. Its one coordinator, in the goroutine of the fetch, opens and closes
// workers, hashes the front as it grows and reports the progress.
//
// A worker's failure is its own: its range is given back and another continues it.
// Only when the last worker ends with bytes missing has the transfer failed, by what
// ended the last. An answer from another object ends it all: everything is asked for
// again, over one connection.
type parallel struct {
	f       *fetch
	parent  context.Context // of the fetch
	ctx     context.Context // of the workers
	cancel  context.CancelFunc
	wake    chan struct{} // a worker has ended
	group   sync.WaitGroup
	scale   ranges.Autoscaler
	expires time.Time    // when the URL expires, by our clock; zero: not known
	moved   atomic.Int64 // bytes that came in

	hashing sync.Mutex // of f.sums

	mu         sync.Mutex
	ranges     *ranges.Set
	workers    []*worker
	stepping   bool     // this is the transfer that tries steps
	perWorker  float64  // bytes per second that a worker receives
	length     int64    // of the ranges that are given out
	written    int64    // bytes in the part
	maxWorkers int      // workers
	readOn     bool     // answers that go on are not given up: they are read on to the next gap, however far
	expiring   bool     // the URL may have expired, or expires soon: what runs may be all that is ever answered
	refused    bool     // a request was
	failing    bool     // a worker has failed since the last look
	changed    bool     // everything, as the object changed
	rejoin     bool     // the rest, over one connection
	err        *Failure // of the worker that failed last
	fatal      error    // of the part, or of our rules
	panicked   any
}

// divides reports whether the rest of the object is fetched in parallel.
func (f *fetch) divides(told contentRange) bool {
	switch {
	case f.mark.ETag == "":
		return false
	case len(f.part.Beyond()) > 0:
		return true
	}
	return !f.single && f.cfg.Connections > 1 && told.total-told.first >= minParallel && told.last+1 == told.total
}

// copyParallel reads the rest of the object, beginning with an answer that carries it
// from the part's front on, and says what to ask for next; nil: nothing.
func (f *fetch) copyParallel(ctx context.Context, a *answer, q query, told contentRange) (*query, error) {
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
	p := f.newParallel(ctx, a)
	defer p.end()
	p.start(a, b, told.last+1)
	if err := p.coordinate(); err != nil {
		return nil, err
	}
	p.end()
	return p.outcome()
}

func (f *fetch) newParallel(ctx context.Context, a *answer) *parallel {
	p := &parallel{f: f, parent: ctx, wake: make(chan struct{}, 1), maxWorkers: max(f.cfg.Connections, 1), length: ranges.MinSize}
	p.ctx, p.cancel = context.WithCancel(ctx)
	if f.single {
		p.maxWorkers = 1
	}
	if expiry, ok := signedurl.Expiry(f.req.URL); ok {
		now := a.received
		if date := serverDate(a.resp.Header); !date.IsZero() {
			now = date
		}
		p.expires = a.received.Add(expiry.Sub(now))
	}
	there := f.part.Beyond()
	p.ranges = ranges.Missing(f.have, f.mark.Total, there)
	p.written = f.mark.Total - p.ranges.Left()
	return p
}

// start makes the first worker, with the answer that runs already.
func (p *parallel) start(a *answer, b *body, limit int64) {
	w := p.newWorker()
	w.limit, w.assigned = limit, p.ranges.Take(p.length)
	context.AfterFunc(w.ctx, func() { a.cancel(nil) })
	p.launch(w, a, b)
}

func (p *parallel) newWorker() *worker {
	w := &worker{p: p, mem: p.f.c.buffers.Get().(*buffer)}
	w.ctx, w.cancel = context.WithCancel(p.ctx)
	w.touch()
	p.workers = append(p.workers, w)
	return w
}

func (p *parallel) launch(w *worker, a *answer, b *body) {
	p.group.Go(func() {
		var err error
		defer func() { p.ended(w, err, recover()) }()
		err = w.run(a, b)
	})
}

// end waits for the workers, which it ends.
func (p *parallel) end() {
	p.cancel()
	p.group.Wait()
	p.endSteps()
	if p.panicked != nil {
		r := p.panicked
		p.panicked = nil
		panic(r)
	}
}

// coordinate goes on until no worker is left. The error is the part's.
func (p *parallel) coordinate() error {
	timer := time.NewTimer(ranges.Window)
	defer timer.Stop()
	for {
		behind, err := p.follow()
		if err != nil {
			p.end()
			return p.f.damaged(p.parent, Disk, err)
		}
		tick, over := p.steer(time.Now())
		switch {
		case over:
			return nil
		case behind:
			continue
		}
		timer.Reset(tick)
		select {
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// follow hashes the front as far as it has come, some of it at a time, and reports
// the progress.
func (p *parallel) follow() (behind bool, err error) {
	p.mu.Lock()
	front, written := p.ranges.Front(), p.written
	p.mu.Unlock()
	p.f.progress(written, p.f.mark.Total)
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if p.ctx.Err() != nil {
		return false, nil
	}
	err = p.f.sums.catchUp(p.ctx, p.f.part, front, hashStep, p.f.mem.data[:])
	if p.ctx.Err() != nil {
		err = nil // stopped: what is not hashed now is when it goes on
	}
	return p.f.sums.at < front, err
}

// steer looks after the workers, and says when to look again.
func (p *parallel) steer(now time.Time) (tick time.Duration, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.workers) == 0 {
		return 0, true
	}
	for _, w := range p.workers {
		if w.assigned != nil && w.assigned.Rest() == 0 && w.still(now) {
			p.close(w) // another has taken over what it was to bring
		}
	}
	p.scale.Note(ranges.Sample{At: now, Own: p.moved.Load(), All: p.f.c.moved.Load()})
	if p.f.req.Throttle != nil && p.f.req.Throttle.Held() {
		p.hold()
		p.endSteps()
		p.scale = ranges.Autoscaler{}
		return longTick, false
	}
	p.f.rejoined = false
	p.steps(now)
	switch {
	case !p.scale.Idle():
		return shortTick, false
	case len(p.workers) < p.maxWorkers && !now.Before(p.scale.Again):
		return ranges.Window, false
	}
	return longTick, false
}

// steps opens workers and closes them again, as their rates tell.
func (p *parallel) steps(now time.Time) {
	stepping, waiting, some := 0, 0, false
	for _, w := range p.workers {
		if !w.step {
			continue
		}
		stepping++
		if w.got.Load() > 0 {
			some = true
		} else {
			waiting++
		}
	}
	if p.failing || !p.scale.Idle() && stepping == 0 {
		p.failing = false
		p.scale.Changed(now)
	}
	p.measure(now, len(p.workers))
	switch p.scale.Judge(now, waiting, some, p.ranges.Left()) {
	case ranges.Grow:
		p.open(now)
	case ranges.Shrink:
		for _, w := range p.workers {
			if w.step {
				p.close(w)
			}
		}
	}
	if p.scale.Idle() {
		p.endSteps()
	}
}

// endSteps lets other transfers try.
func (p *parallel) endSteps() {
	if p.stepping {
		p.stepping = false
		p.f.c.budget.Stepped(p.f.host, p.scale.Again)
	}
}

// measure sets the length of ranges by what a worker receives: long enough that asking
// for them costs little, short enough that the front does not lag far, and so
// that all end together. Where the URL may expire on the way, all there is is shared
// out at once: an answer that runs goes on then, a new one is refused.
func (p *parallel) measure(now time.Time, lanes int) {
	r, ok := p.scale.SteadyRate()
	if !ok {
		return
	}
	p.perWorker = r.Own / float64(len(p.workers))
	share := p.ranges.Free() / int64(lanes)
	if needs := float64(p.ranges.Left()) / max(r.Own, 1); !p.expires.IsZero() &&
		p.expires.Sub(now).Seconds() < 2*needs+expiryMargin.Seconds() {
		p.length, p.readOn, p.expiring = max(share, ranges.MinSize), true, true
		return
	}
	p.length = min(int64(p.perWorker*rangeTime.Seconds()), max(share, int64(p.perWorker*minRangeTime.Seconds())))
	p.length = min(max(p.length, ranges.MinSize), ranges.MaxSize)
}

// open doubles the workers, as far as that is allowed and there is work.
func (p *parallel) open(now time.Time) {
	n := len(p.workers)
	more := min(n, p.maxWorkers-n, int(p.ranges.Left()/ranges.MinSize)-n)
	if more <= 0 || !p.stepping && !p.f.c.budget.Begin(p.f.host, now) {
		return
	}
	p.stepping = true
	if more = p.f.c.budget.Lend(more, p.f.cfg.Connections); more == 0 {
		return
	}
	p.measure(now, n+more)
	for _, w := range p.workers {
		w.step = false
		if w.assigned != nil && w.limit > w.assigned.End {
			p.ranges.Extend(w.assigned, p.length-w.assigned.Rest()) // else its answer would soon be of no more use
		}
	}
	p.scale.Opened(now, more, n)
	for range more {
		w := p.newWorker()
		w.extra, w.step = true, true
		p.launch(w, nil, nil)
	}
}

// close ends a worker on purpose. Its range is free at once: the answer of another one
// may come to it before the worker has ended.
func (p *parallel) close(w *worker) {
	w.closed = true
	if w.assigned != nil {
		p.ranges.Return(w.assigned)
	}
	w.cancel()
}

// hold leaves one worker, whose answer carries all that is missing: only such a one
// can be held until after its URL has expired. Where there is none, one is asked for,
// once.
func (p *parallel) hold() {
	p.readOn, p.expiring = true, true
	keep := p.workers[0]
	for _, w := range p.workers {
		if w.limit == p.f.mark.Total && w.assigned.Written == p.ranges.Front() {
			keep = w
		}
	}
	if !p.f.rejoined && (keep.limit < p.f.mark.Total || keep.assigned.Written > p.ranges.Front()) {
		p.f.rejoined, p.rejoin = true, true
		p.cancel()
		return
	}
	for _, w := range p.workers {
		if w != keep {
			p.close(w)
		}
	}
}

// ended takes a worker out.
func (p *parallel) ended(w *worker, err error, panicked any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.workers {
		if p.workers[i] == w {
			p.workers = append(p.workers[:i:i], p.workers[i+1:]...)
			break
		}
	}
	if w.assigned != nil {
		p.ranges.Drop(w.assigned)
	}
	if w.extra {
		p.f.c.budget.GiveBack(1)
	}
	w.cancel()
	p.f.c.buffers.Put(w.mem)
	switch {
	case panicked != nil:
		p.panicked = fmt.Errorf("%v\n%s", panicked, debug.Stack())
		p.cancel()
	case err != nil && !w.closed:
		p.failed(w, err)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// failed notes what ended a worker.
func (p *parallel) failed(w *worker, err error) {
	var f *Failure
	switch {
	case errors.Is(err, errChanged):
		p.changed = true
		p.cancel()
		return
	case !errors.As(err, &f):
		f = &Failure{Class: classify(err), Host: p.f.host, Err: err}
	}
	switch f.Class {
	case Disk, NoRoom, Rule:
		p.fatal = f
		p.cancel()
		return
	case Network, Stall:
	default:
		if p.ctx.Err() != nil {
			return
		}
		// It wants no more requests than there are, or the URL has expired. Only the last
		// worker's refusal is the transfer's.
		p.maxWorkers = max(len(p.workers), 1)
		p.readOn, p.refused = true, true
		if f.Class == Throttled || f.Class == Refused && (p.expires.IsZero() || time.Now().Before(p.expires)) {
			p.f.c.budget.Spare(p.f.host)
		}
	}
	p.err, p.failing = f, true
}

// outcome is what to ask for when no worker is left; nil: nothing.
func (p *parallel) outcome() (*query, error) {
	f := p.f
	f.received += p.moved.Load()
	f.have = p.ranges.Front()
	f.progress(p.written, f.mark.Total)
	switch {
	case f.have == f.mark.Total:
		f.proven = true
		return nil, nil
	case p.fatal != nil:
		return nil, p.fatal
	case p.changed:
		f.single = true
		return &query{}, nil
	case p.rejoin:
		return &query{from: f.have, etag: f.mark.ETag}, nil
	case p.err != nil && p.err.Status == http.StatusPreconditionFailed:
		return &query{all: true}, nil
	case p.err != nil:
		return nil, p.err
	}
	return nil, &Failure{Class: Network, Host: f.host, Err: fmt.Errorf("%s: its connections ended with bytes missing", signedurl.Source(f.req.URL))}
}
