package boltkv

import (
	"bytes"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/queue/kv"
)

// Tx is one bbolt transaction. It is a kv.Tx.
type Tx struct {
	tx      *bolt.Tx
	format  *Format
	buckets []*bolt.Bucket
	undo    []change // what the parts at hand have changed
	parts   int      // how many of them there are, one in another
	changed bool
	sealed  bool  // values have checksums
	damage  error // the first value that its checksum does not fit
}

// change is an entry as it was stored before; was is nil where there was none.
type change struct {
	in  kv.Bucket
	key []byte
	was []byte
}

func (s *Store) tx(tx *bolt.Tx) *Tx { return newTx(tx, &s.format, s.sealed) }

func newTx(tx *bolt.Tx, format *Format, sealed bool) *Tx {
	return &Tx{tx: tx, format: format, sealed: sealed, buckets: make([]*bolt.Bucket, len(format.Buckets))}
}

// bucket is nil for a bucket that an earlier version's file does not have.
func (t *Tx) bucket(b kv.Bucket) *bolt.Bucket {
	if t.buckets[b] == nil {
		f := t.format.Buckets[b]
		t.buckets[b] = t.tx.Bucket([]byte(f.Name))
		if f.Appended && t.buckets[b] != nil {
			t.buckets[b].FillPercent = 0.9
		}
	}
	return t.buckets[b]
}

// Get returns the value of a key.
func (t *Tx) Get(b kv.Bucket, key []byte) []byte {
	in := t.bucket(b)
	if in == nil {
		return nil
	}
	return t.open(b, key, in.Get(key))
}

// Put sets the value of a key.
func (t *Tx) Put(b kv.Bucket, key, value []byte) (added bool, err error) {
	was := t.bucket(b).Get(key)
	sealed := seal(b, key, value)
	if bytes.Equal(was, sealed) {
		return false, nil
	}
	t.note(change{b, key, was})
	return was == nil, t.bucket(b).Put(key, sealed)
}

// Delete removes a key.
func (t *Tx) Delete(b kv.Bucket, key []byte) (deleted bool, err error) {
	was := t.bucket(b).Get(key)
	if was == nil {
		return false, nil
	}
	t.note(change{b, key, was})
	return true, t.bucket(b).Delete(key)
}

func (t *Tx) note(c change) {
	t.changed = true
	if t.parts > 0 {
		t.undo = append(t.undo, c)
	}
}

// Try runs a part of the transaction, all or nothing.
func (t *Tx) Try(part func() error) error {
	from, changed := len(t.undo), t.changed
	t.parts++
	err := t.sound(part())
	t.parts--
	if err != nil {
		t.takeBack(t.undo[from:])
		t.changed = changed
	}
	if err != nil || t.parts == 0 {
		t.undo = t.undo[:from]
	}
	return err
}

func (t *Tx) takeBack(changes []change) {
	for _, c := range slices.Backward(changes) {
		b := t.bucket(c.in)
		undone := b.Delete(c.key)
		if c.was != nil {
			undone = b.Put(c.key, c.was)
		}
		if undone != nil {
			panic(fmt.Sprintf("cannot take back a change of %s: %v", t.format.Buckets[c.in].Name, undone))
		}
	}
}

// Sequence is the number that files of the unsealed schema keep with a bucket.
func (t *Tx) Sequence(b kv.Bucket) uint64 {
	if in := t.bucket(b); in != nil {
		return in.Sequence()
	}
	return 0
}

// Cursor returns a cursor over a bucket. It ends early at a damaged value, which also
// makes the transaction fail.
func (t *Tx) Cursor(b kv.Bucket) kv.Cursor {
	in := t.bucket(b)
	if in == nil {
		return noCursor{}
	}
	return &cursor{t, b, in.Cursor()}
}

type cursor struct {
	t *Tx
	b kv.Bucket
	c *bolt.Cursor
}

func (c *cursor) First() (key, value []byte) { return c.forward(c.c.First()) }
func (c *cursor) Next() (key, value []byte)  { return c.forward(c.c.Next()) }
func (c *cursor) Last() (key, value []byte)  { return c.backward(c.c.Last()) }
func (c *cursor) Prev() (key, value []byte)  { return c.backward(c.c.Prev()) }

func (c *cursor) Seek(from []byte) (key, value []byte) { return c.forward(c.c.Seek(from)) }

func (c *cursor) forward(key, stored []byte) ([]byte, []byte) {
	if c.isSchema(key) {
		key, stored = c.c.Next()
	}
	return c.checked(key, stored)
}

func (c *cursor) backward(key, stored []byte) ([]byte, []byte) {
	if c.isSchema(key) {
		key, stored = c.c.Prev()
	}
	return c.checked(key, stored)
}

// isSchema reports whether a key is the format's own and no entry.
func (c *cursor) isSchema(key []byte) bool { return c.b == schemaBucket && string(key) == schemaKey }

func (c *cursor) checked(key, stored []byte) ([]byte, []byte) {
	if key == nil {
		return nil, nil
	}
	value := c.t.open(c.b, key, stored)
	if c.t.damage != nil {
		return nil, nil
	}
	return key, value
}

// noCursor is a cursor over a bucket that is not there.
type noCursor struct{}

func (noCursor) First() (key, value []byte)      { return nil, nil }
func (noCursor) Last() (key, value []byte)       { return nil, nil }
func (noCursor) Next() (key, value []byte)       { return nil, nil }
func (noCursor) Prev() (key, value []byte)       { return nil, nil }
func (noCursor) Seek([]byte) (key, value []byte) { return nil, nil }
