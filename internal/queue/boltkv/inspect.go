package boltkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/assetd/assetd/internal/queue/kv"
)

// The format of a bbolt file (version 2), as far as it takes to see that nothing
// in it leads out of it or in circles. bbolt's own check trusts the numbers
// it follows: on a damaged file it can go on for ever, or fault in a goroutine of
// its own, which ends the process.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeader     = 16 // id uint64, flags, count uint16, overflow uint32
	elementSize    = 16 // branch: pos, ksize uint32, pgid uint64; leaf: flags, pos, ksize, vsize uint32
	bucketHeader   = 16 // root, sequence uint64
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagFreelist   = 0x10
	elementBucket  = 0x01
	noFreelist     = ^uint64(0)
	smallestPage   = 1 << 10
	largestPage    = 1 << 24
	metaSize       = 64
	anySize        = 1 << 62
	inspectionSize = 1 << 30 // bytes of pages in use up to which a file is inspected and checked
)

type metaPage struct {
	pageSize, root, freelist, pages, txid uint64
}

// inspection walks the pages in use.
type inspection struct {
	r    io.ReaderAt
	meta metaPage
	seen []uint64 // one bit a page
}

// inspect reads the queue's file as bytes. It gives a *kv.DamageError where bbolt
// would fail, panic or read beyond the file, and for a file that bbolt would
// silently replace (0 bytes); and a warning where one of two meta pages is bad,
// which bbolt passes over. The pages are walked where they are at most so many bytes.
func inspect(path string, most uint64) (warning string, err error) {
	finding := func(err error) error { return inFile(path, kv.Damaged(err.Error(), err)) }
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", finding(errors.New("not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info.Size() == 0 {
		return "", finding(errors.New("empty (0 bytes)"))
	}
	meta, sound := readMetas(f)
	if sound == 0 {
		return "", finding(fmt.Errorf("%d bytes that are no queue: neither of its two heads can be read", info.Size()))
	}
	if need := meta.pages * meta.pageSize; meta.pages > 1<<40 || uint64(info.Size()) < need {
		return "", finding(fmt.Errorf("cut short: %d bytes of %d", info.Size(), need))
	}
	if sound == 1 {
		warning = path + ": one of its two heads is bad; it stands at the other, at most one commit older"
	}
	if meta.pages*meta.pageSize <= most {
		i := inspection{r: f, meta: meta, seen: make([]uint64, meta.pages/64+1)}
		if err := errors.Join(i.freelist(), i.tree(meta.root)); err != nil {
			return "", finding(err)
		}
	}
	return warning, nil
}

// readMetas gives the newer sound one of the two meta pages, and how many are.
func readMetas(r io.ReaderAt) (newest metaPage, sound int) {
	first, ok := readMeta(r, 0)
	if ok {
		newest, sound = first, 1
		if second, ok := readMeta(r, int64(first.pageSize)); ok {
			sound = 2
			if second.txid > newest.txid {
				newest = second
			}
		}
		return newest, sound
	}
	for size := int64(smallestPage); size <= largestPage; size *= 2 {
		if second, ok := readMeta(r, size); ok {
			return second, 1
		}
	}
	return metaPage{}, 0
}

func readMeta(r io.ReaderAt, at int64) (metaPage, bool) {
	var b [metaSize]byte
	if _, err := r.ReadAt(b[:], at+pageHeader); err != nil {
		return metaPage{}, false
	}
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	sum := fnv.New64a()
	sum.Write(b[:56])
	m := metaPage{pageSize: uint64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), pages: u64(b[40:]), txid: u64(b[48:])}
	sane := m.pageSize >= smallestPage && m.pageSize <= largestPage && m.pageSize&(m.pageSize-1) == 0
	return m, u32(b[0:]) == boltMagic && u32(b[4:]) == boltVersion && u64(b[56:]) == sum.Sum64() && sane
}

// page reads a page with those that belong to it, and marks them as seen.
func (i *inspection) page(id uint64) (page []byte, flags, count int, err error) {
	if id < 2 || id >= i.meta.pages {
		return nil, 0, 0, fmt.Errorf("page %d lies outside of the file", id)
	}
	var head [pageHeader]byte
	at := int64(id * i.meta.pageSize)
	if _, err := i.r.ReadAt(head[:], at); err != nil {
		return nil, 0, 0, fmt.Errorf("page %d: %w", id, err)
	}
	u16 := binary.NativeEndian.Uint16
	self, more := binary.NativeEndian.Uint64(head[:]), uint64(binary.NativeEndian.Uint32(head[12:]))
	if self != id || more >= i.meta.pages-id {
		return nil, 0, 0, fmt.Errorf("page %d: says it is page %d with %d more", id, self, more)
	}
	for n := id; n <= id+more; n++ {
		if i.seen[n/64]&(1<<(n%64)) != 0 {
			return nil, 0, 0, fmt.Errorf("page %d: used twice", n)
		}
		i.seen[n/64] |= 1 << (n % 64)
	}
	page = make([]byte, (more+1)*i.meta.pageSize)
	if _, err := i.r.ReadAt(page, at); err != nil {
		return nil, 0, 0, fmt.Errorf("page %d: %w", id, err)
	}
	return page, int(u16(head[8:])), int(u16(head[10:])), nil
}

// freelist sees that every page it names is one of the file's.
func (i *inspection) freelist() error {
	if i.meta.freelist == noFreelist {
		return nil
	}
	page, flags, count, err := i.page(i.meta.freelist)
	if err != nil {
		return err
	}
	ids := page[pageHeader:]
	if count == 0xFFFF { // the number stands in the first element
		count = int(min(binary.NativeEndian.Uint64(ids), i.meta.pages))
		ids = ids[8:]
	}
	if flags != flagFreelist || count > len(ids)/8 {
		return fmt.Errorf("page %d: no list of free pages", i.meta.freelist)
	}
	for n := range count {
		if id := binary.NativeEndian.Uint64(ids[8*n:]); id < 2 || id >= i.meta.pages {
			return fmt.Errorf("page %d: free page %d lies outside of the file", i.meta.freelist, id)
		}
	}
	return nil
}

// tree sees that every page below id, and every key and value on it, lies within
// the file. It ends: no page is looked at twice.
func (i *inspection) tree(id uint64) error {
	page, flags, count, err := i.page(id)
	if err != nil {
		return err
	}
	if err := i.elements(page, flags, count); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (i *inspection) elements(page []byte, flags, count int) error {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 || pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("no part of the tree (flags %#x, %d elements)", flags, count)
	}
	for n := range count {
		at := pageHeader + n*elementSize
		e := page[at : at+elementSize]
		if flags == flagBranch {
			if uint64(at)+uint64(u32(e))+uint64(u32(e[4:])) > uint64(len(page)) {
				return fmt.Errorf("element %d leads out of the page", n)
			}
			if err := i.tree(u64(e[8:])); err != nil {
				return err
			}
			continue
		}
		key := uint64(at) + uint64(u32(e[4:]))
		value := key + uint64(u32(e[8:]))
		end := value + uint64(u32(e[12:]))
		if end > uint64(len(page)) {
			return fmt.Errorf("element %d leads out of the page", n)
		}
		if u32(e)&elementBucket != 0 {
			if err := i.bucket(page[value:end]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket follows a bucket to its root page, or into the value itself where it is
// small enough to stand there.
func (i *inspection) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return errors.New("half a bucket")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return i.tree(root)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return errors.New("half a bucket")
	}
	u16 := binary.NativeEndian.Uint16
	return i.elements(inline, int(u16(inline[8:])), int(u16(inline[10:])))
}
