package queue

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/assetd/assetd/internal/run"
)

// inconsistency is what is wrong with a queue: an index entry or a count that does
// not follow from the records, or that is missing. It builds every index anew from
// the records and compares.
func inconsistency(q *Queue) error {
	return q.view(context.Background(), func(t *txn) error {
		if err := t.readCounts(); err != nil {
			return err
		}
		var tally counts
		want := map[bucket]map[string]string{}
		for b := range buckets {
			want[b] = map[string]string{}
		}
		claim := func(b bucket, key []byte, value string) error {
			if key == nil {
				return nil
			}
			if other, taken := want[b][string(key)]; taken {
				return fmt.Errorf("%s %q: claimed by %q and %q", b.name(), key, other, value)
			}
			want[b][string(key)] = value
			return nil
		}
		per := map[run.ID]*record{}
		err := t.bucket(bRuns).ForEach(func(k, v []byte) error {
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
			*tally.run(r.State)++
			per[r.ID] = &record{Run: run.Run{Assets: r.Assets, Stored: r.Stored, Lost: r.Lost, Bytes: r.Bytes}}
			for b, key := range map[bucket][]byte{bDue: dueKey(&r), bReady: readyKey(&r), bHistory: historyKey(&r)} {
				if err := claim(b, key, string(present())); err != nil {
					return err
				}
			}
			return claim(bDirs, dirKey(&r), string(k))
		})
		if err != nil {
			return err
		}
		err = t.bucket(bAssets).ForEach(func(k, v []byte) error {
			a, err := decodeAsset(k, v)
			if err != nil {
				return err
			}
			if !bytes.Equal(assetKey(a.Key), k) {
				return fmt.Errorf("%q holds asset %q", k, a.Key)
			}
			whole := a.State == run.AssetVerified || a.State == run.AssetStored
			if whole != (a.Stored != nil) || (a.State == run.AssetLost) != (a.Loss != nil) {
				return fmt.Errorf("%q: %+v", k, a)
			}
			r := per[a.Key.Run]
			if r == nil {
				return fmt.Errorf("%q belongs to no run", k)
			}
			*tally.asset(a.State)++
			r.Assets--
			switch a.State {
			case run.AssetStored:
				r.Stored--
				r.Bytes -= a.Stored.Size
			case run.AssetLost:
				r.Lost--
			}
			if err := claim(bDeadline, deadlineKey(&a), string(present())); err != nil {
				return err
			}
			if err := claim(bVerified, verifiedKey(&a), string(present())); err != nil {
				return err
			}
			return claim(bNames, claimKey(&a), string(k))
		})
		if err != nil {
			return err
		}
		for id, r := range per {
			if r.Assets != 0 || r.Stored != 0 || r.Lost != 0 || r.Bytes != 0 {
				return fmt.Errorf("run %q counts what is not there: %+v", id, r.Run)
			}
		}
		if tally != t.counts {
			return fmt.Errorf("counts %v, in truth %v", t.counts, tally)
		}
		for _, b := range []bucket{bDue, bReady, bDeadline, bVerified, bNames, bDirs, bHistory} {
			got := map[string]string{}
			_ = t.bucket(b).ForEach(func(k, v []byte) error {
				got[string(k)] = string(v)
				return nil
			})
			if !maps.Equal(got, want[b]) {
				return fmt.Errorf("index %s: %q, want %q", b.name(), slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want[b])))
			}
		}
		return nil
	})
}
