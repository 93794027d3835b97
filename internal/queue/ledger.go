package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"
)

// UsesVolume reports whether this queue has ever used a storage directory
// (UseVolume). The name is compared as it is.
func (q *Queue) UsesVolume(dir string) (bool, error) { return q.noted(keyVolume + dir) }

// UseVolume notes, for good, that this queue uses a storage directory.
func (q *Queue) UseVolume(ctx context.Context, dir string) error { return q.note(ctx, keyVolume+dir) }

// Proven reports whether Prove was called with this fingerprint.
func (q *Queue) Proven(fingerprint string) (bool, error) { return q.noted(keyProof + fingerprint) }

// Prove notes, for good, that the API answered for what the fingerprint stands
// for: a URL, path and key together.
func (q *Queue) Prove(ctx context.Context, fingerprint string) error {
	return q.note(ctx, keyProof+fingerprint)
}

func (q *Queue) noted(key string) (found bool, err error) {
	err = q.view(context.Background(), func(t *txn) error {
		found = t.get(bMeta, []byte(key)) != nil
		return nil
	})
	return found, err
}

func (q *Queue) note(ctx context.Context, key string) error {
	return q.update(ctx, 1, func(t *txn) error { return t.put(bMeta, []byte(key), present()) })
}

// Cutters are the hosts that Cuts was called with, and when each was seen.
func (q *Queue) Cutters(ctx context.Context) (seen map[string]time.Time, err error) {
	seen = map[string]time.Time{}
	err = q.view(ctx, func(t *txn) error {
		c := t.tx.Cursor(bMeta)
		for k, v := c.Seek([]byte(keyCuts)); bytes.HasPrefix(k, []byte(keyCuts)); k, v = c.Next() {
			at, err := decodeService(v)
			if err != nil {
				return broken("host", k, err)
			}
			seen[string(k[len(keyCuts):])] = time.UnixMilli(at.Milliseconds())
		}
		return nil
	})
	return seen, err
}

// Cuts notes that a host was seen to end transfers when their URLs died; the zero
// time takes that back.
func (q *Queue) Cuts(ctx context.Context, host string, seen time.Time) error {
	key := []byte(keyCuts + host)
	return q.update(ctx, 1, func(t *txn) error {
		if seen.IsZero() {
			return t.del(bMeta, key)
		}
		return t.put(bMeta, key, encodeService(time.Duration(seen.UnixNano())))
	})
}

// SaveService records the service clock for the next start.
func (q *Queue) SaveService(ctx context.Context, now time.Duration) error {
	return q.update(ctx, 1, func(t *txn) error {
		return t.put(bMeta, []byte(keyService), encodeService(now))
	})
}

func encodeService(d time.Duration) []byte {
	return binary.BigEndian.AppendUint64([]byte{codecVersion}, uint64(d))
}

func decodeService(value []byte) (time.Duration, error) {
	if len(value) != 9 || value[0] != codecVersion {
		return 0, errCodec
	}
	return time.Duration(binary.BigEndian.Uint64(value[1:])), nil
}
