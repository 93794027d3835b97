package queue

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Figures are what can be told of the queue at any moment for the same few reads,
// with ten runs and with a million.
type Figures struct {
	Counts
	Size int64 // bytes of the file in use, free pages among them
	Free int64 // bytes of free pages
	// Due is when the first of the runs that are polled is, or was, due, without those
	// that come last because nothing but 404 was answered; local clock; zero: none is.
	Due time.Time
	// Nearest is the waiting asset whose URL dies first, of those whose death is known;
	// without a key where the first nearestLook have none that is.
	Nearest run.Asset
	// Oldest is when the oldest open run was handed in; local clock; zero: there is
	// none, or SeekOldest has not been through the runs yet.
	Oldest time.Time
	// Outbox is how many notices others have not taken yet, outboxLook at most; First is
	// when the first of them happened; zero: there is none.
	Outbox int
	First  time.Time
	// DamagedFiles are the stored files that verify found damaged or missing, a run's
	// manifest.json and SHA256SUMS together counted as one, and DamagedRuns the runs
	// they are of, damagedLook at most.
	DamagedFiles, DamagedRuns int
}

// damagedLook is how many damaged runs are counted.
const damagedLook = 100_000

// outboxLook is how many notices are counted.
const outboxLook = 10_000

// nearestLook is how many assets are looked at for one whose death is known: the
// others stand by when they were first seen.
const nearestLook = 100

// Figures returns the figures of this moment: the counts, the heads of three indexes,
// and up to oldestKept records of runs that were open lately.
func (q *Queue) Figures(ctx context.Context) (f Figures, err error) {
	stats, err := q.store.Stats(ctx)
	if err != nil {
		return f, err
	}
	f.Size, f.Free = stats.Size, stats.Free
	err = q.view(ctx, func(t *txn) error {
		if f.Counts, err = t.tallied(); err != nil {
			return err
		}
		if f.Due, err = t.firstDue(); err != nil {
			return err
		}
		if f.Nearest, err = t.nearest(); err != nil {
			return err
		}
		f.Oldest = q.oldest.among(t)
		if f.DamagedFiles, f.DamagedRuns, err = t.damaged(); err != nil {
			return err
		}
		f.Outbox, f.First, err = t.outbox()
		return err
	})
	return f, err
}

// damaged counts the damaged files, and the runs that have some.
func (t *txn) damaged() (files, runs int, err error) {
	c := t.tx.Cursor(bMeta)
	for k, v := c.Seek([]byte(keyDamaged)); bytes.HasPrefix(k, []byte(keyDamaged)) && runs < damagedLook; k, v = c.Next() {
		n, err := decodeService(v)
		if err != nil {
			return 0, 0, broken("damaged run", k, err)
		}
		files += int(n)
		runs++
	}
	return files, runs, nil
}

// outbox counts the notices, and says when the first one happened.
func (t *txn) outbox() (n int, first time.Time, err error) {
	c := t.tx.Cursor(bOutbox)
	for k, v := c.First(); k != nil && n < outboxLook; k, v = c.Next() {
		if n++; n > 1 {
			continue
		}
		notice, err := decodeNotice(k, v)
		if err != nil {
			return 0, first, err
		}
		first = notice.At
	}
	return n, first, nil
}

// nearest is the waiting asset whose known death comes first.
func (t *txn) nearest() (run.Asset, error) {
	c := t.tx.Cursor(bDeadline)
	k, _ := c.First()
	for n := 0; k != nil && n < nearestLook; n++ {
		_, key, ok := untimed(k)
		if !ok {
			return run.Asset{}, broken("deadline", k, errCodec)
		}
		a, err := decodeAsset(key, t.get(bAssets, key))
		if err != nil || !a.Expiry.IsZero() {
			return a, err
		}
		k, _ = c.Next()
	}
	return run.Asset{}, nil
}

// The oldest open run is no index's first: one more would cost every hand-in a
// write. It is sought by going through all runs, oldestStep at a time, and a few of
// the oldest are kept: what is handed in later is younger, so the first of these that
// is still open is the oldest, until all have settled. Only a run set back by retry is
// not seen before the next time through.
const (
	oldestStep = 20_000
	oldestKept = 64
	oldestRest = 10 * time.Minute // between two times through
)

// oldest is what is known of the oldest open runs. Safe for concurrent use.
type oldest struct {
	mu    sync.Mutex
	known []aged    // of the last time through, the oldest first
	ended time.Time // that time; zero: another is wanted

	seek  sync.Mutex // the rest is its holder's
	after []byte     // where this time through goes on; nil: it has not begun
	found []aged
}

// aged is a run and when it was handed in, unix ms.
type aged struct {
	id run.ID
	at int64
}

// SeekOldest looks at the next oldestStep runs for the oldest open one, and rests for
// oldestRest when it has seen all, unless all that it found have settled. It is called
// again and again; a step takes a few milliseconds.
func (q *Queue) SeekOldest(ctx context.Context) error {
	o := &q.oldest
	o.seek.Lock()
	defer o.seek.Unlock()
	if o.after == nil && o.rests() {
		return nil
	}
	return q.view(ctx, func(t *txn) error { return o.step(t) })
}

func (o *oldest) rests() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ended.IsZero() && time.Since(o.ended) < oldestRest
}

func (o *oldest) step(t *txn) error {
	c := t.tx.Cursor(bRuns)
	k, v := c.First()
	if o.after != nil {
		if k, v = c.Seek(o.after); bytes.Equal(k, o.after) {
			k, v = c.Next()
		}
	}
	for seen := 0; k != nil; k, v = c.Next() {
		if seen++; seen > oldestStep {
			return nil
		}
		o.after = append(o.after[:0], k...)
		handedIn, unsettled := openSince(v)
		if unsettled && (len(o.found) < oldestKept || handedIn < o.found[len(o.found)-1].at) {
			o.keep(aged{run.ID(k), handedIn})
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known, o.ended = o.found, time.Now()
	o.found, o.after = nil, nil
	return nil
}

func (o *oldest) keep(a aged) {
	i, _ := slices.BinarySearchFunc(o.found, a, func(x, y aged) int { return int(min(max(x.at-y.at, -1), 1)) })
	o.found = slices.Insert(o.found, i, a)
	o.found = o.found[:min(len(o.found), oldestKept)]
}

// openSince is when an open run was handed in, read without the rest of its record.
func openSince(record []byte) (ms int64, unsettled bool) {
	d, state, err := open(record, len(runStates()))
	if err != nil || runStates()[state].Settled() {
		return 0, false
	}
	for d.next() {
		if d.field == 1 {
			return d.time().UnixMilli(), true
		}
	}
	return 0, false
}

// among is when the oldest of the kept runs that are still open was handed in. Where
// all have settled since, the last of them stands for those that are younger.
func (o *oldest) among(t *txn) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if *t.counts.run(run.Waiting)+*t.counts.run(run.Downloading) == 0 {
		o.known = nil
		return time.Time{}
	}
	for len(o.known) > 0 {
		first := o.known[0]
		_, unsettled := openSince(t.get(bRuns, []byte(first.id)))
		if !unsettled && len(o.known) == 1 {
			o.ended = time.Time{}
		}
		if unsettled || len(o.known) == 1 {
			return at(first.at)
		}
		o.known = o.known[1:]
	}
	o.ended = time.Time{}
	return time.Time{}
}
