package storage

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// sidecar is stored next to a part that can be resumed. The checksum binds it to the
// synced bytes: after a power loss an old sidecar may be next to a newer part, as
// nothing orders the two on every file system.
type sidecar struct {
	Mark   run.PartMark `json:"mark"`
	Boot   string       `json:"boot"`   // in which the part's length counts; empty: in none, there is a map
	Synced int64        `json:"synced"` // bytes from the front on
	Sum    uint32       `json:"crc32c"` // of the synced bytes
	Map    *extentMap   `json:"map,omitempty"`
}

// writeSidecar replaces the sidecar. It is not synced: at worst an older one comes back.
func (p *Part) writeSidecar() error {
	if p.sidecar.Map != nil {
		p.updateMap()
	}
	data, err := json.Marshal(p.sidecar)
	if err != nil {
		return err
	}
	d, err := p.m.enter(partsDir, false)
	if err != nil {
		return err
	}
	defer d.close()
	temp := p.hash + sidecarExt + tempExt
	if err := d.writeFile(temp, data, false); err != nil {
		return err
	}
	p.hasSidecar = true
	return d.replace(temp, p.hash+sidecarExt)
}

// removeSidecar removes the sidecar: the part cannot be resumed any more. An error
// counts, as an old sidecar must never be next to newer bytes.
func (p *Part) removeSidecar() error {
	p.sidecar = nil
	if !p.hasSidecar {
		return nil
	}
	if err := p.v.sys.remove(p.m.root, p.name(sidecarExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p.v.explain("removing", p.m.path(p.name(sidecarExt)), err)
	}
	p.hasSidecar = false
	return nil
}

// readSidecar finds the sidecar, if there is one that can be read as one.
func (p *Part) readSidecar(d *folder) error {
	f, info, err := d.regular(p.hash+sidecarExt, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p.hasSidecar = true
	if errors.Is(err, errNotRegular) {
		return err
	}
	if err != nil {
		return p.v.unusable(p.m.path(p.name(sidecarExt)), err)
	}
	defer f.Close()
	data := make([]byte, min(info.Size(), 64<<10))
	n, err := p.v.sys.read(f, data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return p.v.unusable(p.m.path(p.name(sidecarExt)), err)
	}
	c := &sidecar{}
	if json.Unmarshal(data[:n], c) == nil && c.Mark.ETag != "" {
		p.sidecar = c
	}
	return nil
}

// resume finds out which of the part's bytes count, by its sidecar.
func (p *Part) resume(info fs.FileInfo) error {
	c := p.sidecar
	if c == nil {
		return p.removeSidecar()
	}
	var is coverage
	var unsynced, good bool
	if c.Map == nil {
		is, unsynced, good = p.byLength(info.Size())
	} else {
		is, unsynced, good = p.byMap(info.Size())
	}
	if good && unsynced {
		// Bytes of an earlier descriptor, never synced: what went wrong with them is
		// reported to this one now, and to none later.
		good = p.v.sys.sync(p.f) == nil
	}
	if good && info.Size() > is.end() {
		// Before the sidecar says that in this boot the length counts.
		good = p.v.sys.truncate(p.f, is.end()) == nil
	}
	if !good {
		return p.removeSidecar()
	}
	p.stale = false
	p.coverage, p.reserved = is, is.written()
	p.asked = p.snapshot()
	before := *c
	p.trust(is)
	if before != *c {
		p.writeSidecar() //nolint:errcheck // the old one says less than is true, which is safe
	}
	if st, ok := sysStat(info); ok && info.Size() <= is.end() {
		// Blocks that were allocated and not written yet are there still.
		p.alloc = min(max(st.Blocks*512, p.reserved), max(c.Mark.Total, p.reserved))
		p.reserved = p.alloc
	}
	return nil
}

// byLength is what counts of a part that was written from front to back: within one
// boot all of it, after a reboot what was synced.
func (p *Part) byLength(length int64) (is coverage, unsynced, good bool) {
	c := p.sidecar
	if c.Synced < 0 || c.Synced > length {
		return is, false, false
	}
	if p.rebooted(c.Boot) {
		// All that counts is read, to see that it is what was synced.
		sum, read := p.checksum(0, c.Synced, 0)
		is = coverage{size: c.Synced, sum: sum}
		return is, false, read && sum == c.Sum && (c.Mark.Total < 0 || is.size <= c.Mark.Total)
	}
	sum, read := p.checksum(c.Synced, length, c.Sum) // only the tail past the last sync
	is = coverage{size: length, sum: sum}
	return is, c.Synced < length, read && (c.Mark.Total < 0 || is.size <= c.Mark.Total)
}

func (p *Part) rebooted(boot string) bool { return boot == "" || boot != p.v.boot }

// trust makes the sidecar say that this is synced, and counts in this boot.
func (p *Part) trust(is coverage) {
	c := p.sidecar
	c.Synced, c.Sum = is.size, is.sum
	c.Boot, c.Map = p.v.boot, nil
	if len(is.extents) > 0 {
		c.Boot, c.Map = "", &extentMap{Boot: p.v.boot, Synced: is.snapshot().extents}
	}
}

// checksum goes on with sum over the bytes from one offset to another.
func (p *Part) checksum(from, to int64, sum uint32) (uint32, bool) {
	buf := make([]byte, min(256<<10, max(to-from, 0)))
	for from < to {
		n, err := p.v.sys.read(p.f, buf[:min(int64(len(buf)), to-from)], from)
		sum = crc32.Update(sum, crcTable, buf[:n])
		from += int64(n)
		if err != nil && from < to {
			return 0, false
		}
	}
	return sum, true
}

// keepSynced starts a sync during the transfer when it is time for one, and waits
// for it only when too much piles up behind. Parts that cannot be resumed get
// theirs too: their last sync, in the committer, must not hold up all others.
func (p *Part) keepSynced() error {
	ahead := p.written() - p.asked.written()
	if p.syncing != nil {
		if len(p.syncing) == 0 && ahead < mostUnsynced {
			return nil
		}
		if err := p.endSync(); err != nil {
			return err
		}
	}
	if ahead >= syncBytes || ahead > 0 && time.Since(p.askedAt) >= syncTime {
		p.startSync()
	}
	return nil
}

func (p *Part) startSync() {
	p.asked, p.askedAt = p.snapshot(), time.Now()
	done, f := make(chan error, 1), p.f
	p.syncing = done
	go func() { done <- p.v.sys.sync(f) }()
}

// endSync waits for the sync under way, if any, and notes on the sidecar how far it
// came. A sidecar that cannot be rewritten says less than is true, which is safe.
func (p *Part) endSync() error {
	if p.syncing == nil {
		return nil
	}
	err := <-p.syncing
	p.syncing = nil
	if err != nil {
		return p.lose("syncing", err)
	}
	if p.sidecar != nil {
		p.sidecar.Synced, p.sidecar.Sum = p.asked.size, p.asked.sum
		if p.sidecar.Map != nil {
			p.sidecar.Map.Synced = p.asked.extents
		}
		p.writeSidecar() //nolint:errcheck // see above
	}
	return nil
}
