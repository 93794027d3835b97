package storage

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// A part that can be resumed is synced whenever so much was written or so much
// time has passed, during the transfer, which waits only when it is mostUnsynced
// ahead.
const (
	syncBytes    = 8 << 20
	mostUnsynced = 4 * syncBytes
	syncTime     = 5 * time.Second
)

// quarantineSize is how much of a body that is not media is kept, in bytes.
const quarantineSize = 1 << 20

var (
	errClosed = errors.New("the part is closed")
	crcTable  = crc32.MakeTable(crc32.Castagnoli)
)

// Part is an asset's bytes on their way: a file in .assetd/parts that is written
// from front to back, or at several places at once. WriteAt and ReadAt are safe for
// concurrent use, with Have and each other; all else is not. One of Close, Discard,
// Quarantine and Keep ends it; after that only Close may be called, and does
// nothing.
//
// A part whose mark has an ETag has a sidecar next to it, from before its first byte
// on, and can be resumed; any other is gone when it is closed. Within one boot a
// part counts as long as it is, or, where it was written at several places, as its
// sidecar's map says; after a reboot as far as it was synced, and only if the bytes
// there have the checksum that the sidecar says.
type Part struct {
	v    *Volume
	m    *mount
	key  run.Key
	hash string
	f    *os.File
	seq  uint64 // grows with the moment f was opened

	mu       sync.Mutex // of all below while writers are at work side by side
	coverage            // what counts
	stale    bool       // the file has other bytes, until the next write

	sidecar    *sidecar // nil: cannot be resumed
	hasSidecar bool     // a sidecar's file is on disk

	mapped   int64 // bytes that the map on disk has
	mappedAt time.Time

	asked   coverage // at the last sync that was started
	askedAt time.Time
	syncing chan error // the sync under way; nil: none

	reserved int64 // bytes that space is promised for
	alloc    int64 // the file system has set blocks aside for so many
	counted  int64 // of the promise: bytes that statfs does not know of yet

	broken error // a write or sync failed: nothing more is believed
	closed bool
}

// Part opens an asset's part, empty or as far as it had come, through a root of
// its own whose marker is read first. It fails with run.ErrVolumeOffline, with
// run.ErrNoRoom, or because the part is open already.
func (v *Volume) Part(key run.Key) (*Part, error) {
	hash := key.Hash()
	if !v.claim(hash) {
		return nil, fmt.Errorf("asset %s: its part is still in use", key)
	}
	m, meta, err := v.openMeta()
	if err != nil {
		v.release(hash)
		return nil, err
	}
	defer meta.close()
	p := &Part{v: v, m: m, key: key, hash: hash, askedAt: time.Now()}
	if err := p.open(meta); err != nil {
		if p.f != nil {
			p.f.Close()
		}
		m.close()
		v.release(hash)
		return nil, err
	}
	// Before the first byte is written: whoever has a smaller number had its
	// descriptor open by then.
	p.seq = v.opened.Add(1)
	return p, nil
}

func (p *Part) name(ext string) string { return path.Join(partsDir, p.hash+ext) }

func (p *Part) path() string { return p.m.path(p.name(partExt)) }

// open opens the file and finds out how much of it counts. meta is .assetd.
func (p *Part) open(meta *folder) error {
	d, err := meta.parts()
	if err != nil {
		return p.v.unusable(p.m.path(partsDir), err)
	}
	defer d.close()
	f, info, err := d.regular(p.hash+partExt, os.O_RDWR)
	switch {
	case err == nil:
		p.f = f
		return p.takeUp(d, info)
	case errors.Is(err, errNotRegular):
		return err
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		// Some file systems (rclone without a cache) never open a written file for
		// writing again: begin again there.
		if p.v.sys.remove(d.root, p.hash+partExt) != nil {
			return p.v.unusable(p.path(), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return p.v.unusable(p.path(), err)
	}
	if err := p.readSidecar(d); err != nil {
		return err
	}
	if err := p.removeSidecar(); err != nil {
		return err
	}
	if p.f, err = p.v.sys.open(d.root, p.hash+partExt, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return p.v.unusable(p.path(), err)
	}
	return p.lock()
}

// takeUp goes on with a file that is there. What it is worth is asked once
// nobody else can write it.
func (p *Part) takeUp(d *folder, opened fs.FileInfo) error {
	if err := p.lock(); err != nil {
		return err
	}
	info, err := d.lstat(p.hash + partExt)
	if err != nil {
		return p.v.unusable(p.path(), err)
	}
	if !os.SameFile(opened, info) {
		return p.busy() // who had it has just put it away
	}
	if st, ok := sysStat(info); ok && st.Nlink > 1 {
		return fmt.Errorf("%s is also another file's name (hard link): refused, take it away", p.path())
	}
	if err := p.readSidecar(d); err != nil {
		return err
	}
	p.stale = info.Size() > 0
	return p.resume(info)
}

// lock keeps other processes from the part: a daemon that was started on a copy of
// state.dir takes this volume for its own. Where the file system knows no locks it
// goes on without.
func (p *Part) lock() error {
	if err := durable.Uninterrupted(func() error { return p.v.sys.lock(p.f) }); errors.Is(err, unix.EWOULDBLOCK) {
		return p.busy()
	}
	return nil
}

func (p *Part) busy() error {
	return fmt.Errorf("%s is in use by another process: does a second assetd use this volume, on a copy of state.dir? stop it", p.path())
}

// Have is how many bytes there are from the front on, and the mark they were
// written under; 0 and the zero mark where the part begins again.
func (p *Part) Have() (int64, run.PartMark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sidecar == nil || p.size == 0 {
		return 0, run.PartMark{}
	}
	return p.size, p.sidecar.Mark
}

// Reset begins the part again under a mark. It comes before the first byte. Space
// that was reserved and not yet written stays reserved.
func (p *Part) Reset(mark run.PartMark) error {
	if err := p.usable(); err != nil {
		return err
	}
	if err := p.endSync(); err != nil {
		return err
	}
	left := p.reserved - p.written()
	if p.end() > 0 || p.stale || p.alloc > 0 {
		// First the bytes, then the sidecar: the other way round a crash between would
		// leave the old bytes under the new mark.
		if err := p.v.sys.truncate(p.f, 0); err != nil {
			return p.fail("truncating", err)
		}
	}
	p.coverage, p.asked, p.askedAt = coverage{}, coverage{}, time.Now()
	p.stale, p.alloc, p.reserved = false, 0, left
	p.account()
	if mark.ETag == "" {
		return p.removeSidecar()
	}
	p.sidecar = &sidecar{Mark: mark, Boot: p.v.boot}
	if p.writeSidecar() != nil {
		return p.removeSidecar() // the transfer can do without, but not with an older one
	}
	return nil
}

// Write appends to the front, as WriteAt.
func (p *Part) Write(b []byte) (int, error) { return p.WriteAt(b, p.size) }

// ReadAt reads what is there from the front on, as io.ReaderAt.
func (p *Part) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	err, size := p.usable(), p.size
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("reading %s: negative offset", p.path())
	}
	left := size - off
	if left <= 0 {
		return 0, io.EOF
	}
	cut := int64(len(b)) > left
	n, err := p.v.sys.read(p.f, b[:min(int64(len(b)), left)], off)
	switch {
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF // shorter than it was written
	case err != nil:
		return n, p.v.explain("reading", p.path(), err)
	case cut:
		return n, io.EOF
	}
	return n, nil
}

// Close ends the part and keeps it where it can be resumed.
func (p *Part) Close() error {
	if p.closed {
		return nil
	}
	err := p.shelve()
	p.leave()
	return err
}

// shelve leaves the part as a later Part will want to find it.
func (p *Part) shelve() error {
	if p.broken != nil {
		return nil // fail has seen to it
	}
	if err := p.endSync(); err != nil {
		return err
	}
	if p.sidecar == nil || p.size == 0 {
		return p.drop()
	}
	if err := p.trim(); err != nil {
		return err
	}
	if p.unsynced() {
		p.startSync()
		if err := p.endSync(); err != nil {
			return err
		}
	}
	err := p.v.sys.close(p.f)
	p.f = nil
	if err != nil {
		return p.lose("closing", err)
	}
	return nil
}

// trim cuts the file behind the bytes that count. It also gives back the blocks
// that were allocated past them.
func (p *Part) trim() error {
	if !p.stale && p.alloc <= p.written() {
		return nil
	}
	if err := p.v.sys.truncate(p.f, p.end()); err != nil {
		return p.fail("truncating", err)
	}
	p.stale, p.alloc = false, p.end()
	return nil
}

// Discard ends the part and removes it.
func (p *Part) Discard() error {
	if p.closed {
		return nil
	}
	p.endSync() //nolint:errcheck // what was not synced is removed now
	err := p.drop()
	p.leave()
	return err
}

// Quarantine ends the part and puts it, cut to at most 1 MiB, to the asset's one
// place in quarantine, for people to look at: file is that place, below
// storage.dir. Nothing promises that it survives a power loss.
func (p *Part) Quarantine() (file string, err error) {
	file = path.Join(quarantineDir, p.hash)
	if p.closed {
		return file, nil
	}
	defer p.leave()
	if err := p.endSync(); err != nil {
		return "", err
	}
	if p.broken != nil {
		return "", p.broken
	}
	if err := p.moveToQuarantine(file); err != nil {
		return "", errors.Join(err, p.drop())
	}
	return file, p.drop()
}

func (p *Part) moveToQuarantine(file string) error {
	err := p.v.sys.truncate(p.f, min(p.size, quarantineSize))
	if err == nil {
		err = p.v.sys.close(p.f)
		p.f = nil
	}
	if err != nil {
		return p.v.explain("cutting", p.path(), err)
	}
	d, err := p.m.enter(quarantineDir, true)
	if err != nil {
		return err
	}
	defer d.close()
	info, err := d.lstat(p.hash)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %s: refused, take it away", d.path(p.hash), kind(info))
	}
	err = durable.Uninterrupted(func() error { return p.v.sys.rename(p.m.root, p.name(partExt), file) })
	return p.v.explain("renaming to", d.path(p.hash), err)
}

func (p *Part) usable() error {
	if p.closed {
		return errClosed
	}
	return p.broken
}

// fail ends all belief in what was written since the last good sync. What was
// synced before stays, for a later Part.
func (p *Part) fail(doing string, cause error) error {
	if p.endSync() != nil {
		return p.broken
	}
	p.broken = p.v.explain(doing, p.path(), cause)
	if p.sidecar == nil || p.sidecar.Synced == 0 || p.fallBack() != nil {
		p.drop() //nolint:errcheck // the first error is returned
	}
	return p.broken
}

// lose ends all belief in the part: after a failed sync nobody knows what is on
// disk, and a second one would say that all is well.
func (p *Part) lose(doing string, cause error) error {
	p.broken = p.v.explain(doing, p.path(), cause)
	p.drop() //nolint:errcheck // the first error is returned
	return p.broken
}

// drop removes sidecar and part, in this order: a sidecar without its part could be
// taken for the next one's.
func (p *Part) drop() error {
	err := p.removeSidecar()
	e := p.v.sys.remove(p.m.root, p.name(partExt))
	if e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
		err = p.v.explain("removing", p.path(), e)
	}
	p.coverage = coverage{}
	return err
}

// leave gives everything back that the part held.
func (p *Part) leave() {
	p.shut()
	p.v.release(p.hash)
}

// shut is leave for a part that the committer goes on with.
func (p *Part) shut() {
	if p.f != nil {
		p.v.sys.close(p.f) //nolint:errcheck // nothing rests on these bytes
		p.f = nil
	}
	p.closed = true
	p.coverage, p.reserved, p.alloc = coverage{}, 0, 0
	p.account()
	p.m.close()
}
