package backlog

import "time"

// How the rate limit of a host is learned.
const (
	lowerEvery  = 10 * time.Second
	leastRate   = 0.5              // requests per second
	regain      = 0.1              // of the limit before it was lowered, every lowerEvery
	leastRegain = 0.5              // requests per second, every lowerEvery
	limitKept   = 10 * time.Minute // after the host last wanted to be asked less
	countSpan   = 5 * time.Second
	atOnce      = 100 * time.Millisecond
	doubtTime   = 20 * time.Second
	doubtful    = 4 // times as many answers as refusals
)

// rateLimit is how many requests per second a host gets: a fixed number, or one that is
// learned of its throttling. One that never throttled is not limited at all.
//
// Two different assets turned away for the host's own sake within 10 s lower it: to
// half of what it was, or of the requests that were made in the last 5 to 10 s if
// that is less, at most once in 10 s and never below 0.5 a second. One asset alone
// may be refused for its own sake, and a probe of a closed host says that it is
// closed still, not how much it bears. Every 10 s a tenth of the limit before comes
// back, 0.5 a second at least, and 10 min after it was last lowered it is over. What
// a tenth of a second holds may be asked for at once.
//
// Both assets may have been refused for their own sake. So it is taken back where one
// of them fails again while others are had, and over after 20 s where four times as
// many were had as were turned away. After that only a host that turned an asset away
// which was had later lowers it.
type rateLimit struct {
	rate    float64       // requests per second when it was last lowered, or fixed; 0: not limited
	step    float64       // by which it grows; 0: it is fixed
	lowered time.Duration // when
	due     time.Duration // when the next request would come were all of them evenly apart
	extra   bool          // the last request began no transfer

	turned   uint32 // the asset that was turned away last, by its order of arrival
	turnedAt time.Duration
	wasAway  bool // there was one

	by       [2]uint32  // the assets that lowered it last; known where was is
	was      *rateLimit // as it was before that
	count    int        // assets that were turned away, with less than 10 s between them
	answered int        // assets that were had since it was lowered
	mistaken bool       // it was lowered for assets that failed for their own sake
	proven   bool       // an asset that was turned away was had later: it is the host that does so
	provenAt time.Duration

	// The requests in the span that began at since, and in the one before.
	since       time.Duration
	now, before int
}

// at is the limit at that time, in requests per second; 0: none.
func (p *rateLimit) at(now time.Duration) float64 {
	if p.rate <= 0 || p.step <= 0 {
		return p.rate
	}
	if now-p.lowered >= limitKept || p.doubtful() && now-p.lowered >= doubtTime && p.answered >= doubtful*p.count {
		p.mistaken = p.mistaken || now-p.lowered < limitKept
		p.rate = 0
		return 0
	}
	return p.rate + p.step*float64((now-p.lowered)/lowerEvery)
}

// every is the time from one request to the next; 0: none.
func (p *rateLimit) every(now time.Duration) time.Duration {
	if r := p.at(now); r > 0 {
		return time.Duration(float64(time.Second) / r)
	}
	return 0
}

// asked notes a request, and returns when there may be another; 0: at once.
func (p *rateLimit) asked(now time.Duration, extra bool) (next time.Duration) {
	switch d := now - p.since; {
	case d >= 2*countSpan:
		p.before, p.now, p.since = 0, 0, now
	case d >= countSpan:
		p.before, p.now, p.since = p.now, 0, p.since+countSpan
	}
	p.now++
	every := p.every(now)
	if p.extra = extra; every == 0 {
		return 0
	}
	p.due = max(p.due, now) + every
	if next = p.next(every); next <= now {
		return 0
	}
	return next
}

func (p *rateLimit) next(every time.Duration) time.Duration { return p.due - max(atOnce-every, 0) }

// further is from when on a request that begins no transfer may be made. After one
// such an asset that waits has the next turn: an interval more is left to it.
func (p *rateLimit) further(now time.Duration) time.Duration {
	every := p.every(now)
	switch {
	case every == 0:
		return 0
	case p.extra:
		return p.next(every) + every
	}
	return p.next(every)
}

// seen is how many requests per second were made lately.
func (p *rateLimit) seen(now time.Duration) float64 {
	over := now - p.since
	if p.before > 0 {
		over += countSpan
	}
	return float64(p.now+p.before) / max(over, time.Second).Seconds()
}

// away notes that an asset was turned away by its host, which was open.
func (p *rateLimit) away(asset uint32, now time.Duration) {
	another := p.wasAway && p.turned != asset && now-p.turnedAt < lowerEvery
	first := p.turned
	switch {
	case another:
		p.count++
	case now-p.turnedAt >= lowerEvery:
		p.count = 1
	}
	p.turned, p.turnedAt, p.wasAway = asset, now, true
	fixed := p.rate > 0 && p.step <= 0
	r := p.at(now)
	if fixed || !another || r > 0 && now-p.lowered < lowerEvery || p.mistaken && p.doubtful() {
		return
	}
	from := p.seen(now)
	if r > 0 {
		from = min(from, r)
	}
	p.answered = 0
	p.by, p.was = [2]uint32{first, asset}, &rateLimit{rate: p.rate, step: p.step, lowered: p.lowered}
	p.rate, p.step, p.lowered = max(from/2, leastRate), max(from*regain, leastRegain), now
}

// doubtful reports whether all that were turned away may have been so for their own
// sake: no such asset was had lately.
func (p *rateLimit) doubtful() bool { return !p.proven || p.lowered-p.provenAt >= limitKept }

// forgive takes back what the asset had a part in, as its failures turned out to be its
// own, unless the host is known to turn others away, too.
func (p *rateLimit) forgive(asset uint32) {
	if p.was == nil || p.by[0] != asset && p.by[1] != asset || !p.doubtful() {
		return
	}
	p.rate, p.step, p.lowered, p.wasAway = p.was.rate, p.was.step, p.was.lowered, false
	p.due, p.was, p.mistaken = 0, nil, true
}

// SetRateLimit gives every host that many requests per second, whatever it answers; 0: as
// many as it bears, see rateLimit. It comes before the first asset.
func (b *Backlog) SetRateLimit(requests float64) { b.fixed = requests }

// RateLimit is how many requests per second the ticket's host gets; 0: as many as there
// are to make.
func (b *Backlog) RateLimit(t *Ticket, now time.Duration) float64 { return t.host.limit.at(now) }

// Further takes a turn of the host's for a request that begins no transfer: for a
// size, or for more of an asset that is being fetched. At most every other request
// is such a one while assets of the host may start. It costs nothing where the host
// is not limited. at: there is no turn now, ask again then.
func (b *Backlog) Further(host string, now time.Duration) (at time.Duration, ok bool) {
	h := b.host(host)
	if at := h.limit.further(now); at > now {
		return at, false
	}
	h.rest = h.limit.asked(now, true)
	b.place(h)
	return 0, true
}
