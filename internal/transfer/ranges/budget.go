package ranges

import (
	"sync"
	"time"
)

// sparedTime is how long a host that refused an additional connection is asked for
// no other, and mostHosts how many hosts are remembered.
const (
	sparedTime = 10 * time.Minute
	mostHosts  = 1000
)

// Budget is the connections beyond the first of each transfer, over all of them:
// so many transfers at once do not multiply what a host or a link is asked for. One
// transfer from a host at a time tries whether more connections bring more, so that
// its judgement is of its own step; what it finds holds for all for a while.
type Budget struct {
	mu    sync.Mutex
	lent  int
	hosts map[string]*budgetHost
}

type budgetHost struct {
	stepping bool
	until    time.Time // no connection is added before
}

// Lend lends as many of n as there are of most.
func (b *Budget) Lend(n, most int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = max(min(n, most-b.lent), 0)
	b.lent += n
	return n
}

// GiveBack returns n that were lent.
func (b *Budget) GiveBack(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent -= n
}

func (b *Budget) host(name string) *budgetHost {
	h := b.hosts[name]
	if h == nil {
		if b.hosts == nil || len(b.hosts) >= mostHosts {
			b.hosts = map[string]*budgetHost{} // at worst one more is tried at once
		}
		h = &budgetHost{}
		b.hosts[name] = h
	}
	return h
}

// Begin lets a transfer try a step; false: not now. Stepped ends it.
func (b *Budget) Begin(host string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.host(host)
	if h.stepping || now.Before(h.until) {
		return false
	}
	h.stepping = true
	return true
}

// Stepped ends the steps of a transfer: none from that host before a time.
func (b *Budget) Stepped(host string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.host(host)
	h.stepping = false
	if until.After(h.until) {
		h.until = until
	}
}

// Spare notes that a host wants no more connections than it has.
func (b *Budget) Spare(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.host(host).until = time.Now().Add(sparedTime)
}
