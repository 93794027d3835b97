package queue

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
)

// create fills a new store.
func create(tx kv.Tx) error {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	t := &txn{tx: tx}
	return errors.Join(
		t.put(bMeta, []byte(keyID), []byte(hex.EncodeToString(id[:]))),
		t.put(bMeta, []byte(keyService), encodeService(0)),
		t.writeCounts(),
	)
}

// identity is the queue's ID, and the service clock as it was last saved.
func (t *txn) identity() (id string, service time.Duration, err error) {
	id = string(t.get(bMeta, []byte(keyID)))
	service, err = decodeService(t.get(bMeta, []byte(keyService)))
	if err != nil || id == "" {
		err = kv.Damaged("its ID or its clock cannot be read", nil)
	}
	return id, service, err
}

// checkEntries reads every entry, so that the engine holds it against its checksum, and
// sees that each bucket has as many as the counts say.
func (t *txn) checkEntries() error {
	if err := t.readCounts(); err != nil {
		return err
	}
	if !t.counted {
		return nil
	}
	for b := range buckets {
		entries := int64(0)
		c := t.tx.Cursor(b)
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			entries++
		}
		if want := t.counts.entries[b]; entries != want {
			return kv.Damaged(fmt.Sprintf("%q has %d entries of %d", bucketName(b), entries, want), nil)
		}
	}
	return nil
}

// checkRecords reads every run and every asset.
func (t *txn) checkRecords() error {
	c := t.tx.Cursor(bRuns)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if _, err := decodeRun(k, v); err != nil {
			return err
		}
	}
	c = t.tx.Cursor(bAssets)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if _, err := decodeAsset(k, v); err != nil {
			return err
		}
	}
	return nil
}

// migrate writes an entry of the schema before this one.
func (t *txn) migrate(b kv.Bucket, k, v []byte) error {
	if b == bMeta && string(k) == keyCounts {
		return nil
	}
	k, v = append([]byte(nil), k...), append([]byte(nil), v...)
	if b == bRuns {
		r, err := decodeRun(k, v)
		if err == nil {
			err = t.noteDamage(nil, &r)
		}
		if err != nil {
			return err
		}
	}
	return t.put(b, k, v)
}
