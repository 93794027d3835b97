package storage

import (
	"hash/crc32"
	"slices"
)

// extent is bytes of a part that stand together, and their CRC-32C.
type extent struct {
	From int64  `json:"from"`
	To   int64  `json:"to"` // the first byte behind it
	Sum  uint32 `json:"crc32c"`
}

// reach is which bytes of a part count: those from its front on, and, where it is
// written at several places at once, what stands beyond a gap.
type reach struct {
	size   int64 // of the front
	sum    uint32
	beyond []extent // in order, apart from each other and from the front
}

// written is how many bytes count.
func (r *reach) written() int64 {
	n := r.size
	for _, e := range r.beyond {
		n += e.To - e.From
	}
	return n
}

// far is where the last of them ends.
func (r *reach) far() int64 {
	if last := len(r.beyond) - 1; last >= 0 {
		return r.beyond[last].To
	}
	return r.size
}

// snapshot is the reach as it is now.
func (r *reach) snapshot() reach {
	return reach{r.size, r.sum, slices.Clone(r.beyond)}
}

// next is the index of the first extent that ends behind the offset.
func (r *reach) next(off int64) int {
	i := 0
	for i < len(r.beyond) && r.beyond[i].To <= off {
		i++
	}
	return i
}

// vacant reports whether none of n bytes from the offset on counts.
func (r *reach) vacant(off, n int64) bool {
	i := r.next(off)
	return off >= r.size && (i == len(r.beyond) || off+n <= r.beyond[i].From)
}

// put counts bytes that were written where it was vacant.
func (r *reach) put(off int64, b []byte) {
	if len(b) == 0 {
		return
	}
	i, end := r.next(off), off+int64(len(b))
	switch {
	case off == r.size:
		r.size, r.sum = end, crc32.Update(r.sum, crcTable, b)
		if len(r.beyond) > 0 && r.beyond[0].From == end {
			r.size, r.sum = r.beyond[0].To, joinCRC(r.sum, r.beyond[0])
			r.beyond = slices.Delete(r.beyond, 0, 1)
		}
		return
	case i > 0 && r.beyond[i-1].To == off:
		i--
		r.beyond[i].To, r.beyond[i].Sum = end, crc32.Update(r.beyond[i].Sum, crcTable, b)
	default:
		r.beyond = slices.Insert(r.beyond, i, extent{off, end, crc32.Checksum(b, crcTable)})
	}
	if i+1 < len(r.beyond) && r.beyond[i+1].From == end {
		r.beyond[i].To, r.beyond[i].Sum = r.beyond[i+1].To, joinCRC(r.beyond[i].Sum, r.beyond[i+1])
		r.beyond = slices.Delete(r.beyond, i+1, i+2)
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
