package transfer

import (
	"time"

	"github.com/assetd/assetd/internal/transfer/ranges"
)

// assign gives a worker its next range: the first that is free, else half of the
// largest that another has not got to yet. False: there is no work for it.
func (p *parallel) assign(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.assigned != nil {
		if w.assigned.Rest() > 0 {
			return true // a short answer has left it
		}
		p.ranges.Drop(w.assigned)
		w.assigned = nil
	}
	if p.ctx.Err() != nil || w.closed || p.lastRequests() && len(p.workers) > 1 {
		return false
	}
	if w.assigned = p.ranges.Take(p.length); w.assigned != nil {
		return true
	}
	now := time.Now()
	w.assigned = p.ranges.Split(int64(p.perWorker*splitTime.Seconds()), func(r *ranges.Range) bool {
		for _, other := range p.workers {
			if other.assigned == r {
				return other.still(now)
			}
		}
		return true
	})
	return w.assigned != nil
}

// lastRequests reports whether further requests are likely to be refused: those that
// were answered bring what they can, and a new one would only take it from them.
func (p *parallel) lastRequests() bool {
	return p.refused || !p.expires.IsZero() && !time.Now().Before(p.expires)
}

// bounds is what a worker asks for.
func (p *parallel) bounds(w *worker) (from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.assigned.Claimed, w.assigned.End
}

// stream is where a worker's answer is, and where it ends.
func (p *parallel) stream(w *worker) (from, limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.assigned.Claimed, w.limit
}

func (p *parallel) setLimit(w *worker, limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.limit = limit
}

// reaches reports whether the worker's range ends at an offset or before.
func (p *parallel) reaches(w *worker, pos int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pos >= w.assigned.End
}

// claim says which of n bytes that are at pos the worker may write: so many, from an
// offset on. Where there are none, more tells whether its answer is to be read on.
func (p *parallel) claim(w *worker, pos int64, n int) (at int64, count int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		r, end := w.assigned, pos+int64(n)
		if r.Rest() > 0 {
			at = max(r.Claimed, pos)
			count = int(max(min(end, r.End)-at, 0))
			r.Claimed += int64(count)
			return at, count, true
		}
		if p.overtake(w) || p.onward(w) {
			continue
		}
		if !p.readOn || w.closed || w.limit <= end || !p.ranges.BusyAfter(r) {
			return 0, 0, false
		}
		// Its answer may be the last that can bring what others fail to.
		r.End = max(r.End, end)
		r.Claimed, r.Written = r.End, r.End
		return 0, 0, true
	}
}

// onward gives a worker whose range is done what its answer carries next: what lies
// after it, or after bytes that need not be fetched again, as long as reading over
// these is cheaper than a new request.
func (p *parallel) onward(w *worker) bool {
	r := w.assigned
	if w.closed || w.limit <= r.End {
		return false
	}
	if p.ranges.Extend(r, p.length) {
		return true
	}
	gap, ok := p.ranges.NextGap(r.End)
	if !ok || gap >= w.limit || !p.readOn && gap-r.End > ranges.MinSize {
		return false
	}
	next := p.ranges.TakeFrom(gap, p.length)
	p.ranges.Drop(r)
	w.assigned = next
	return true
}

// overtake frees what another worker has asked for and was not answered yet, where this
// one's answer comes to it next: the bytes are at hand, and where the URL may have expired
// what the other is waiting for may be a refusal.
func (p *parallel) overtake(w *worker) bool {
	at := w.assigned.End
	if !p.expiring || w.closed {
		return false
	}
	end := w.limit
	if gap, ok := p.ranges.NextGap(at); ok {
		end = min(end, gap)
	}
	for _, other := range p.workers {
		if q := other.assigned; q != nil && other != w && other.limit == 0 && at <= q.Claimed && q.Claimed < end && q.Rest() > 0 {
			p.ranges.Return(q)
			return true
		}
	}
	return false
}
