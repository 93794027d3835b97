package download

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/transfer"
)

// warningProvisional is the manifest's word for a file that was fetched before its
// run ended, where nothing could tell whether it still is the result.
const warningProvisional = "provisional"

// keepEarly keeps what was fetched before the run ended. It is without a final name
// until the run's end tells whether it is the result.
func (w *attempt) keepEarly(ctx context.Context, url string, res transfer.Result) {
	p := w.p
	kept := run.Provisional{
		Size: res.Size, SHA256: res.SHA256, Ext: res.Ext, ContentType: res.ContentType, DownloadedAt: res.At, Warnings: res.Warnings,
		Object: signedurl.Object(url), Preview: signedurl.Preview(url), Validator: res.Validator,
	}
	switch warnings := slices.Clone(kept.Warnings); { // such a one is fetched again in any case
	case !res.Proven:
		kept.Object, kept.Warnings = "", append(warnings, warningUnproven)
	case res.Cut:
		kept.Object, kept.Warnings = "", append(warnings, transfer.WarningTruncated)
	}
	part := w.part
	w.part, w.rescue = nil, nil
	if err := part.KeepProvisional(res.Size); err != nil {
		w.local(ctx, err)
		return
	}
	if _, err := p.Queue.KeepProvisional(ctx, w.key, kept); err != nil {
		w.queueFailed(ctx, "recording what is provisional of", err)
		return
	}
	w.drop()
	p.Tell(run.Event{Kind: run.AssetEarly, Asset: w.key, Host: w.flight.host, Bytes: res.Size, Took: time.Since(w.flight.since)})
	// Its run may have ended since the attempt began: then it waits again, and who
	// said so has been before it was dropped.
	p.lookInto(resumed{key: w.key})
	signal(p.nudge)
}

// confirm finds out whether provisional bytes are the result, now that the run has
// ended. It returns true where the asset is to be fetched: it has none, or they are
// those of another object or of a preview.
func (w *attempt) confirm(ctx context.Context, url string) (fetch bool) {
	p, kept := w.p, w.asset.Provisional
	if kept == nil || w.early || kept.Preview || kept.Object != signedurl.Object(url) {
		return true
	}
	w.begin()
	p.mu.Lock()
	unseen := p.notes(w.asset).unseen
	p.mu.Unlock()
	if unseen {
		return true
	}
	now, err := p.Fetcher.Look(ctx, transfer.Request{Key: w.key, URL: url})
	if err != nil {
		w.notSeen(ctx, err)
		return false
	}
	w.answered(now.Total, time.Since(w.flight.since))
	if now.Total == kept.Size && now.Validator == kept.Validator {
		w.takeEarly(kept.Whole(w.key))
		return false
	}
	reason := fmt.Sprintf("it changed after it was fetched while its run went on: %d bytes then", kept.Size)
	if now.Total >= 0 {
		reason += fmt.Sprintf(", %d now", now.Total)
	}
	a, err := p.Queue.Again(ctx, w.key, reason)
	if err != nil {
		return w.queueFailed(ctx, "recording a change of", err)
	}
	w.asset = a
	_ = p.Volume.DropProvisional(w.key) // what cannot be removed now goes when the run has settled
	p.Tell(run.Event{Kind: run.AssetAgain, Asset: w.key, Host: w.flight.host, Note: reason})
	if w.turn(ctx) != nil {
		w.back(0)
		return false
	}
	return true
}

// notSeen records that nothing could be found out. Where the server had an answer of
// its own, the next attempt does without the question.
func (w *attempt) notSeen(ctx context.Context, err error) {
	var f *transfer.Failure
	if !errors.As(err, &f) {
		f = &transfer.Failure{Class: transfer.Network, Err: err}
	}
	if f.Status != 0 && f.Class != transfer.Throttled {
		w.p.mu.Lock()
		w.p.notes(w.asset).unseen = true
		w.p.mu.Unlock()
	}
	w.failed(ctx, f, "")
}

// takeEarly gives provisional bytes their final name.
func (w *attempt) takeEarly(whole run.Whole) {
	p, t, a := w.p, w.t, w.asset
	var took time.Duration
	if w.flight != nil {
		took = time.Since(w.flight.since)
	}
	w.closePart() // it is the same asset's
	w.given = true
	p.Volume.Confirm(whole, func(err error) { p.kept(t, a, whole.Size, took, err) })
}

// settleForEarly stores provisional bytes in place of losing the asset, with a
// warning, unless they are known not to be the result: a preview, where the API
// lists something else now.
func (w *attempt) settleForEarly() bool {
	kept := w.asset.Provisional
	if kept == nil {
		return false
	}
	if kept.Preview {
		l, ok, err := w.p.Queue.Listed(w.key)
		if err != nil || !ok || signedurl.Object(l.URL) != kept.Object {
			return false
		}
	}
	whole := kept.Whole(w.key)
	whole.Warnings = append(whole.Warnings, warningProvisional)
	w.takeEarly(whole)
	return true
}
