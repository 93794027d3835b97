package queue

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// The due index has four parts, told apart by the first byte of a key. A run is in
// the part of its class:
//
//	0x00 <time, 7 bytes> <run>                      Heard: by time alone
//	0x02 <submission, 7 bytes> <run>                Unasked: due at once
//	0x03 <slot, 1 byte> <time, 8 bytes> <run>       Unheard
//	0x04 <slot, 1 byte> <time, 8 bytes> <run>       Missing
//
// A submission's slot is its number modulo 256: so what is due next of many
// submissions is found with at most 256 look-ups, however many there are.
const (
	slots    = 256
	turnHead = 8              // bytes of a key of the second part before the run
	slotHead = 10             // of the third and fourth
	mostEach = 128            // runs returned of each class but Heard
	mostNew  = 16             // of Newest
	lastTurn = int64(1) << 55 // more submissions than there can be
)

// partOf is the class in whose part a run is. One that was never asked for and was
// put off all the same is found by its time.
func partOf(r *record) run.Class {
	class := r.Class()
	if class == run.Unasked && r.due > millis(r.HandedIn) {
		return run.Unheard
	}
	return class
}

// turnKey is a run's key in the due index.
func turnKey(r *record) []byte {
	switch part := partOf(r); part {
	case run.Heard:
		return timed(r.due, string(r.ID))
	case run.Unasked:
		return unaskedKey(r.Submission, string(r.ID))
	default:
		return append(slotKey(part, byte(r.Submission%slots), r.due), r.ID...)
	}
}

func unaskedKey(submission int64, id string) []byte {
	return timed(int64(run.Unasked)<<56|submission, id)
}

func slotKey(part run.Class, slot byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(part), slot}, uint64(ms))
}

// submissions numbers those of one call of Add.
type submissions struct {
	known map[int]int64
}

// number is the number of the submission that is the nth of the call: a new one, the
// first time.
func (s *submissions) number(t *txn, nth int) (int64, error) {
	if n, ok := s.known[nth]; ok {
		return n, nil
	}
	last := int64(0)
	if value := t.get(bMeta, []byte(keyLast)); value != nil {
		n, err := decodeService(value)
		if err != nil {
			return 0, broken("number of submissions", []byte(keyLast), err)
		}
		last = int64(n)
	}
	last++
	if s.known == nil {
		s.known = map[int]int64{}
	}
	s.known[nth] = last
	return last, t.put(bMeta, []byte(keyLast), encodeService(time.Duration(last)))
}

// Due returns the runs to poll at local time now, by class and in the order in which
// they have their turns: up to limit of run.Heard, those due first before the others,
// up to 16 of run.Newest, and up to 128 of each further class, in which the submissions
// after those in turns take turns. next is when the first of the rest is due; zero: none is.
func (q *Queue) Due(ctx context.Context, now time.Time, turns run.Turns, limit int) (due []run.Due, next time.Time, err error) {
	err = q.view(ctx, func(t *txn) error {
		f := finder{t: t, c: t.tx.Cursor(bDue), now: now.UnixMilli(), next: -1, limit: limit}
		f.heard()
		f.limit = min(limit, mostEach)
		f.unasked(turns[run.Unasked])
		for _, part := range []run.Class{run.Unheard, run.Missing} {
			f.slots(part, byte(turns[part]%slots))
		}
		due = f.found
		if f.next >= 0 {
			next = at(f.next)
		}
		return f.err
	})
	return due, next, err
}

// finder collects what is due.
type finder struct {
	t     *txn
	c     kv.Cursor
	now   int64
	limit int // for each part
	found []run.Due
	next  int64 // when the first of the rest is due; -1: none is
	err   error
}

// later notes that a run that was not returned is due then.
func (f *finder) later(ms int64) {
	if f.next < 0 || ms < f.next {
		f.next = ms
	}
}

func (f *finder) take(id []byte, turn run.Class) {
	r, err := decodeRun(id, f.t.get(bRuns, id))
	if err != nil {
		f.err = err
		return
	}
	f.found = append(f.found, run.Due{Run: r.Run, Turn: turn})
}

func (f *finder) heard() {
	n := 0
	for k, _ := f.c.First(); k != nil && k[0] == byte(run.Heard) && f.err == nil; k, _ = f.c.Next() {
		ms, id, ok := untimed(k)
		if !ok {
			f.err = broken("due entry", k, errCodec)
			return
		}
		if ms > f.now || n >= f.limit {
			f.later(ms)
			return
		}
		f.take(id, run.Heard)
		n++
	}
}

// lane is a submission, or a slot, and where its next run is found.
type lane struct {
	from []byte // its next key is not before this one
	end  []byte // its keys are before this one
}

// unasked takes runs that were never asked for, the submissions after last first.
func (f *finder) unasked(last int64) {
	var lanes []lane
	for _, span := range [][2]int64{{last + 1, lastTurn}, {0, last + 1}} {
		for n := span[0]; n < span[1] && len(lanes) < f.limit; {
			k, _ := f.c.Seek(unaskedKey(n, ""))
			if k == nil || k[0] != byte(run.Unasked) || len(k) < turnHead {
				break
			}
			if n = int64(binary.BigEndian.Uint64(k) &^ (0xff << 56)); n >= span[1] {
				break
			}
			lanes = append(lanes, lane{unaskedKey(n, ""), unaskedKey(n+1, "")})
			n++
		}
	}
	if len(lanes) == 0 {
		return
	}
	newest := f.newest()
	n := 0
	f.rounds(lanes, func(k []byte) bool {
		switch {
		case newest[string(k)]: // has its turn already
			return true
		case n == f.limit:
			f.later(f.now)
			return false
		}
		f.take(k[turnHead:], run.Unasked)
		n++
		return true
	})
}

// newest takes runs of the newest submission, its last ones first, and returns their
// keys.
func (f *finder) newest() map[string]bool {
	taken := map[string]bool{}
	k, _ := f.c.Seek([]byte{byte(run.Unasked) + 1})
	if k == nil {
		k, _ = f.c.Last()
	} else {
		k, _ = f.c.Prev()
	}
	for ; k != nil && k[0] == byte(run.Unasked) && len(k) >= turnHead && len(taken) < min(f.limit, mostNew) && f.err == nil; k, _ = f.c.Prev() {
		taken[string(k)] = true
		f.take(k[turnHead:], run.Newest)
	}
	return taken
}

// slots takes what is due of a part, the slots after last first.
func (f *finder) slots(part run.Class, last byte) {
	var lanes []lane
	for _, span := range [][2]int{{int(last) + 1, slots}, {0, int(last) + 1}} {
		for slot := span[0]; slot < span[1]; slot++ {
			k, _ := f.c.Seek(slotKey(part, byte(slot), 0))
			if k == nil || k[0] != byte(part) || len(k) < slotHead || int(k[1]) >= span[1] {
				break
			}
			slot = int(k[1])
			if ms := int64(binary.BigEndian.Uint64(k[2:])); ms > f.now {
				f.later(ms)
				continue
			}
			lanes = append(lanes, lane{slotKey(part, byte(slot), 0), slotKey(part, byte(slot), f.now+1)})
		}
	}
	n := 0
	f.rounds(lanes, func(k []byte) bool {
		if n == f.limit {
			f.later(f.now)
			return false
		}
		f.take(k[slotHead:], part)
		n++
		return true
	})
}

// rounds calls take with the next key of each lane, round by round, until there is
// none or take wants no more.
func (f *finder) rounds(lanes []lane, take func(k []byte) bool) {
	for len(lanes) > 0 && f.err == nil {
		left := lanes[:0]
		for _, l := range lanes {
			k, _ := f.c.Seek(l.from)
			if k == nil || string(k) >= string(l.end) {
				if len(k) >= slotHead && len(l.end) == slotHead && string(k[:2]) == string(l.end[:2]) {
					f.later(int64(binary.BigEndian.Uint64(k[2:])))
				}
				continue
			}
			if !take(k) || f.err != nil {
				return
			}
			left = append(left, lane{append(append([]byte(nil), k...), 0), l.end})
		}
		lanes = left
	}
}

// firstDue is when the first run was due of those that had an answer, or were never
// asked for; where there are none, of any other.
func (t *txn) firstDue() (first time.Time, err error) {
	c := t.tx.Cursor(bDue)
	k, _ := c.First()
	if k == nil {
		return first, nil
	}
	switch {
	case k[0] == byte(run.Heard):
		ms, _, ok := untimed(k)
		if !ok {
			return first, broken("due entry", k, errCodec)
		}
		first = at(ms)
	case k[0] > byte(run.Unasked) && len(k) >= slotHead:
		return at(int64(binary.BigEndian.Uint64(k[2:]))), nil
	}
	if k, _ = c.Seek(unaskedKey(0, "")); k != nil && k[0] == byte(run.Unasked) && len(k) >= turnHead {
		r, err := decodeRun(k[turnHead:], t.get(bRuns, k[turnHead:]))
		if err != nil {
			return first, err
		}
		if due := at(r.due); first.IsZero() || due.Before(first) {
			first = due
		}
	}
	return first, nil
}
