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
	Boot   string       `json:"boot"`
	Synced int64        `json:"synced"` // bytes
	Sum    uint32       `json:"crc32c"` // of the synced bytes
}

// writeCard replaces the card. It is not synced: at worst an older one comes back.
func (p *Part) writeCard() error {
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

// resume finds out how many of the part's bytes count, by its card.
func (p *Part) resume(length int64) error {
	c := p.card
	if c == nil {
		return p.dropCard()
	}
	from, size, sum := c.Synced, length, c.Sum
	rebooted := c.Boot == "" || c.Boot != p.v.boot
	if rebooted {
		from, size, sum = 0, c.Synced, 0
	}
	good := c.Synced >= 0 && c.Synced <= length && (c.Mark.Total < 0 || size <= c.Mark.Total)
	if good {
		// Within one boot only the tail beyond the last sync is read; after a reboot
		// all that counts, to see that it is what was synced.
		sum, good = p.checksum(from, size, sum)
		good = good && (!rebooted || sum == c.Sum)
	}
	if good && c.Synced < size {
		// Bytes of an earlier descriptor, never synced: what went wrong with them is
		// told to this one now, and to nobody later.
		good = p.v.sys.sync(p.f) == nil
	}
	if !good {
		return p.dropCard()
	}
	if now := (card{Mark: c.Mark, Boot: p.v.boot, Synced: size, Sum: sum}); *c != now {
		*c = now
		p.writeCard() //nolint:errcheck // the old one says less than is true, which is safe
	}
	p.size, p.sum, p.end, p.stale = size, sum, size, length > size
	p.asked, p.askSum = size, sum
	return nil
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
	if p.syncing != nil {
		if len(p.syncing) == 0 && p.size-p.asked < mostUnsynced {
			return nil
		}
		if err := p.endSync(); err != nil {
			return err
		}
	}
	if p.size-p.asked >= syncBytes || p.size > p.asked && time.Since(p.askedAt) >= syncTime {
		p.startSync()
	}
	return nil
}

func (p *Part) startSync() {
	p.asked, p.askSum, p.askedAt = p.size, p.sum, time.Now()
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
		p.card.Synced, p.card.Sum = p.asked, p.askSum
		p.writeCard() //nolint:errcheck // see above
	}
	return nil
}
