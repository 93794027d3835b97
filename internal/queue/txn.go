package queue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/run"
)

// txn is one bbolt transaction in the words of the file. In a writing one many
// operations run after another; each is undone alone where it fails, so that a
// refused operation disturbs none of its neighbours.
type txn struct {
	tx      *bolt.Tx
	buckets [buckets]*bolt.Bucket
	undo    []change // what the operation at hand has changed, for taking it back
	counts  counts
	dirty   bool  // some operation changed something
	sealed  bool  // values have checksums
	damage  error // a value that its checksum does not fit
}

type change struct {
	in  bucket
	key []byte
	was []byte // as it is stored; nil: it was not there
}

// counts are what the queue holds, kept incrementally.
type counts struct {
	states  [10]int64      // the runs by state, then the assets by state
	entries [buckets]int64 // of each bucket, without the schema
	notices int64          // the place of the last notice; none comes twice
}

func (c *counts) run(s run.State) *int64 { return &c.states[slices.Index(runStates(), s)] }

func (c *counts) asset(s run.AssetState) *int64 {
	return &c.states[len(runStates())+slices.Index(assetStates(), s)]
}

// firstStates is how many states an earlier version counted: the others come last.
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

func (t *txn) bucket(b bucket) *bolt.Bucket {
	if t.buckets[b] == nil {
		t.buckets[b] = t.tx.Bucket(b.name())
		if b == bDue || b == bHistory || b == bOutbox && t.tx.Writable() {
			t.buckets[b].FillPercent = 0.9 // mostly appended to
		}
	}
	return t.buckets[b]
}

// get is the value, valid while the transaction is; nil: none.
func (t *txn) get(b bucket, key []byte) []byte { return t.open(b, key, t.bucket(b).Get(key)) }

// put writes a value, which must not be changed afterwards.
func (t *txn) put(b bucket, key, value []byte) error {
	was := t.bucket(b).Get(key)
	sealed := seal(b, key, value)
	if bytes.Equal(was, sealed) {
		return nil
	}
	t.undo = append(t.undo, change{b, key, was})
	if was == nil {
		t.counts.entries[b]++
	}
	return t.bucket(b).Put(key, sealed)
}

func (t *txn) del(b bucket, key []byte) error {
	was := t.bucket(b).Get(key)
	if was == nil {
		return nil
	}
	t.undo = append(t.undo, change{b, key, was})
	t.counts.entries[b]--
	return t.bucket(b).Delete(key)
}

// move takes an entry of an index from one key to another; nil: no entry.
func (t *txn) move(b bucket, from, to, value []byte) error {
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
	t.undo = t.undo[:0]
	counts := t.counts
	err := operation(t)
	if err == nil {
		t.dirty = t.dirty || len(t.undo) > 0
		return nil
	}
	t.counts = counts
	for _, c := range slices.Backward(t.undo) {
		b := t.bucket(c.in)
		undone := b.Delete(c.key)
		if c.was != nil {
			undone = b.Put(c.key, c.was)
		}
		if undone != nil {
			panic(fmt.Sprintf("cannot take back a change of %s: %v", c.in.name(), undone))
		}
	}
	return err
}

// readCounts reads the counts; writeCounts writes them, once a transaction.
func (t *txn) readCounts() error {
	value, all := t.get(bMeta, []byte(keyCounts)), t.counts.all()
	if !t.sealed {
		all = all[:firstStates]
	}
	if later := len(t.counts.states) - firstStates; t.sealed && len(value) == 1+8*(len(all)-later) {
		all = all[:len(all)-later] // none is in such a state
	}
	if len(value) != 1+8*len(all) {
		return broken("entry", []byte(keyCounts), errCodec)
	}
	for i, n := range all {
		*n = int64(binary.BigEndian.Uint64(value[1+8*i:]))
	}
	return nil
}

func (t *txn) writeCounts() error {
	key := []byte(keyCounts)
	if t.bucket(bMeta).Get(key) == nil {
		t.counts.entries[bMeta]++ // itself
	}
	value := []byte{codecVersion}
	for _, n := range t.counts.all() {
		value = binary.BigEndian.AppendUint64(value, uint64(*n))
	}
	return t.bucket(bMeta).Put(key, seal(bMeta, key, value))
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
	c := t.cursor(bAssets)
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		a, err := decodeAsset(k, v)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
