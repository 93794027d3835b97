package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// addStep bounds one transaction of Add, in hand-ins.
const addStep = 10_000

// Add records hand-ins: new runs are waiting and due at once; a known one gets
// the labels it does not have yet, where its directory is not chosen; a label it
// has with another value is replaced; one that was removed is left out where it is
// only read again (run.HandIn). All of it is durable when Add returns
// without an error; with one, Taken says what is. A hand-in that can never be taken
// is no error and stops no other: Taken.Refused names it. That is what is no run ID,
// and labels beyond the limits of run, without which the run is taken. The event
// RunAccepted is told for each new run.
func (q *Queue) Add(ctx context.Context, handIns []run.HandIn) (run.Taken, error) {
	var taken run.Taken
	sorted := make([]numbered, 0, len(handIns))
	for i, h := range handIns {
		if !run.ValidID(string(h.ID)) {
			taken.Refused = append(taken.Refused, run.Refused{At: i, NotTaken: true, Reason: fmt.Sprintf("%.70q is no run ID", h.ID)})
			continue
		}
		if err := run.CheckLabels(h.Labels); err != nil {
			taken.Refused = append(taken.Refused, run.Refused{At: i, Reason: err.Error()})
			h.Labels = nil
		}
		sorted = append(sorted, numbered{h, i})
	}
	// In the order of the keys each page is looked up, and written, once: not once in
	// every step.
	slices.SortStableFunc(sorted, func(a, b numbered) int { return cmp.Compare(a.ID, b.ID) })
	var before submissions
	for step := range slices.Chunk(sorted, addStep) {
		added, err := q.addStep(ctx, step, &before)
		if err != nil {
			return taken, err
		}
		taken.New += len(added.fresh)
		taken.Known += len(step) - len(added.fresh)
		taken.Late = append(taken.Late, added.late...)
		taken.Refused = append(taken.Refused, added.refused...)
		for _, id := range added.fresh {
			q.tell(run.Event{Kind: run.RunAccepted, Run: id, State: run.Waiting})
		}
	}
	return taken, nil
}

// numbered is a hand-in with its place in the list that was handed in.
type numbered struct {
	run.HandIn
	at int
}

type added struct {
	fresh, late []run.ID
	refused     []run.Refused
}

func (q *Queue) addStep(ctx context.Context, handIns []numbered, before *submissions) (added, error) {
	var a added
	now := q.now().Truncate(time.Millisecond)
	err := q.update(ctx, len(handIns), func(t *txn) error {
		for _, h := range handIns {
			var e *edit
			var err error
			if t.get(bRuns, []byte(h.ID)) == nil {
				if skip, err := t.handedIn(h.HandIn); skip || err != nil {
					if err != nil {
						return err
					}
					continue
				}
				number, err := before.number(t, h.Submission)
				if err != nil {
					return err
				}
				e = t.create(record{Run: run.Run{ID: h.ID, State: run.Waiting, HandedIn: now, Submission: number}, due: millis(now)})
				a.fresh = append(a.fresh, h.ID)
			} else if e, err = t.edit(h.ID); err != nil {
				return err
			}
			late, excess, err := e.label(h.Labels)
			if err != nil {
				return err
			}
			if late {
				a.late = append(a.late, h.ID)
			}
			if excess != nil {
				a.refused = append(a.refused, run.Refused{At: h.at, Reason: "with those it has: " + excess.Error()})
			}
		}
		return nil
	})
	return a, err
}

// label adds labels to a run and saves it. late says that they come too late; excess
// that the run would have too many, and keeps those it has.
func (e *edit) label(labels map[string]string) (late bool, excess, err error) {
	merged := maps.Clone(e.rec.Labels)
	for name, value := range labels {
		clean(&name, "")
		clean(&value, "")
		if was, ok := merged[name]; ok && was == value {
			continue
		}
		if e.rec.Dir != "" {
			return true, nil, nil
		}
		if merged == nil {
			merged = make(map[string]string)
		}
		merged[name] = value
	}
	if e.was != nil && maps.Equal(merged, e.rec.Labels) {
		return false, nil, nil
	}
	if excess = run.CheckLabels(merged); excess == nil {
		e.rec.Labels = merged
	} else if e.was != nil {
		return false, excess, nil
	}
	return false, excess, e.save()
}

// Reschedule sets when a run is polled next, by the local clock; zero: not until
// something else asks for it. A settled run is left alone.
func (q *Queue) Reschedule(ctx context.Context, id run.ID, at time.Time) error {
	return q.update(ctx, 1, func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if e.rec.State.Settled() {
			return nil
		}
		e.rec.due = millis(at)
		return e.save()
	})
}

// Get returns a run; run.ErrUnknown where there is none.
func (q *Queue) Get(ctx context.Context, id run.ID) (r run.Run, err error) {
	err = q.view(ctx, func(t *txn) error {
		rec, err := t.run(id)
		r = rec.Run
		return err
	})
	return r, err
}

// listStep is how many runs List looks at in one transaction.
const listStep = 5000

// List returns up to limit runs in the order of their IDs, from the first one
// beyond after on; only those in the given state where it is not empty.
func (q *Queue) List(ctx context.Context, state run.State, after run.ID, limit int) ([]run.Run, error) {
	var found []run.Run
	code := slices.Index(runStates(), state)
	if state != "" && code < 0 {
		return nil, fmt.Errorf("%q is no state of a run", state)
	}
	for more := true; more; {
		err := q.view(ctx, func(t *txn) error {
			more = false
			c := t.tx.Cursor(bRuns)
			k, v := c.Seek([]byte(after))
			if string(k) == string(after) {
				k, v = c.Next()
			}
			for seen := 0; k != nil && len(found) < limit; k, v = c.Next() {
				if seen++; seen > listStep {
					more = true
					return nil
				}
				after = run.ID(k)
				if code >= 0 && len(v) > 1 && int(v[1]) != code { // not worth reading
					continue
				}
				r, err := decodeRun(k, v)
				if err != nil {
					return err
				}
				found = append(found, r.Run)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Place gives a run its directory, once: the one it has; else wanted; else,
// where another run has a directory equal to it without regard to case, wanted
// with a suffix from the SHA-256 of the run's ID. wanted is a path below the
// volume, with slashes.
func (q *Queue) Place(ctx context.Context, id run.ID, wanted string) (dir string, err error) {
	if r, err := q.Get(ctx, id); err != nil || r.Dir != "" {
		return r.Dir, err
	}
	if !fs.ValidPath(wanted) || wanted == "." || len(wanted) > maxFile {
		return "", fmt.Errorf("run %q: %.100q is no directory for it", id, wanted)
	}
	err = q.update(ctx, 1, func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if e.rec.Dir == "" {
			if e.rec.Dir, err = t.freeDir(id, wanted); err != nil {
				return err
			}
		}
		dir = e.rec.Dir
		return e.save()
	})
	if err != nil {
		return "", err
	}
	return dir, nil
}

func (t *txn) freeDir(id run.ID, wanted string) (string, error) {
	sum := sha256.Sum256([]byte(id))
	suffix := hex.EncodeToString(sum[:])
	for _, dir := range []string{wanted, wanted + "-" + suffix[:8], wanted + "-" + suffix} {
		if holder := t.get(bDirs, []byte(oneCase(dir))); holder == nil || bytes.Equal(holder, []byte(id)) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("run %q: directory %q: %w, with every suffix", id, wanted, run.ErrNameTaken)
}
