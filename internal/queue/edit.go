package queue

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// edit is a run under change by one operation. Every index entry follows from
// the records: put and save are the only places that move them, so no operation
// can forget one.
type edit struct {
	t   *txn
	was *record // as it stands; nil: not yet there
	rec record  // as it will
}

// edit begins to change a run; run.ErrUnknown where there is none.
func (t *txn) edit(id run.ID) (*edit, error) {
	was, err := t.run(id)
	if err != nil {
		return nil, err
	}
	return &edit{t: t, was: &was, rec: was}, nil
}

// create begins a run that is new.
func (t *txn) create(rec record) *edit { return &edit{t: t, rec: rec} }

// save writes the run as rec has it, and ends the edit. What follows from its assets is set here:
// an ended run with open assets is downloading, a settled one is not polled.
func (e *edit) save() error {
	r := &e.rec
	if r.State == run.Waiting && r.Ended() && r.Open() > 0 {
		r.State = run.Downloading
	}
	if r.State.Settled() {
		r.due = 0
	}
	cleanRun(r, e.was)
	from := run.Waiting
	if e.was != nil {
		from = e.was.State
	}
	if err := from.Move(r.State); err != nil {
		return fmt.Errorf("run %q: %w", r.ID, err)
	}
	if err := e.t.reindexRun(e.was, r); err != nil {
		return err
	}
	return e.t.put(bRuns, []byte(r.ID), encodeRun(r))
}

func (t *txn) reindexRun(was, is *record) error {
	if was != nil {
		*t.counts.run(was.State)--
	}
	if is != nil {
		*t.counts.run(is.State)++
	}
	return errors.Join(
		t.move(bDue, dueKey(was), dueKey(is), present()),
		t.move(bReady, readyKey(was), readyKey(is), present()),
		t.move(bHistory, historyKey(was), historyKey(is), present()),
		t.move(bDirs, dirKey(was), dirKey(is), idOf(was, is)),
		t.noteDamage(was, is),
	)
}

// damagedFiles is how many files of a run are damaged or missing, its own record one of them.
func damagedFiles(r *record) (n int) {
	switch {
	case r == nil:
		return 0
	case r.BadRecord != "":
		n = 1
	}
	return n + r.Marked
}

// noteDamage keeps the index of damaged runs.
func (t *txn) noteDamage(was, is *record) error {
	from, to := damagedFiles(was), damagedFiles(is)
	if from == to {
		return nil
	}
	key := []byte(keyDamaged + string(idOf(was, is)))
	if to == 0 {
		return t.del(bMeta, key)
	}
	return t.put(bMeta, key, encodeService(time.Duration(to)))
}

func dueKey(r *record) []byte {
	if r == nil || r.due == 0 {
		return nil
	}
	return turnKey(r)
}

func readyKey(r *record) []byte {
	if r == nil || !r.ready() {
		return nil
	}
	return []byte(r.ID)
}

func historyKey(r *record) []byte {
	if r == nil || !r.State.Settled() {
		return nil
	}
	return timed(max(millis(r.SettledAt), 1), string(r.ID))
}

func dirKey(r *record) []byte {
	if r == nil || r.Dir == "" {
		return nil
	}
	return []byte(oneCase(r.Dir))
}

func idOf(was, is *record) []byte {
	if is == nil {
		is = was
	}
	return []byte(is.ID)
}

// allowed says why an asset may not become what is; nil: it may. It is a rule of
// the domain, found before anything is written. was is nil for a new asset.
func (e *edit) allowed(was, is *run.Asset) error {
	from := run.AssetWaiting
	if was != nil {
		from = was.State
	}
	err := from.Move(is.State)
	whole := is.State == run.AssetVerified || is.State == run.AssetStored
	switch {
	case err != nil:
	case e.rec.State.Settled():
		err = fmt.Errorf("%w: its run is settled", run.ErrStale)
	case is.State == run.AssetDownloading:
		err = errors.New("downloading is never recorded")
	case slot(is.Key.Kind) < 0:
		err = fmt.Errorf("unknown kind %q", is.Key.Kind)
	case whole != (is.Stored != nil), (is.State == run.AssetLost) != (is.Loss != nil):
		err = fmt.Errorf("%s, but what is recorded with it says otherwise", is.State)
	case is.State == run.AssetProvisional && (is.Provisional == nil || e.rec.Ended()):
		err = errors.New("provisional, but what is recorded with it or of its run says otherwise")
	case whole:
		err = e.nameable(is)
	}
	if err != nil {
		return fmt.Errorf("asset %q: %w", is.Key, err)
	}
	return nil
}

// maxFile bounds a file's name below its run's directory, in bytes.
const maxFile = 4096

// nameable says why an asset may not have the file name it wants.
func (e *edit) nameable(a *run.Asset) error {
	file := a.Stored.File
	if len(file) > maxFile || !fs.ValidPath(file) || file == "." {
		return fmt.Errorf("%.100q is no file name", file)
	}
	if own := oneCase(file); own == "manifest.json" || own == "sha256sums" {
		return fmt.Errorf("%q: %w by the run's own record", file, run.ErrNameTaken)
	}
	if holder := e.t.get(bNames, claimKey(a)); holder != nil && !bytes.Equal(holder, assetKey(a.Key)) {
		return fmt.Errorf("%q: %w by asset %q", file, run.ErrNameTaken, holder)
	}
	return nil
}

// put writes an asset and counts it; was is nil for a new one. The run still has
// to be saved.
func (e *edit) put(was, is *run.Asset) error {
	if err := e.allowed(was, is); err != nil {
		return err
	}
	cleanAsset(is, was)
	e.tally(was, -1)
	e.tally(is, +1)
	if err := e.t.reindexAsset(was, is); err != nil {
		return err
	}
	return e.t.put(bAssets, assetKey(is.Key), encodeAsset(is))
}

// forget removes an asset.
func (e *edit) forget(was *run.Asset) error {
	e.tally(was, -1)
	if err := e.t.reindexAsset(was, nil); err != nil {
		return err
	}
	return e.t.del(bAssets, assetKey(was.Key))
}

func (t *txn) reindexAsset(was, is *run.Asset) error {
	key := []byte(nil)
	if is != nil {
		key = assetKey(is.Key)
	}
	return errors.Join(
		t.move(bDeadline, deadlineKey(was), deadlineKey(is), present()),
		t.move(bVerified, verifiedKey(was), verifiedKey(is), present()),
		t.move(bNames, claimKey(was), claimKey(is), key),
	)
}

// tally counts an asset in (by 1) or out (by -1) of its run and of the queue.
func (e *edit) tally(a *run.Asset, by int) {
	if a == nil {
		return
	}
	r := &e.rec
	r.Assets += by
	switch a.State {
	case run.AssetStored:
		r.Stored += by
		r.Bytes += int64(by) * a.Stored.Size
		if a.Marked {
			r.Marked += by
		}
	case run.AssetLost:
		r.Lost += by
	}
	*e.t.counts.asset(a.State) += int64(by)
}

// cleanRun and cleanAsset keep signed URLs out of the file, whose freed pages
// keep what they held: whatever text came from outside goes through Redact, once.
func cleanRun(r, was *record) {
	if was == nil {
		was = &record{}
	}
	clean(&r.App, was.App)
	clean((*string)(&r.Status), string(was.Status))
	clean(&r.StartedAt, was.StartedAt)
	clean(&r.CompletedAt, was.CompletedAt)
	clean(&r.ErrorMessage, was.ErrorMessage)
	clean(&r.GaveUp, was.GaveUp)
	clean(&r.BadRecord, was.BadRecord)
	clean(&r.Polls.LastError, was.Polls.LastError)
}

func cleanAsset(a, was *run.Asset) {
	if was == nil {
		was = &run.Asset{}
	}
	clean(&a.Tool, was.Tool)
	clean(&a.CreatedAt, was.CreatedAt)
	clean(&a.Source, was.Source)
	clean(&a.LastError, was.LastError)
	if a.Loss != nil && a.Loss != was.Loss {
		a.Loss = new(*a.Loss)
		clean(&a.Loss.Reason, "")
	}
	if a.Provisional != nil && a.Provisional != was.Provisional {
		a.Provisional = new(*a.Provisional)
		clean(&a.Provisional.ContentType, "")
		clean(&a.Provisional.Validator, "")
		a.Provisional.Warnings = slices.Clone(a.Provisional.Warnings)
		for i := range a.Provisional.Warnings {
			clean(&a.Provisional.Warnings[i], "")
		}
	}
	if a.Stored != nil && a.Stored != was.Stored {
		a.Stored = new(*a.Stored)
		clean(&a.Stored.ContentType, "")
		a.Stored.Warnings = slices.Clone(a.Stored.Warnings)
		for i := range a.Stored.Warnings {
			clean(&a.Stored.Warnings[i], "")
		}
	}
}

func clean(text *string, was string) {
	if *text != was && !harmless(*text) {
		*text = signedurl.Redact(*text)
	}
}

// harmless reports that Redact would leave a text as it is: most are, and it
// takes its time. Queries, tokens and passwords come with one of these bytes, or
// with a colon behind a host.
func harmless(text string) bool {
	_, rest, _ := strings.Cut(text, "://")
	return !strings.ContainsAny(text, `?#=%@_\`) && !strings.Contains(rest, ":")
}

// byIndex orders a run's assets as people and manifests see them: by kind, by
// index (those without one last), by id.
func byIndex(a, b run.Asset) int {
	return cmp.Or(
		cmp.Compare(slot(a.Key.Kind), slot(b.Key.Kind)),
		cmp.Compare(uint(a.Index-1), uint(b.Index-1)),
		cmp.Compare(a.Key.ID, b.Key.ID),
	)
}
