package storage

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// The map of a part is rewritten whenever so much was written since, or so much
// time has passed: what a killed process has to fetch again.
const (
	mapBytes = 1 << 20
	mapTime  = 200 * time.Millisecond
)

// extentMap is what a sidecar says of a part that is written at several places at once.
// Its length tells nothing then, so the map is in the sidecar before the first
// byte past a gap, and Boot in the sidecar's place for it: who knows no maps takes
// such a sidecar for one of an earlier boot, and believes what was synced of the front.
type extentMap struct {
	Boot    string   `json:"boot"`
	Written []extent `json:"written"` // the front first; counts within that boot
	Synced  []extent `json:"synced"`  // past the sidecar's synced bytes
	Check   uint32   `json:"check"`   // CRC-32C of the sidecar without it: nothing here is read back before it is believed
}

// WriteAt writes where nothing is yet: at the end of the front, or past a gap.
// After an error, which is run.ErrNoRoom where the disk is full, only Close and
// Discard are left, except where space could not be reserved: then nothing was
// written.
func (p *Part) WriteAt(b []byte, off int64) (int, error) {
	if err := p.prepareWrite(off, int64(len(b))); err != nil {
		return 0, err
	}
	n, err := p.v.sys.write(p.f, b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broken != nil: // by another writer
		return 0, p.broken
	case err != nil:
		return 0, p.fail("writing", err)
	case !p.vacant(off, int64(n)):
		return 0, p.fail("writing", fmt.Errorf("two writers at byte %d", off))
	}
	p.add(off, b)
	p.account()
	return n, p.followWrite()
}

// prepareWrite makes ready for n bytes at an offset.
func (p *Part) prepareWrite(off, n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	if !p.vacant(off, n) {
		return fmt.Errorf("writing %s: there are bytes at %d already", p.path(), off)
	}
	if err := p.reserve(n); err != nil {
		return err
	}
	if p.stale {
		if err := p.trim(); err != nil {
			return err
		}
	}
	if off == p.size || p.sidecar == nil || p.sidecar.Map != nil {
		return nil
	}
	p.sidecar.Boot, p.sidecar.Map = "", &extentMap{Boot: p.v.boot}
	if p.writeSidecar() != nil {
		return p.removeSidecar() // no sidecar is as good: the part cannot be resumed then
	}
	return nil
}

// followWrite lets sidecar and syncs follow what was written.
func (p *Part) followWrite() error {
	if err := p.keepSynced(); err != nil {
		return err
	}
	if p.sidecar == nil || p.sidecar.Map == nil || p.written()-p.mapped < mapBytes && time.Since(p.mappedAt) < mapTime {
		return nil
	}
	p.writeSidecar() //nolint:errcheck // the old one says less than is true, which is safe
	return nil
}

// updateMap brings the sidecar's map up to date.
func (p *Part) updateMap() {
	m := p.sidecar.Map
	m.Written = append([]extent{{0, p.size, p.sum}}, p.extents...)
	m.Check = p.sidecar.sum()
	p.mapped, p.mappedAt = p.written(), time.Now()
}

// sum is the checksum of a sidecar with a map.
func (c sidecar) sum() uint32 {
	m := *c.Map
	c.Map, m.Check = &m, 0
	data, err := json.Marshal(c)
	if err != nil {
		return 0
	}
	return crc32.Checksum(data, crcTable)
}

// Beyond is what is past the first Have bytes, in order.
func (p *Part) Beyond() []run.Span {
	p.mu.Lock()
	defer p.mu.Unlock()
	spans := make([]run.Span, len(p.extents))
	for i, e := range p.extents {
		spans[i] = run.Span{From: e.From, To: e.To}
	}
	return spans
}

// byMap is what counts of a part with a map: within one boot all that it has, after
// a reboot each extent that was synced and is there.
func (p *Part) byMap(length int64) (is coverage, unsynced, good bool) {
	c, m := p.sidecar, p.sidecar.Map
	if m.Check != c.sum() || c.Synced < 0 {
		return is, false, false
	}
	synced := append([]extent{{0, c.Synced, c.Sum}}, m.Synced...)
	if !p.rebooted(m.Boot) {
		is, good = p.inOrder(m.Written, length)
		return is, is.written() > spanned(synced), good
	}
	var found []extent
	for _, e := range synced {
		if e.From < 0 || e.To > length {
			continue
		}
		if sum, read := p.checksum(e.From, e.To, 0); read && sum == e.Sum {
			found = append(found, e)
		}
	}
	is, good = p.inOrder(found, length)
	return is, false, good
}

// inOrder makes a coverage of extents that begin with the front and are in order,
// within the file and the object.
func (p *Part) inOrder(es []extent, length int64) (is coverage, ok bool) {
	if total := p.sidecar.Mark.Total; total >= 0 {
		length = min(length, total)
	}
	for i, e := range es {
		switch {
		case e.To <= e.From, e.To > length:
			return is, false
		case i == 0 && e.From == 0:
			is.size, is.sum = e.To, e.Sum
		case i == 0, e.From <= is.end():
			return is, false
		default:
			is.extents = append(is.extents, e)
		}
	}
	return is, is.size > 0
}

func spanned(es []extent) (n int64) {
	for _, e := range es {
		n += e.To - e.From
	}
	return n
}

// unsynced reports whether the sidecar knows of less than was written.
func (p *Part) unsynced() bool {
	synced := p.sidecar.Synced
	if p.sidecar.Map != nil {
		synced += spanned(p.sidecar.Map.Synced)
	}
	return synced < p.written()
}

// fallBack makes the part what the sidecar knows to be synced.
func (p *Part) fallBack() error {
	is := coverage{size: p.sidecar.Synced, sum: p.sidecar.Sum}
	if p.sidecar.Map != nil {
		is.extents = p.sidecar.Map.Synced
	}
	if err := p.v.sys.truncate(p.f, is.end()); err != nil {
		return err
	}
	p.coverage = is
	if p.sidecar.Map != nil {
		return p.writeSidecar() // the old one has more
	}
	return nil
}
