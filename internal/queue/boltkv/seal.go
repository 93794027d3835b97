package boltkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/assetd/assetd/internal/queue/kv"
)

// Every value in the file but the schema ends with a checksum: CRC-32C (RFC 3720,
// section 12.1) of the bucket, the key and the value, 4 bytes big endian. bbolt has
// checksums for its two meta pages only, so one bit that a disk or memory changed in a
// record would otherwise be believed: CRC-32C finds every error of up to 32 bits in a
// row. Whole entries can vanish with a changed number in a page's header: whoever opens
// the file counts them (Format.Check).
//
// Files of the unsealed schema have no checksums. They are read as they are, and
// rewritten by the first Open that may write (migrate).
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("its checksum does not fit: some of its bits have changed on the disk or in memory")

func checksum(b kv.Bucket, key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte{byte(b)})
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

// seal appends the checksum to a value.
func seal(b kv.Bucket, key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(b, key, value))
}

// unseal returns the value without its checksum; false where they do not agree.
func unseal(b kv.Bucket, key, sealed []byte) ([]byte, bool) {
	end := len(sealed) - sealSize
	if end < 0 {
		return nil, false
	}
	value := sealed[:end:end]
	return value, binary.BigEndian.Uint32(sealed[end:]) == checksum(b, key, value)
}

// open takes the checksum off what is stored under a key. Where they do not agree the
// value is as if it were not there, and the transaction is damaged (sound).
func (t *Tx) open(b kv.Bucket, key, stored []byte) []byte {
	if stored == nil || !t.sealed {
		return stored
	}
	value, ok := unseal(b, key, stored)
	if !ok {
		if t.damage == nil {
			t.damage = kv.Damaged(fmt.Sprintf("%s entry %.100q: %v", t.format.Buckets[b].Name, key, errChecksum), errChecksum)
		}
		return nil
	}
	return value
}

// sound returns the damage that the transaction came across, else err: what was done
// without the damaged value counts for nothing.
func (t *Tx) sound(err error) error {
	if t.damage != nil {
		return t.damage
	}
	return err
}
