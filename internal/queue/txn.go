package queue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// txn is one transaction of the store in the words of the queue. In a writing one many
// operations run after another; each that fails is taken back alone, so that it disturbs
// none of its neighbours.
type txn struct {
	tx      kv.Tx
	counts  counts
	counted bool // the counts that were read have the entries of the buckets
}

// counts are what the queue holds, kept incrementally.
type counts struct {
	states  [10]int64      // the runs by state, then the assets by state
	entries [buckets]int64 // of each bucket
	notices int64          // the place of the last notice; none comes twice
}

func (c *counts) run(s run.State) *int64 { return &c.states[slices.Index(runStates(), s)] }

func (c *counts) asset(s run.AssetState) *int64 {
	return &c.states[len(runStates())+slices.Index(assetStates(), s)]
}

// firstStates is how many states the first version counted: the others come last.
const firstStates = 9

// all are the numbers in the order in which they are stored.
func (c *counts) all() []*int64 {
	all := make([]*int64, 0, len(c.states)+len(c.entries)+1)
	for i := range c.states[:firstStates] {
		all = append(all, &c.states[i])
	}
	for i := range c.entries {
		all = append(all, &c.entries[i])
	}
	all = append(all, &c.notices)
	for i := range c.states[firstStates:] {
		all = append(all, &c.states[firstStates+i])
	}
	return all
}

// get returns a value, which is valid while the transaction is; nil: none.
func (t *txn) get(b kv.Bucket, key []byte) []byte { return t.tx.Get(b, key) }

// put writes a value, which must not be changed afterwards.
func (t *txn) put(b kv.Bucket, key, value []byte) error {
	added, err := t.tx.Put(b, key, value)
	if added {
		t.counts.entries[b]++
	}
	return err
}

func (t *txn) del(b kv.Bucket, key []byte) error {
	deleted, err := t.tx.Delete(b, key)
	if deleted {
		t.counts.entries[b]--
	}
	return err
}

// move takes an entry of an index from one key to another; nil: no entry.
func (t *txn) move(b kv.Bucket, from, to, value []byte) error {
	if bytes.Equal(from, to) {
		return nil
	}
	if from != nil {
		if err := t.del(b, from); err != nil {
			return err
		}
	}
	if to == nil {
		return nil
	}
	return t.put(b, to, value)
}

// present is the value of an index entry whose key says all.
func present() []byte { return []byte{codecVersion} }

// do runs one operation, all or nothing.
func (t *txn) do(operation func(*txn) error) error {
	counts := t.counts
	err := t.tx.Try(func() error { return operation(t) })
	if err != nil {
		t.counts = counts
	}
	return err
}

// readCounts reads the counts; writeCounts writes them, once a transaction. The schema
// before this one had the first states alone, and its successor at first all but the last.
func (t *txn) readCounts() error {
	value, all := t.get(bMeta, []byte(keyCounts)), t.counts.all()
	n := (len(value) - 1) / 8
	if n != firstStates && n != len(all)-1 && n != len(all) || len(value) != 1+8*n {
		return broken("entry", []byte(keyCounts), errCodec)
	}
	for i, number := range all[:n] {
		*number = int64(binary.BigEndian.Uint64(value[1+8*i:]))
	}
	t.counted = n > firstStates
	return nil
}

func (t *txn) writeCounts() error {
	key := []byte(keyCounts)
	if t.get(bMeta, key) == nil {
		t.counts.entries[bMeta]++ // itself
	}
	value := []byte{codecVersion}
	for _, n := range t.counts.all() {
		value = binary.BigEndian.AppendUint64(value, uint64(*n))
	}
	_, err := t.tx.Put(bMeta, key, value)
	return err
}

// run reads a run; run.ErrUnknown where there is none.
func (t *txn) run(id run.ID) (record, error) {
	value := t.get(bRuns, []byte(id))
	if value == nil {
		return record{}, fmt.Errorf("run %q: %w", id, run.ErrUnknown)
	}
	return decodeRun([]byte(id), value)
}

// asset reads an asset; run.ErrUnknown where there is none.
func (t *txn) asset(key run.Key) (run.Asset, error) {
	k := assetKey(key)
	value := t.get(bAssets, k)
	if value == nil {
		return run.Asset{}, fmt.Errorf("asset %q: %w", key, run.ErrUnknown)
	}
	return decodeAsset(k, value)
}

// assets reads all assets of a run, in the order of their keys.
func (t *txn) assets(id run.ID) ([]run.Asset, error) {
	var all []run.Asset
	prefix := assetsOf(id)
	c := t.tx.Cursor(bAssets)
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		a, err := decodeAsset(k, v)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
