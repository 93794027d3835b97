package download

import (
	"context"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// hostFacts is what was seen of a host.
type hostFacts struct {
	meter
	latency time.Duration // from a request to its answer, smoothed; 0: not seen
	renews  bool          // fresh URLs that lead to it were had
	bytes   int64         // that came from it
	quiet   time.Duration // it is asked for no size before
	dropped int           // held transfers that ended as their URLs expired
}

// answeredIn takes in how long an answer took.
func (h *hostFacts) answeredIn(took time.Duration) {
	if h.latency == 0 {
		h.latency = took
	}
	h.latency += (took - h.latency) / 8
}

// mostHostFacts is how many hosts are remembered at most, besides those that assets
// are fetched from.
const mostHostFacts = 1024

// host is what is remembered of the host, which is remembered from now on.
func (s *scarcity) host(name string) *hostFacts {
	h := s.hosts[name]
	if h == nil {
		if len(s.hosts) >= mostHostFacts {
			for idle, f := range s.hosts {
				if f.conns == 0 {
					delete(s.hosts, idle)
				}
			}
		}
		h = &hostFacts{}
		s.hosts[name] = h
	}
	return h
}

// seen is what is remembered of the host, for reading.
func (s *scarcity) seen(name string) *hostFacts {
	if h := s.hosts[name]; h != nil {
		return h
	}
	return &s.nobody
}

// Whether a host ends transfers when their URLs expire is seen where one was running
// then: it broke off around that moment, or went on for longer than what the
// kernels on its way can have held back.
const (
	cutsRemembered = 7 * 24 * time.Hour
	around         = 3 * time.Second // what the clocks and a buffer may be apart
	outlives       = 8 << 20         // bytes after expiry that no buffer explains
	drops          = 3               // held transfers to break off: one alone may have been read too little
)

// cutting reports whether the host is known to end transfers when their URLs expire.
// The pool is locked.
func (p *Pool) cutting(name string) bool {
	at, ok := p.scarce.cuts[name]
	return ok && time.Since(at) < cutsRemembered
}

// recallCuts reads what is known of hosts from before the start. Without it they
// are found out again.
func (p *Pool) recallCuts(ctx context.Context) {
	cuts, err := p.Queue.Cutters(ctx)
	if err != nil {
		p.Tell(run.Event{Kind: run.QueueTrouble, Err: fmt.Errorf("reading which hosts end transfers: %w", err)})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for host, at := range cuts {
		p.scarce.cuts[host] = at
	}
}

// cutAtExpiry notes that a host ended an answer as its URL expired.
func (w *attempt) cutAtExpiry(ctx context.Context, f *transfer.Failure, m moment) {
	p, died := w.p, w.asset.Expiry
	if w.flight == nil || f.Class != transfer.Network || f.Status/100 != 2 || died.IsZero() || !m.known {
		return
	}
	p.mu.Lock()
	wasHeld, most := w.flight.wasHeld, around
	if wasHeld {
		most += holdEvery // it is noticed when it is read
	}
	late := m.server.Sub(died)
	if late < -time.Second || late > most || time.Since(w.flight.since) < late {
		p.mu.Unlock()
		return
	}
	h := p.scarce.host(w.flight.host)
	if wasHeld {
		h.dropped++
	}
	known := p.cutting(w.flight.host) || wasHeld && h.dropped < drops
	if !known && len(p.scarce.cuts) < mostHostFacts {
		p.scarce.cuts[w.flight.host] = time.Now()
	}
	p.mu.Unlock()
	if known {
		return
	}
	p.Tell(run.Event{
		Kind: run.HostCuts, Host: w.flight.host, Asset: w.key,
		Note: "transfers from it are not held open any more",
	})
	w.recordCuts(ctx, time.Now())
}

// outlived notes that a transfer went on after its URL had expired.
func (w *attempt) outlived(ctx context.Context) {
	f := w.flight
	if f.atExpiry == 0 || f.done.Load()-f.atExpiry < outlives {
		return
	}
	w.p.mu.Lock()
	w.p.scarce.host(f.host).dropped = 0
	_, known := w.p.scarce.cuts[f.host]
	delete(w.p.scarce.cuts, f.host)
	w.p.mu.Unlock()
	if known {
		w.recordCuts(ctx, time.Time{})
	}
}

func (w *attempt) recordCuts(ctx context.Context, seen time.Time) {
	if err := w.p.Queue.Cuts(ctx, w.flight.host, seen); err != nil && ctx.Err() == nil {
		w.p.Tell(run.Event{Kind: run.QueueTrouble, Err: fmt.Errorf("noting whether %s ends transfers: %w", w.flight.host, err)})
	}
}
