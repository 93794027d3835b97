package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// Audit returns an error where an index entry or a count does not follow from the records,
// or is missing. It builds every index from the records and compares, all in memory: it
// is for tests and for who looks for a fault.
func (q *Queue) Audit(ctx context.Context) error {
	return q.view(ctx, func(t *txn) error {
		a := &audit{open: map[run.ID]*record{}, damaged: map[run.ID]int{}}
		for b := range a.want {
			a.want[b] = map[string]string{}
		}
		return errors.Join(
			t.readCounts(),
			t.each(bRuns, a.run),
			t.each(bAssets, a.asset),
			outboxed(t),
			a.balance(t),
			t.checkEntries(),
		)
	})
}

// outboxed sees that every notice can be read, is small, and has a place that was
// given.
func outboxed(t *txn) error {
	return t.each(bOutbox, func(k, v []byte) error {
		n, err := decodeNotice(k, v)
		if err == nil && (n.Seq == 0 || n.Seq > uint64(t.counts.notices) || len(v) > 2<<10 || n.Kind == "") {
			err = fmt.Errorf("notice %+v: %d bytes, the last place given is %d", n, len(v), t.counts.notices)
		}
		return err
	})
}

func (t *txn) each(b kv.Bucket, do func(k, v []byte) error) error {
	c := t.tx.Cursor(b)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := do(k, v); err != nil {
			return err
		}
	}
	return nil
}

// audit is what the records say the rest must be.
type audit struct {
	want   [buckets]map[string]string
	counts counts
	open   map[run.ID]*record // what a run counts less the assets seen

	damaged map[run.ID]int // files of a run
}

func (a *audit) claim(b kv.Bucket, key []byte, value string) error {
	if key == nil {
		return nil
	}
	if other, taken := a.want[b][string(key)]; taken {
		return fmt.Errorf("%s %q: claimed by %q and %q", bucketName(b), key, other, value)
	}
	a.want[b][string(key)] = value
	return nil
}

func (a *audit) run(k, v []byte) error {
	r, err := decodeRun(k, v)
	if err != nil {
		return err
	}
	if r.State.Settled() && (r.due != 0 || r.Open() != 0 || r.SettledAt.IsZero()) {
		return fmt.Errorf("%q is settled, but: %+v", k, r)
	}
	if r.State == run.Downloading && !r.Ended() || r.State == run.Waiting && r.Ended() && r.Open() > 0 {
		return fmt.Errorf("%q: state %s does not fit: %+v", k, r.State, r)
	}
	*a.counts.run(r.State)++
	a.open[r.ID] = &r
	if n := damagedFiles(&r); n > 0 {
		a.damaged[r.ID] = n
	}
	return errors.Join(
		a.claim(bDue, dueKey(&r), string(present())),
		a.claim(bReady, readyKey(&r), string(present())),
		a.claim(bHistory, historyKey(&r), string(present())),
		a.claim(bDirs, dirKey(&r), string(k)),
	)
}

func (a *audit) asset(k, v []byte) error {
	is, err := decodeAsset(k, v)
	if err != nil {
		return err
	}
	if !bytes.Equal(assetKey(is.Key), k) {
		return fmt.Errorf("%q holds asset %q", k, is.Key)
	}
	whole := is.State == run.AssetVerified || is.State == run.AssetStored
	if whole != (is.Stored != nil) || (is.State == run.AssetLost) != (is.Loss != nil) {
		return fmt.Errorf("%q: %+v", k, is)
	}
	r := a.open[is.Key.Run]
	if r == nil {
		return fmt.Errorf("%q belongs to no run", k)
	}
	*a.counts.asset(is.State)++
	r.Assets--
	switch is.State {
	case run.AssetStored:
		r.Stored--
		r.Bytes -= is.Stored.Size
		if is.Marked {
			r.Marked--
		}
	case run.AssetLost:
		r.Lost--
	}
	return errors.Join(
		a.claim(bDeadline, deadlineKey(&is), string(present())),
		a.claim(bVerified, verifiedKey(&is), string(present())),
		a.claim(bNames, claimKey(&is), string(k)),
	)
}

func (a *audit) balance(t *txn) error {
	for id, r := range a.open {
		if r.Assets != 0 || r.Stored != 0 || r.Lost != 0 || r.Bytes != 0 || r.Marked != 0 {
			return fmt.Errorf("run %q counts what is not there: %+v", id, r.Run)
		}
	}
	if a.counts.states != t.counts.states {
		return fmt.Errorf("counts %v, in truth %v", t.counts.states, a.counts.states)
	}
	got, want := map[string]string{}, map[string]string{}
	for id, r := range a.damaged {
		want[keyDamaged+string(id)] = string(encodeService(time.Duration(r)))
	}
	_ = t.each(bMeta, func(k, v []byte) error {
		if strings.HasPrefix(string(k), keyDamaged) {
			got[string(k)] = string(v)
		}
		return nil
	})
	if !maps.Equal(got, want) {
		return fmt.Errorf("damaged runs: %q, want %q", got, want)
	}
	for _, b := range []kv.Bucket{bDue, bReady, bDeadline, bVerified, bNames, bDirs, bHistory} {
		got := map[string]string{}
		_ = t.each(b, func(k, v []byte) error {
			got[string(k)] = string(v)
			return nil
		})
		if !maps.Equal(got, a.want[b]) {
			return fmt.Errorf("index %s: %q, want %q", bucketName(b), slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(a.want[b])))
		}
	}
	return nil
}
