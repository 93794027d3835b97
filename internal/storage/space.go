package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// allocSize is from how many bytes on blocks are allocated ahead of the writing.
const allocSize = 8 << 20

// reservations is what the parts have been promised and statfs does not know of yet.
type reservations struct {
	asking sync.Mutex // one at a time: two who see the same free bytes must not both get them

	mu       sync.Mutex
	promised int64
}

func (r *reservations) add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.promised += n
}

func (r *reservations) total() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.promised
}

// account brings the volume's sum of promises up to date with this part's.
func (p *Part) account() {
	written := p.written()
	p.reserved = max(p.reserved, written)
	now := max(p.reserved-max(written, p.alloc), 0)
	p.v.reservations.add(now - p.counted)
	p.counted = now
}

// Reserve makes sure that n more bytes can be written and storage.min_free stays
// free next to them and next to what all other parts were promised. What is
// reserved already and not yet written counts. It fails with run.ErrNoRoom and
// changes nothing then.
func (p *Part) Reserve(n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	return p.reserve(n)
}

// reserve is Reserve for one who has the part locked.
func (p *Part) reserve(n int64) error {
	need := p.written() + n - p.reserved
	if n <= 0 || need <= 0 {
		return nil
	}
	v := p.v
	v.reservations.asking.Lock()
	defer v.reservations.asking.Unlock()
	free, err := v.free(p.f)
	if err != nil {
		return v.explain("asking for the room at", v.Dir, err)
	}
	if need > free {
		return run.Because(run.ErrNoRoom, fmt.Errorf("%s needs %s, which is %s more than is left at %s beside storage.min_free and what others were promised",
			p.key, humanize.IBytes(uint64(need)), humanize.IBytes(uint64(need-free)), v.Dir))
	}
	before := p.reserved
	p.reserved += need
	p.account()
	if need < allocSize || v.noAlloc.Load() {
		return nil
	}
	from := max(p.size, p.alloc)
	if len(p.extents) > 0 {
		from = p.size // what was allocated may be anywhere
	}
	err = durable.Uninterrupted(func() error { return v.sys.allocate(p.f, from, p.reserved-from) })
	switch {
	case err == nil:
		p.alloc = p.reserved
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		p.reserved = before
		err = v.explain("setting room aside for", p.path(), err)
		p.account()
		return err
	default:
		v.noAlloc.Store(true) // NFS before 4.2, many FUSE: only a courtesy
	}
	p.account()
	return nil
}

// free is how many bytes are left for new promises. A file system that does not
// tell its size sets no bound.
func (v *Volume) free(f *os.File) (int64, error) {
	var st unix.Statfs_t
	err := durable.Uninterrupted(func() (err error) { st, err = v.sys.statfs(f); return err })
	if err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return 1<<62 - v.reservations.total(), nil
	}
	block := int64(st.Frsize)
	if block == 0 {
		block = int64(st.Bsize)
	}
	v.seen.Store(&Space{Free: int64(st.Bavail) * block, Size: int64(st.Blocks) * block})
	return int64(st.Bavail)*block - v.minFree.Load() - v.reservations.total(), nil
}

// Space is how much space the volume's file system has, in bytes.
type Space struct {
	Free int64 // for us, storage.min_free included
	Size int64 // in all
}

// Room is what was seen when somebody asked for the free space last, and storage.min_free.
// It asks nobody, and so never hangs. False: nobody has, or the file system does not
// tell.
func (v *Volume) Room() (r Space, minFree int64, ok bool) {
	if seen := v.seen.Load(); seen != nil {
		r, ok = *seen, true
	}
	return r, v.minFree.Load(), ok
}

// Free is how many bytes there are for further assets: what the volume has left,
// less storage.min_free, less what open parts were promised. It may be negative.
// It answers within seconds even when the volume hangs, with run.ErrVolumeOffline
// where it is not there.
func (v *Volume) Free() (int64, error) {
	f, ok := v.spaces.ask(func() (int64, error) {
		m, err := v.open()
		if err != nil {
			return 0, err
		}
		defer m.close()
		h, err := (&folder{m: m, root: m.root, name: "."}).handle()
		if err != nil {
			return 0, v.unusable(v.Dir, err)
		}
		defer h.Close()
		free, err := v.free(h)
		return free, v.explain("asking for the room at", v.Dir, err)
	})
	if !ok {
		return 0, v.hangs(f.since)
	}
	return f.answer, f.err
}

// Parts is how many bytes each part that nobody is using takes on disk, by
// run.Key.Hash: what RemovePart would give back.
func (v *Volume) Parts() (map[string]int64, error) {
	m, err := v.open()
	if err != nil {
		return nil, err
	}
	defer m.close()
	d, err := m.enter(partsDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.close()
	h, err := d.handle()
	if err != nil {
		return nil, v.explain("opening", d.path("."), err)
	}
	defer h.Close()
	entries, err := h.ReadDir(-1)
	if err != nil {
		return nil, v.explain("reading", d.path("."), err)
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		hash, ok := strings.CutSuffix(e.Name(), partExt)
		if !ok || v.using(hash) {
			continue
		}
		info, err := d.lstat(e.Name())
		if err != nil || !info.Mode().IsRegular() {
			continue // gone in the meantime, or not ours
		}
		if st, ok := sysStat(info); ok {
			sizes[hash] = int64(st.Blocks) * 512
		}
	}
	return sizes, nil
}

func (v *Volume) using(hash string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.inUse[hash]
}

// RemovePart removes an asset's part to free space; one that is not there is no
// error, one that is in use is.
func (v *Volume) RemovePart(key run.Key) error {
	hash := key.Hash()
	if !v.claim(hash) {
		return fmt.Errorf("asset %s: its part is still in use", key)
	}
	defer v.release(hash)
	return v.inParts(func(d *folder) error { return d.removePart(hash) })
}

// inParts opens the directory of the parts for as long as do runs; where it is not
// there, nothing is done.
func (v *Volume) inParts(do func(d *folder) error) error {
	m, err := v.open()
	if err != nil {
		return err
	}
	defer m.close()
	d, err := m.enter(partsDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.close()
	return do(d)
}

// removePart removes a part with its sidecar, in the order of Part.drop. The caller has
// claimed it.
func (d *folder) removePart(hash string) error {
	for _, ext := range []string{sidecarExt, partExt} {
		if err := d.remove(hash + ext); err != nil {
			return err
		}
	}
	return nil
}

// RemoveParts removes the parts of assets that are stored, which a crash at the wrong
// moment can leave; those in use stay. It lists nothing, so it costs the same however
// many parts there are.
func (v *Volume) RemoveParts(keys []run.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return v.inParts(func(d *folder) error {
		var failed error
		for _, key := range keys {
			hash := key.Hash()
			if !v.claim(hash) {
				continue
			}
			failed = errors.Join(failed, d.removePart(hash), d.remove(hash+provisionalExt))
			v.release(hash)
		}
		return failed
	})
}
