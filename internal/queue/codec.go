package queue

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Records are written as fields, each a tag and a value: a tenth of JSON's work
// and less than half its size, which a million runs and thousands of commits a
// minute feel. A field that is zero is not written; a field that is not known is
// skipped, so that records can gain fields.
//
//	record = version state *field
//	field  = uvarint(number<<1 | wire) value
//	value  = varint                  ; wire 0
//	       / uvarint(length) *byte   ; wire 1: text, time, float or fields
const (
	codecVersion = 1
	wireNumber   = 0
	wireBytes    = 1
)

var errCodec = errors.New("record cannot be read")

type encoder struct{ b []byte }

func (e *encoder) tag(field int, wire uint64) {
	e.b = binary.AppendUvarint(e.b, uint64(field)<<1|wire)
}

// must writes the number though it be zero: for what is optional, not absent.
func (e *encoder) must(field int, n int64) {
	e.tag(field, wireNumber)
	e.b = binary.AppendVarint(e.b, n)
}

func (e *encoder) num(field int, n int64) {
	if n != 0 {
		e.must(field, n)
	}
}

func (e *encoder) flag(field int, set bool) {
	if set {
		e.must(field, 1)
	}
}

// each writes the text though it be empty: one of a list.
func (e *encoder) each(field int, s string) {
	e.tag(field, wireBytes)
	e.b = binary.AppendUvarint(e.b, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) text(field int, s string) {
	if s != "" {
		e.each(field, s)
	}
}

// time writes milliseconds, and the nanoseconds beyond them where there are any.
func (e *encoder) time(field int, t time.Time) {
	if t.IsZero() {
		return
	}
	var buf [2 * binary.MaxVarintLen64]byte
	b := binary.AppendVarint(buf[:0], t.UnixMilli())
	if rest := t.Nanosecond() % int(time.Millisecond); rest != 0 {
		b = binary.AppendUvarint(b, uint64(rest))
	}
	e.each(field, string(b))
}

func (e *encoder) float(field int, f float64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], math.Float64bits(f))
	e.each(field, string(b[:]))
}

// fields writes what write does as one value; nothing where it writes nothing.
func (e *encoder) fields(field int, write func(*encoder)) {
	var inner encoder
	write(&inner)
	e.text(field, string(inner.b))
}

// decoder reads fields one after another: next moves to a field, the other
// methods read its value. What it gives is copied.
type decoder struct {
	b     []byte
	field int
	n     int64
	raw   []byte
	err   error
}

func (d *decoder) next() bool {
	if d.err != nil || len(d.b) == 0 {
		return false
	}
	tag := d.uvarint()
	d.field, d.n, d.raw = int(tag>>1), 0, nil
	if tag&1 == wireNumber {
		n, size := binary.Varint(d.b)
		d.n = n
		d.skip(size)
		return d.err == nil
	}
	size := d.uvarint()
	if d.err != nil || size > uint64(len(d.b)) {
		d.err = errCodec
		return false
	}
	d.raw, d.b = d.b[:size], d.b[size:]
	return true
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	d.skip(size)
	return n
}

func (d *decoder) skip(size int) {
	if size <= 0 {
		d.err = errCodec
		return
	}
	d.b = d.b[size:]
}

func (d *decoder) num() int                { return int(d.n) }
func (d *decoder) flag() bool              { return d.n != 0 }
func (d *decoder) text() string            { return string(d.raw) }
func (d *decoder) duration() time.Duration { return time.Duration(d.n) }

func (d *decoder) time() time.Time {
	ms, size := binary.Varint(d.raw)
	if size <= 0 {
		d.err = errCodec
		return time.Time{}
	}
	rest, _ := binary.Uvarint(d.raw[size:])
	return time.UnixMilli(ms).Add(time.Duration(rest % uint64(time.Millisecond))).UTC()
}

func (d *decoder) float() float64 {
	if len(d.raw) != 8 {
		d.err = errCodec
		return 0
	}
	return math.Float64frombits(binary.BigEndian.Uint64(d.raw))
}

// fields reads a value of fields.
func (d *decoder) fields(read func(*decoder)) {
	inner := decoder{b: d.raw}
	for inner.next() {
		read(&inner)
	}
	if inner.err != nil {
		d.err = inner.err
	}
}
