package transfer

import "time"

// assign gives a lane its next piece: the first that is nobody's, else half of the
// largest that another has not got to yet. False: there is no work for it.
func (w *wide) assign(l *lane) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.piece != nil {
		if l.piece.rest() > 0 {
			return true // a short answer has left it
		}
		w.pieces.drop(l.piece)
		l.piece = nil
	}
	if w.ctx.Err() != nil || l.closed || w.lastRequests() && len(w.lanes) > 1 {
		return false
	}
	if l.piece = w.pieces.take(w.length); l.piece != nil {
		return true
	}
	now := time.Now()
	l.piece = w.pieces.split(int64(w.each*splitTime.Seconds()), func(p *piece) bool {
		for _, other := range w.lanes {
			if other.piece == p {
				return other.still(now)
			}
		}
		return true
	})
	return l.piece != nil
}

// lastRequests reports whether further requests are likely to be refused: those that
// were answered bring what they can, and a new one would only take it from them.
func (w *wide) lastRequests() bool {
	return w.refused || !w.dies.IsZero() && !time.Now().Before(w.dies)
}

// bounds is what a lane asks for.
func (w *wide) bounds(l *lane) (from, to int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.piece.at, l.piece.end
}

// stream is where a lane's answer stands, and where it ends.
func (w *wide) stream(l *lane) (from, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.piece.at, l.limit
}

func (w *wide) setLimit(l *lane, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.limit = limit
}

// reaches reports whether the lane's piece ends at an offset or before.
func (w *wide) reaches(l *lane, pos int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return pos >= l.piece.end
}

// claim says which of n bytes that stand at pos the lane may write: so many, from an
// offset on. Where there are none, more tells whether its answer is to be read on.
func (w *wide) claim(l *lane, pos int64, n int) (at int64, count int, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		p, end := l.piece, pos+int64(n)
		if p.rest() > 0 {
			at = max(p.at, pos)
			count = int(max(min(end, p.end)-at, 0))
			p.at += int64(count)
			return at, count, true
		}
		if w.overtake(l) || w.onward(l) {
			continue
		}
		if !w.readOn || l.closed || l.limit <= end || !w.busyBeyond(p) {
			return 0, 0, false
		}
		// Its answer may be the last that can bring what others fail to.
		p.end = max(p.end, end)
		p.at, p.done = p.end, p.end
		return 0, 0, true
	}
}

// busyBeyond reports whether others are at work behind the piece.
func (w *wide) busyBeyond(p *piece) bool {
	for _, q := range w.pieces.taken {
		if q != p && q.done < q.end && q.end > p.end {
			return true
		}
	}
	return false
}

// onward gives a lane whose piece is done what its answer carries next: what lies
// behind it, or after bytes that need not be fetched again, as long as reading over
// these is cheaper than asking anew.
func (w *wide) onward(l *lane) bool {
	p := l.piece
	if l.closed || l.limit <= p.end {
		return false
	}
	if w.pieces.extend(p, w.length) {
		return true
	}
	for _, g := range w.pieces.gaps {
		if g.From < p.end {
			continue
		}
		if g.From >= l.limit || !w.readOn && g.From-p.end > leastPiece {
			return false
		}
		next := w.pieces.takeFrom(g.From, w.length)
		w.pieces.drop(p)
		l.piece = next
		return true
	}
	return false
}

// overtake gives the lane what another one has asked for and was not answered yet,
// where its own answer stands right before that: the bytes are at hand, and where the
// URL may be dead what the other is waiting for may be a refusal.
func (w *wide) overtake(l *lane) bool {
	p := l.piece
	if !w.dying || l.closed || l.limit <= p.end {
		return false
	}
	for _, other := range w.lanes {
		if q := other.piece; q != nil && q != p && other.limit == 0 && q.at == p.end && q.rest() > 0 {
			p.end, q.end = q.end, q.at
			return true
		}
	}
	return false
}
