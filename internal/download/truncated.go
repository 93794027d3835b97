package download

import (
	"slices"
	"time"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// An object that looks cut off is looked at again after lookAfter, and after twice as long
// each time that it has changed, up to mostLookAfter: it may still be being written.
const (
	lookAfter     = 5 * time.Second
	mostLookAfter = time.Minute
)

// cut is the SHA-256 of what came last and looked cut off, empty where nothing did. A
// restart forgets it, which costs another look.
func (w *attempt) cut() string {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.notes(w.asset).cut
}

// truncated gives the asset back for another look at an object that looks cut off. Until
// then its bytes are held: what comes later may be nothing at all. Where its URL expires
// before that, they are stored as they are.
func (w *attempt) truncated(res transfer.Result) {
	p := w.p
	whole := res.Whole
	whole.Warnings = append(slices.Clone(whole.Warnings), transfer.WarningTruncated)
	p.mu.Lock()
	c := p.notes(w.asset)
	c.cut, c.looks = res.SHA256, c.looks+1
	wait := backoff.Delay(c.looks, lookAfter, mostLookAfter)
	soon := p.life(w.asset) < 2*wait
	p.mu.Unlock()
	if soon {
		w.keep(whole)
		return
	}
	w.rescue, w.part.reset = &rescue{w.part, whole}, false
	p.Tell(run.Event{
		Kind: run.AssetRetry, Asset: w.key, Host: res.Host,
		Note: "it looks cut off, and may still be being written: looked at again in " + wait.String(),
	})
	w.back(p.now() + wait)
}
