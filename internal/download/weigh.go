package download

import (
	"context"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/download/triage"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// What assets of a kind are taken to weigh, in bytes, before one was seen.
var firstGuess = map[run.Kind]float64{run.Images: 2 << 20, run.Videos: 32 << 20, run.Audios: 4 << 20}

// mostSorts is how many sorts of assets are distinguished.
const mostSorts = 4096

// sort is what assets are weighed by; without app it means all of the kind.
type sort struct {
	app  string
	kind run.Kind
}

// weight is what assets of a sort were seen to weigh, the latest counting most.
type weight struct {
	n, mean, variance float64
}

// scales know what assets usually weigh. Not safe for concurrent use.
type scales map[sort]*weight

// see takes in the size, in bytes, of an asset of that sort.
func (s scales) see(app string, kind run.Kind, size int64) {
	for _, as := range []sort{{app, kind}, {"", kind}} {
		w := s[as]
		if w == nil {
			if len(s) >= mostSorts {
				clear(s) // they are soon known again
			}
			w = &weight{}
			s[as] = w
		}
		w.add(float64(size))
	}
}

func (w *weight) add(x float64) {
	const latest = 0.05 // what one counts once many were seen
	w.n++
	part := max(1/w.n, latest)
	d := x - w.mean
	w.mean += part * d
	w.variance = (1 - part) * (w.variance + part*d*d)
}

// guess is what an asset of that sort may weigh, in bytes, and by how much that
// may be wrong (a standard deviation, never 0).
func (s scales) guess(app string, kind run.Kind) (bytes, spread int64) {
	for _, as := range []sort{{app, kind}, {"", kind}} {
		if w := s[as]; w != nil {
			doubt := math.Sqrt(w.variance) + w.mean/(1+w.n)
			return int64(w.mean), max(int64(doubt), 1)
		}
	}
	most := max(firstGuess[kind], firstGuess[run.Images])
	return int64(most), int64(most)
}

const (
	asksAtOnce = 8                // sizes asked for at a time
	noAsking   = 10 * time.Second // after a host did not like it
)

// ask asks for sizes that the decision wants to know. The pool is locked.
func (p *Pool) ask(ctx context.Context, sizes *errgroup.Group, d triage.Decision, who []backlog.Candidate) {
	s := &p.scarce
	for _, i := range d.Ask {
		c := who[i]
		// A host that may be down, or has all the requests that it may have, is not asked.
		if _, asked := s.asked[c.Key]; asked || !c.Open || p.now() < s.seen(c.Host).quiet {
			continue
		}
		ready := make(chan bool, 1)
		if !sizes.TryGo(func() error {
			if <-ready {
				p.weigh(ctx, c)
			}
			return nil
		}) {
			return
		}
		_, turn := p.backlog.Further(c.Host, p.now())
		if ready <- turn; turn {
			s.asked[c.Key] = struct{}{}
		}
	}
}

// weigh asks the asset's server for its size. Whatever else comes of it is no
// answer in the sense of loss: the transfer will see for itself.
func (p *Pool) weigh(ctx context.Context, c backlog.Candidate) {
	p.guard(c.Key, func() {
		a, err := p.Queue.Asset(ctx, c.Key)
		if err != nil || a.State != run.AssetWaiting {
			return
		}
		l, ok, err := p.Queue.Listed(c.Key)
		if err != nil || !ok || l.URL == "" {
			return
		}
		total, err := p.Fetcher.Size(ctx, transfer.Request{Key: c.Key, URL: l.URL})
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case err != nil:
			p.scarce.host(c.Host).quiet = p.now() + noAsking
			return
		case total > 0 && p.backlog.Waits(c.Key.Run):
			p.notes(a).total = total
			p.scarce.scales.see(c.App, c.Key.Kind, total)
		}
		signal(p.redirect)
	})
}
