package download

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
	"github.com/assetd/assetd/internal/transfer/media"
)

// warningUnproven is the manifest's word for a file whose end nothing proves.
const warningUnproven = "unproven"

// mostRescues bounds the parts that are held open for their unproven bytes.
const mostRescues = 64

// rescue is a body without proof of its end that two fetches agreed on and whose
// container is whole, or one that looks cut off: should the asset be lost, it is stored
// instead. The part of such a body often cannot be resumed and is gone once it is closed,
// so it is held open, also through later attempts, until one of them begins it again. A
// restart costs no more than the two fetches that it takes.
type rescue struct {
	part  *openPart
	whole run.Whole
}

// openPart is a part that notes when it is begun again.
type openPart struct {
	Part
	reset bool
}

func (o *openPart) Reset(m run.PartMark) error {
	o.reset = true
	return o.Part.Reset(m)
}

func (r *rescue) close() {
	if r != nil {
		r.part.Close() //nolint:errcheck // it cannot be kept
	}
}

// unproven takes a body without proof of its end as a final-looking answer, after
// looking whether it is worth a rescue.
func (w *attempt) unproven(ctx context.Context, res transfer.Result) {
	if res.SHA256 == w.asset.Evidence.UnprovenSum && media.Complete(w.part, res.Size) {
		whole := res.Whole
		whole.Warnings = append(slices.Clone(whole.Warnings), warningUnproven)
		w.rescue, w.part.reset = &rescue{w.part, whole}, false
	}
	f := &transfer.Failure{
		Class: unproven, Status: http.StatusOK, Host: res.Host,
		Err: errors.New("the body ended with the connection, so it may have been cut"),
	}
	w.failed(ctx, f, res.SHA256)
}

// takeRescue takes what is held for the asset, nil where nothing is. The pool is
// locked.
func (p *Pool) takeRescue(key run.Key) *rescue {
	c := p.cases[key]
	if c == nil || c.rescue == nil {
		return nil
	}
	r := c.rescue
	c.rescue, r.part.reset = nil, false
	p.rescues--
	return r
}

// rescued stores what is held for the asset in place of losing it.
func (w *attempt) rescued() bool {
	if w.rescue == nil {
		w.p.mu.Lock()
		w.rescue = w.p.takeRescue(w.key)
		w.p.mu.Unlock()
	}
	if w.rescue == nil {
		return false
	}
	w.part = w.rescue.part
	w.keep(w.rescue.whole)
	return true
}

// closePart ends the use of the part: it is held for a rescue, or closed, which
// keeps what a later attempt can go on from. It comes before the asset is given
// back: whoever takes it next opens the part again.
func (w *attempt) closePart() {
	part, p := w.part, w.p
	w.part = nil
	if part == nil {
		return
	}
	p.mu.Lock()
	if w.rescue != nil && !part.reset && p.rescues < mostRescues {
		p.notes(w.asset).rescue = w.rescue
		p.rescues++
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	have, _ := part.Have()
	err := part.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if have > 0 && err == nil {
		p.notes(w.asset).parted = true
	}
}
