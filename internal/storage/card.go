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

// card stands beside a part that can be resumed. The checksum binds it to the
// synced bytes: after a power loss an old card may lie beside a newer part, as
// nothing orders the two on every file system.
type card struct {
	Mark   run.PartMark `json:"mark"`
	Boot   string       `json:"boot"`   // in which the part's length counts; empty: in none, there is a map
	Synced int64        `json:"synced"` // bytes from the front on
	Sum    uint32       `json:"crc32c"` // of the synced bytes
	Map    *partMap     `json:"map,omitempty"`
}

// writeCard replaces the card. It is not synced: at worst an older one comes back.
func (p *Part) writeCard() error {
	if p.card.Map != nil {
		p.draw()
	}
	data, err := json.Marshal(p.card)
	if err != nil {
		return err
	}
	d, err := p.m.enter(partsDir, false)
	if err != nil {
		return err
	}
	defer d.close()
	temp := p.hash + cardExt + tempExt
	if err := d.writeFile(temp, data, false); err != nil {
		return err
	}
	p.carded = true
	return d.replace(temp, p.hash+cardExt)
}

// dropCard takes the card away: the part cannot be resumed any more. An error
// counts, as an old card must never stand beside newer bytes.
func (p *Part) dropCard() error {
	p.card = nil
	if !p.carded {
		return nil
	}
	if err := p.v.sys.remove(p.m.root, p.name(cardExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p.v.explain("removing", p.m.path(p.name(cardExt)), err)
	}
	p.carded = false
	return nil
}

// readCard finds the card, if one stands and can be read as one.
func (p *Part) readCard(d *folder) error {
	f, info, err := d.regular(p.hash+cardExt, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p.carded = true
	if errors.Is(err, errNotRegular) {
		return err
	}
	if err != nil {
		return p.v.unusable(p.m.path(p.name(cardExt)), err)
	}
	defer f.Close()
	data := make([]byte, min(info.Size(), 64<<10))
	n, err := p.v.sys.read(f, data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return p.v.unusable(p.m.path(p.name(cardExt)), err)
	}
	c := &card{}
	if json.Unmarshal(data[:n], c) == nil && c.Mark.ETag != "" {
		p.card = c
	}
	return nil
}

// resume finds out which of the part's bytes count, by its card.
func (p *Part) resume(info fs.FileInfo) error {
	c := p.card
	if c == nil {
		return p.dropCard()
	}
	var is reach
	var unsynced, good bool
	if c.Map == nil {
		is, unsynced, good = p.byLength(info.Size())
	} else {
		is, unsynced, good = p.byMap(info.Size())
	}
	if good && unsynced {
		// Bytes of an earlier descriptor, never synced: what went wrong with them is
		// told to this one now, and to nobody later.
		good = p.v.sys.sync(p.f) == nil
	}
	if good && info.Size() > is.far() {
		// Before the card says that in this boot the length counts.
		good = p.v.sys.truncate(p.f, is.far()) == nil
	}
	if !good {
		return p.dropCard()
	}
	p.stale = false
	p.reach, p.end = is, is.written()
	p.asked = p.snapshot()
	before := *c
	p.believe(is)
	if before != *c {
		p.writeCard() //nolint:errcheck // the old one says less than is true, which is safe
	}
	if st, ok := sysStat(info); ok && info.Size() <= is.far() {
		// Blocks that were set aside and not written yet are there still.
		p.alloc = min(max(st.Blocks*512, p.end), max(c.Mark.Total, p.end))
		p.end = p.alloc
	}
	return nil
}

// byLength is what counts of a part that was written from front to back: within one
// boot all of it, after a reboot what was synced.
func (p *Part) byLength(length int64) (is reach, unsynced, good bool) {
	c := p.card
	if c.Synced < 0 || c.Synced > length {
		return is, false, false
	}
	if p.rebooted(c.Boot) {
		// All that counts is read, to see that it is what was synced.
		sum, read := p.checksum(0, c.Synced, 0)
		is = reach{size: c.Synced, sum: sum}
		return is, false, read && sum == c.Sum && (c.Mark.Total < 0 || is.size <= c.Mark.Total)
	}
	sum, read := p.checksum(c.Synced, length, c.Sum) // only the tail beyond the last sync
	is = reach{size: length, sum: sum}
	return is, c.Synced < length, read && (c.Mark.Total < 0 || is.size <= c.Mark.Total)
}

func (p *Part) rebooted(boot string) bool { return boot == "" || boot != p.v.boot }

// believe makes the card say that this is synced, and counts in this boot.
func (p *Part) believe(is reach) {
	c := p.card
	c.Synced, c.Sum = is.size, is.sum
	c.Boot, c.Map = p.v.boot, nil
	if len(is.beyond) > 0 {
		c.Boot, c.Map = "", &partMap{Boot: p.v.boot, Synced: is.snapshot().beyond}
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

// keepSynced starts a sync beside the transfer when it is time for one, and waits
// for it only when too much piles up behind. Parts that cannot be resumed get
// theirs too: their last sync, in the keeper, must not hold up all others.
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

// endSync waits for the sync under way, if any, and notes on the card how far it
// came. A card that cannot be rewritten says less than is true, which is safe.
func (p *Part) endSync() error {
	if p.syncing == nil {
		return nil
	}
	err := <-p.syncing
	p.syncing = nil
	if err != nil {
		return p.lose("syncing", err)
	}
	if p.card != nil {
		p.card.Synced, p.card.Sum = p.asked.size, p.asked.sum
		if p.card.Map != nil {
			p.card.Map.Synced = p.asked.beyond
		}
		p.writeCard() //nolint:errcheck // see above
	}
	return nil
}
