package download

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// Changed takes in what a poll changed. Assets that are new, have another URL, or
// for which a fresh one was asked for may start at once; what others wait for has
// nothing to do with the API.
func (p *Pool) Changed(c run.Change) {
	p.mu.Lock()
	r := planRun(c.Run)
	if s := p.runs[c.Run.ID]; s != nil {
		s.known, s.run = true, r
		s.answered = true
		if c.Ended { // now an older manifest can tell whether all is there
			s.prepared = false
		}
	}
	for _, a := range c.Assets {
		if a.State != run.AssetWaiting {
			continue
		}
		notes := p.cases[a.Key]
		if notes != nil && notes.asking {
			p.scarce.host(hostOf(a)).renews = notes.url != a.URLHash
		}
		if death, told := p.scarce.warned[a.Key]; told && death != a.Expiry.UnixMilli() {
			delete(p.scarce.warned, a.Key) // it is another matter now
		}
		if notes == nil || notes.asking || notes.url != a.URLHash {
			p.backlog.Put(r, p.planAsset(a))
		} else {
			p.backlog.Update(r, p.planAsset(a))
		}
		if notes != nil {
			notes.asking = false
		}
		p.backlog.Hurry(a.Key, p.now())
	}
	p.mu.Unlock()
	p.Wake()
}

// timeLeft is the time that a server's Retry-After may take of: until the asset's
// deadline, or in the margin until its expiry; 0 where neither is known.
func timeLeft(a run.Asset, margin time.Duration, now time.Time) time.Duration {
	if a.Expiry.IsZero() {
		return 0
	}
	if left := a.Deadline(margin).Sub(now); left > 0 {
		return left
	}
	return a.Expiry.Sub(now)
}

// life is how long the asset's URL lives on; 0 where none is known.
func (p *Pool) life(a run.Asset) time.Duration {
	if a.FirstSeen.IsZero() {
		return 0
	}
	return a.Death().Sub(p.Clock.Server(hostOf(a)))
}

func planRun(r run.Run) backlog.Run {
	return backlog.Run{HandedIn: r.HandedIn, App: r.App, Ended: r.Ended(), EndedAt: r.EndedService}
}

// planAsset is the asset as the backlog knows it. The pool is locked.
func (p *Pool) planAsset(a run.Asset) backlog.Asset {
	return backlog.Asset{Key: a.Key, Host: hostOf(a), Deadline: a.Deadline(p.config.Margin), Expiry: a.Expiry}
}

// hostOf is the host that the asset's URL leads to, with its port where it names
// one; empty where it has none.
func hostOf(a run.Asset) string {
	u, err := url.Parse(a.Source)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// flight is an asset that a worker has, and its transfer.
type flight struct {
	backlog.Candidate
	host        string
	since       time.Time
	done, total atomic.Int64
	answered    atomic.Bool // bytes of it have come
	resumes     atomic.Bool // it can be gone on with

	ctx      context.Context
	stop     context.CancelCauseFunc
	throttle transfer.Throttle
	opened   time.Duration // when the worker began
	atExpiry int64         // bytes that were there when its URL expired, at least; 0: it has not. The worker's own

	held    bool  // the throttle is; as the next guarded by the pool's lock
	wasHeld bool  // it was, at some time
	over    bool  // its asset is stored, lost or gone: there is nothing to decide any more
	seen    int64 // bytes of the throttle's that were counted

	sent   atomic.Int64  // when its request was on its way, on the clock of Pool.now; 0: it was not
	parked time.Duration // since when its worker is another's, or 0; as the next guarded by the pool's lock
	looked time.Duration // when it was last looked whether anything comes
	moved  int64         // bytes that had come then
}

// Transfer is a transfer that runs, for people to watch.
type Transfer struct {
	Key   run.Key
	Host  string
	Bytes int64 // that the part holds
	Total int64 // that it will hold; 0 or less: not known
	Since time.Time
}

// InFlight is a copy of all transfers that run, the oldest first.
func (p *Pool) InFlight() []Transfer {
	p.mu.Lock()
	all := make([]Transfer, 0, len(p.flights))
	for _, f := range p.flights {
		if !f.since.IsZero() {
			all = append(all, Transfer{f.Key, f.host, f.done.Load(), f.total.Load(), f.since})
		}
	}
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b Transfer) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Key.String(), b.Key.String()))
	})
	return all
}
