package storage

import (
	"hash/crc32"
	"slices"
)

// extent is bytes of a part that are contiguous, and their CRC-32C.
type extent struct {
	From int64  `json:"from"`
	To   int64  `json:"to"` // the first byte behind it
	Sum  uint32 `json:"crc32c"`
}

// coverage is which bytes of a part count: those from its front on, and, where it is
// written at several places at once, what is past a gap.
type coverage struct {
	size    int64 // of the front
	sum     uint32
	extents []extent // in order, apart from each other and from the front
}

// written is how many bytes count.
func (r *coverage) written() int64 {
	n := r.size
	for _, e := range r.extents {
		n += e.To - e.From
	}
	return n
}

// end is where the last of them ends.
func (r *coverage) end() int64 {
	if last := len(r.extents) - 1; last >= 0 {
		return r.extents[last].To
	}
	return r.size
}

// snapshot is a copy of the coverage.
func (r *coverage) snapshot() coverage {
	return coverage{r.size, r.sum, slices.Clone(r.extents)}
}

// next is the index of the first extent that ends behind the offset.
func (r *coverage) next(off int64) int {
	i := 0
	for i < len(r.extents) && r.extents[i].To <= off {
		i++
	}
	return i
}

// vacant reports whether none of n bytes from the offset on counts.
func (r *coverage) vacant(off, n int64) bool {
	i := r.next(off)
	return off >= r.size && (i == len(r.extents) || off+n <= r.extents[i].From)
}

// add counts bytes that were written where it was vacant.
func (r *coverage) add(off int64, b []byte) {
	if len(b) == 0 {
		return
	}
	i, end := r.next(off), off+int64(len(b))
	switch {
	case off == r.size:
		r.size, r.sum = end, crc32.Update(r.sum, crcTable, b)
		if len(r.extents) > 0 && r.extents[0].From == end {
			r.size, r.sum = r.extents[0].To, joinCRC(r.sum, r.extents[0])
			r.extents = slices.Delete(r.extents, 0, 1)
		}
		return
	case i > 0 && r.extents[i-1].To == off:
		i--
		r.extents[i].To, r.extents[i].Sum = end, crc32.Update(r.extents[i].Sum, crcTable, b)
	default:
		r.extents = slices.Insert(r.extents, i, extent{off, end, crc32.Checksum(b, crcTable)})
	}
	if i+1 < len(r.extents) && r.extents[i+1].From == end {
		r.extents[i].To, r.extents[i].Sum = r.extents[i+1].To, joinCRC(r.extents[i].Sum, r.extents[i+1])
		r.extents = slices.Delete(r.extents, i+1, i+2)
	}
}

// joinCRC is the CRC-32C of bytes with that sum and of the extent behind them: the
// first sum is multiplied by x to the power of the extent's bits, modulo the
// polynomial, as in zlib's crc32_combine.
func joinCRC(sum uint32, e extent) uint32 {
	power, square := uint32(1)<<31, uint32(1)<<23 // x^0, x^8
	for n := e.To - e.From; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = timesCRC(power, square)
		}
		square = timesCRC(square, square)
	}
	return timesCRC(power, sum) ^ e.Sum
}

// timesCRC multiplies two polynomials over GF(2), highest power in the lowest bit,
// modulo that of CRC-32C.
func timesCRC(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		b = b>>1 ^ b&1*crc32.Castagnoli
	}
	return product
}
