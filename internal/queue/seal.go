package queue

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"
)

// Every value in the file but the schema ends with a checksum: CRC-32C (RFC 3720,
// section 12.1) of the bucket, the key and the value, 4 bytes big endian. bbolt has
// checksums for its two meta pages only, so one bit that a disk or memory changed in a
// record would otherwise be believed: CRC-32C finds every error of up to 32 bits in a
// row. That whole entries vanish with a changed number in a page's header is found by
// the number of entries of each bucket, which the counts hold (txn.counts).
//
// Files of schema 1 have no checksums. They are read as they are, and rewritten by the
// first Open that may write (migrate).
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b bucket, key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte{byte(b)})
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

// seal appends the checksum to a value.
func seal(b bucket, key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(b, key, value))
}

// unseal returns the value without its checksum; false where they do not agree.
func unseal(b bucket, key, sealed []byte) ([]byte, bool) {
	end := len(sealed) - sealSize
	if end < 0 {
		return nil, false
	}
	value := sealed[:end:end]
	return value, binary.BigEndian.Uint32(sealed[end:]) == checksum(b, key, value)
}

// open takes the checksum off what is stored under a key. Where they do not agree the
// value is as if it were not there, and the transaction is damaged (txn.sound).
func (t *txn) open(b bucket, key, stored []byte) []byte {
	if stored == nil || !t.sealed {
		return stored
	}
	value, ok := unseal(b, key, stored)
	if !ok {
		if t.damage == nil {
			t.damage = broken(string(b.name())+" entry", key, errChecksum)
		}
		return nil
	}
	return value
}

// sound returns the damage that the transaction came across, else err: what was done
// without the damaged value counts for nothing.
func (t *txn) sound(err error) error {
	if t.damage != nil {
		return t.damage
	}
	return err
}

// cursor goes through a bucket in the order of its keys. It ends early at a damaged
// value (txn.sound).
type cursor struct {
	t *txn
	b bucket
	c *bolt.Cursor
}

func (t *txn) cursor(b bucket) *cursor { return &cursor{t, b, t.bucket(b).Cursor()} }

// First, Seek and Next return a key and its value; a nil key where there is none.
func (c *cursor) First() (key, value []byte) { return c.checked(c.c.First()) }

// Seek moves to the first key that is not less than from.
func (c *cursor) Seek(from []byte) (key, value []byte) { return c.checked(c.c.Seek(from)) }

// Next moves to the next key.
func (c *cursor) Next() (key, value []byte) { return c.checked(c.c.Next()) }

// Last and Prev move to the last key, and to the one before.
func (c *cursor) Last() (key, value []byte) { return c.checked(c.c.Last()) }
func (c *cursor) Prev() (key, value []byte) { return c.checked(c.c.Prev()) }

func (c *cursor) checked(key, stored []byte) ([]byte, []byte) {
	if key == nil {
		return nil, nil
	}
	if c.b == bMeta && string(key) == keySchema {
		return key, stored
	}
	value := c.t.open(c.b, key, stored)
	if c.t.damage != nil {
		return nil, nil
	}
	return key, value
}

// sums reads every entry of the file: each agrees with its checksum, and each bucket
// has as many as the counts say.
func (t *txn) sums() error {
	if !t.sealed {
		return nil
	}
	if err := t.readCounts(); err != nil {
		return t.sound(err)
	}
	for b := range buckets {
		entries := int64(0)
		c := t.cursor(b)
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if b != bMeta || string(k) != keySchema {
				entries++
			}
		}
		if t.damage != nil {
			return t.damage
		}
		if want := t.counts.entries[b]; entries != want {
			return &DamageError{Finding: fmt.Sprintf("%q has %d entries of %d", b.name(), entries, want), Mend: mend}
		}
	}
	return nil
}
