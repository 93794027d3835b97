package transfer

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

// extras are the connections beyond the first of each transfer, over all of them:
// so many transfers at once do not multiply what a host or a link is asked for. One
// transfer from a host at a time tries whether more connections bring more, so that
// its judgement is of its own step; what it finds holds for all for a while.
type extras struct {
	mu    sync.Mutex
	lent  int
	hosts map[string]*extraHost
}

type extraHost struct {
	stepping bool
	until    time.Time // no connection is added before
}

// lend gives out as many of n as there are of most.
func (e *extras) lend(n, most int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n = max(min(n, most-e.lent), 0)
	e.lent += n
	return n
}

func (e *extras) giveBack(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lent -= n
}

func (e *extras) host(name string) *extraHost {
	h := e.hosts[name]
	if h == nil {
		if e.hosts == nil || len(e.hosts) >= mostHosts {
			e.hosts = map[string]*extraHost{} // at worst one more is tried at once
		}
		h = &extraHost{}
		e.hosts[name] = h
	}
	return h
}

// begin lets a transfer try a step; false: not now. stepped ends it.
func (e *extras) begin(host string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.host(host)
	if h.stepping || now.Before(h.until) {
		return false
	}
	h.stepping = true
	return true
}

// stepped ends the steps of a transfer: none from that host before a time.
func (e *extras) stepped(host string, until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.host(host)
	h.stepping = false
	if until.After(h.until) {
		h.until = until
	}
}

// spare notes that a host wants no more connections than it has.
func (e *extras) spare(host string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.host(host).until = time.Now().Add(sparedTime)
}
