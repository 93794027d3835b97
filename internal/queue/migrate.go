package queue

import (
	"bytes"
	"encoding/hex"
	"errors"

	bolt "go.etcd.io/bbolt"
)

// The schemas of the file. What an older assetd cannot read, it refuses by name.
const (
	schema         = "assetd/queue/2"
	schemaUnsealed = "assetd/queue/1" // values without checksums
)

// initialize writes what a new queue holds.
func initialize(db *bolt.DB, id []byte) error {
	return db.Update(func(tx *bolt.Tx) error {
		t, err := prepare(tx)
		if err != nil {
			return err
		}
		return errors.Join(
			t.put(bMeta, []byte(keyID), []byte(hex.EncodeToString(id))),
			t.put(bMeta, []byte(keyService), encodeService(0)),
			t.writeCounts(),
		)
	})
}

// prepare makes the buckets and the schema. The counts are written so that they count
// themselves.
func prepare(tx *bolt.Tx) (*txn, error) {
	for b := range buckets {
		if _, err := tx.CreateBucket(b.name()); err != nil {
			return nil, err
		}
	}
	if err := tx.Bucket(bMeta.name()).Put([]byte(keySchema), []byte(schema)); err != nil {
		return nil, err
	}
	t := &txn{tx: tx, sealed: true}
	return t, t.writeCounts()
}

// migrate rewrites a file of schema 1 as one of this schema: the new file is complete
// and synced before it takes the old one's name.
func (q *Queue) migrate() error {
	err := q.replace(func(to *bolt.DB) error {
		return q.db.View(func(tx *bolt.Tx) error { return sealInto(to, tx) })
	})
	if err != nil {
		return err
	}
	if err := q.reopen(); err != nil {
		return err
	}
	return q.check(true)
}

// sealInto copies all of a file without checksums into a new one.
func sealInto(to *bolt.DB, from *bolt.Tx) error {
	old := &txn{tx: from}
	if err := old.readCounts(); err != nil {
		return err
	}
	counts := counts{states: old.counts.states}
	if b := old.bucket(bOutbox); b != nil {
		counts.notices = int64(b.Sequence())
	}
	err := to.Update(func(tx *bolt.Tx) error {
		t, err := prepare(tx)
		counts.entries = t.counts.entries
		return err
	})
	for b := bucket(0); err == nil && b < buckets; b++ {
		err = sealBucket(to, old, b, &counts)
	}
	return err
}

// sealBucket copies one bucket, compactStep bytes in a transaction, and keeps the
// counts up to date.
func sealBucket(to *bolt.DB, old *txn, b bucket, counts *counts) error {
	if old.bucket(b) == nil { // the first versions had no outbox
		return nil
	}
	c := old.cursor(b)
	for k, v := c.First(); k != nil; {
		err := to.Update(func(tx *bolt.Tx) error {
			t := &txn{tx: tx, sealed: true, counts: *counts}
			for size := 0; k != nil && size < compactStep; k, v = c.Next() {
				if b == bMeta && (string(k) == keySchema || string(k) == keyCounts) {
					continue
				}
				size += len(k) + len(v)
				t.undo = t.undo[:0]
				if err := t.put(b, bytes.Clone(k), bytes.Clone(v)); err != nil {
					return err
				}
				if b == bRuns {
					r, err := decodeRun(k, v)
					if err == nil {
						err = t.noteDamage(nil, &r)
					}
					if err != nil {
						return err
					}
				}
			}
			*counts = t.counts
			return t.writeCounts()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
