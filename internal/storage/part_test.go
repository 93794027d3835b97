package storage

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

var strong = run.PartMark{ETag: `"v1"`, Total: 1 << 30}

// reopen is the part as a later process of the same boot, or of another, sees it.
func (r *rig) reopen(t *testing.T, key run.Key, boot string) (*rig, *Part) {
	t.Helper()
	later := openRig(t, r.Config, r.q)
	later.boot = boot
	p, err := later.Part(key)
	must(t, err)
	return later, p
}

// killed ends a part as SIGKILL does: its descriptors are closed, nothing else.
func killed(p *Part) {
	p.f.Close()
	p.m.close()
}

func partBytes(t *testing.T, p *Part) []byte {
	t.Helper()
	n, _ := p.Have()
	got := make([]byte, n)
	if n > 0 {
		if _, err := p.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestAPartGoesOnWhereItWasKilledInTheSameBoot(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(100_000, "v")
	p, err := r.write(key, strong, data)
	must(t, err)
	killed(p)
	_, q := r.reopen(t, key, r.boot)
	defer q.Close()
	if n, mark := q.Have(); n != 100_000 || mark != strong {
		t.Fatalf("have %d under %+v", n, mark)
	}
	more := body(5000, "more")
	if _, err := q.Write(more); err != nil {
		t.Fatal(err)
	}
	if got := partBytes(t, q); !bytes.Equal(got, append(data, more...)) {
		t.Error("other bytes")
	}
}

func TestAfterARebootOnlyWhatWasSyncedCounts(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(syncBytes+100_000, "v")
	p, err := r.write(key, strong, data[:syncBytes])
	must(t, err)
	if p.syncing == nil {
		t.Fatal("no sync was started")
	}
	must(t, p.endSync())
	if _, err := p.Write(data[syncBytes:]); err != nil {
		t.Fatal(err)
	}
	killed(p)
	later, q := r.reopen(t, key, "another boot")
	if n, mark := q.Have(); n != syncBytes || mark != strong {
		t.Fatalf("have %d under %+v, want what was synced", n, mark)
	}
	// What lay beyond is cut off and written anew.
	if _, err := q.Write(data[syncBytes : syncBytes+10]); err != nil {
		t.Fatal(err)
	}
	if got := partBytes(t, q); !bytes.Equal(got, data[:syncBytes+10]) {
		t.Error("other bytes")
	}
	must(t, q.Close())
	info, err := os.Stat(filepath.Join(r.dir, q.name(partExt)))
	if err != nil || info.Size() != syncBytes+10 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	// Closing has synced it all.
	_, q = later.reopen(t, key, "a third boot")
	defer q.Close()
	if n, _ := q.Have(); n != syncBytes+10 {
		t.Errorf("after closing %d bytes count", n)
	}
}

func TestSyncedBytesThatAreNotThereAfterARebootAreNotBelieved(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"zeros for bytes": func(p string) error { return os.WriteFile(p, make([]byte, 1000), 0o600) },
		"too short":       func(p string) error { return os.Truncate(p, 999) },
		"one bit": func(p string) error {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			data[500] ^= 1
			return os.WriteFile(p, data, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			key := r.asset("run1", run.Videos, "v")
			p, err := r.write(key, strong, body(1000, "v"))
			must(t, err)
			must(t, p.Close())
			must(t, harm(filepath.Join(r.dir, p.name(partExt))))
			_, q := r.reopen(t, key, "another boot")
			defer q.Close()
			if n, _ := q.Have(); n != 0 {
				t.Errorf("%d bytes are believed", n)
			}
		})
	}
}

// An old card beside the bytes of a newer part: what a power loss can leave on a
// file system that orders nothing.
func TestAnOldCardBesideNewerBytesIsNotBelieved(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	p, err := r.write(key, strong, body(1000, "old version"))
	must(t, err)
	must(t, p.Close())
	card, err := os.ReadFile(filepath.Join(r.dir, p.name(sidecarExt)))
	must(t, err)
	p, err = r.write(key, run.PartMark{ETag: `"v2"`, Total: 1 << 30}, body(5000, "new version"))
	must(t, err)
	must(t, p.Close())
	must(t, os.WriteFile(filepath.Join(r.dir, p.name(sidecarExt)), card, 0o600))
	_, q := r.reopen(t, key, "another boot")
	defer q.Close()
	if n, mark := q.Have(); n != 0 {
		t.Errorf("%d bytes are believed to be %+v", n, mark)
	}
}

func TestBytesOfAnEarlierDescriptorAreSyncedBeforeTheyCount(t *testing.T) {
	for _, failing := range []bool{false, true} {
		r := newRig(t)
		key := r.asset("run1", run.Videos, "v")
		p, err := r.write(key, strong, body(1000, "v"))
		must(t, err)
		killed(p) // before it could sync
		later := openRig(t, r.Config, r.q)
		later.boot = r.boot
		syncs := 0
		later.sys.sync = func(*os.File) error {
			syncs++
			if failing {
				return unix.EIO
			}
			return nil
		}
		q, err := later.Part(key)
		must(t, err)
		if n, _ := q.Have(); syncs != 1 || (n == 0) != failing {
			t.Errorf("failing %v: %d bytes count after %d syncs", failing, n, syncs)
		}
		must(t, q.Close())
	}
}

func TestAPartWithoutAStrongETagIsGoneWhenItIsClosed(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	p, err := r.write(key, strong, body(1000, "first"))
	must(t, err)
	must(t, p.Close())
	p, err = r.write(key, run.PartMark{Total: 10}, body(10, "v"))
	must(t, err)
	if n, _ := p.Have(); n != 0 {
		t.Errorf("have %d of what cannot be resumed", n)
	}
	must(t, p.Close())
	if left := r.tree(); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func TestADamagedOrForeignCardMeansBeginAnew(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"mark":{"etag":"x","total":5},"boot":"b","synced":-1}`, `{"mark":{"total":1000}}`, "\x00\x00"} {
		r := newRig(t)
		key := r.asset("run1", run.Videos, "v")
		p, err := r.write(key, strong, body(1000, "v"))
		must(t, err)
		must(t, p.Close())
		must(t, os.WriteFile(filepath.Join(r.dir, p.name(sidecarExt)), []byte(text), 0o600))
		_, q := r.reopen(t, key, r.boot)
		if n, _ := q.Have(); n != 0 {
			t.Errorf("card %q: %d bytes are believed", text, n)
		}
		must(t, q.Reset(strong))
		must(t, q.Close())
	}
}

func FuzzWhateverTheCardSaysNothingIsBelievedThatIsNotThere(f *testing.F) {
	f.Add([]byte(`{"mark":{"etag":"x","total":5},"boot":"b","synced":3,"crc32c":1}`), []byte("abc"))
	f.Add([]byte(`{"mark":{"etag":"x","total":-1},"boot":"","synced":9223372036854775807}`), []byte("abc"))
	f.Add([]byte(`{"mark":{"etag":"x"},"boot":"b","synced":-9223372036854775808}`), []byte{})
	f.Fuzz(func(t *testing.T, card, data []byte) {
		r := newRig(t)
		r.boot = "b"
		key := run.Key{Run: "run1", Kind: run.Images, ID: "i"}
		plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+sidecarExt), string(card))
		plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+partExt), string(data))
		p, err := r.Part(key)
		must(t, err)
		if got := partBytes(t, p); !bytes.HasPrefix(data, got) {
			t.Errorf("%d bytes are believed of %d", len(got), len(data))
		}
		must(t, p.Reset(strong))
		if _, err := p.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if got := partBytes(t, p); string(got) != "new" {
			t.Errorf("after Reset %q", got)
		}
		must(t, p.Close())
	})
}

func TestAnAssetsPartHasOneUserAtATime(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	p, err := r.Part(key)
	must(t, err)
	if _, err := r.Part(key); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second: %v", err)
	}
	if err := r.RemovePart(key); err == nil {
		t.Error("an open part was removed")
	}
	must(t, p.Close())
	must(t, p.Close()) // does nothing
	p, err = r.Part(key)
	must(t, err)
	must(t, p.Discard())
	if _, err := p.Write([]byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("write after the end: %v", err)
	}
	if len(r.inUse) != 0 {
		t.Error("still in use")
	}
}

// Two daemons on one volume: the state directory of one is a copy of the other's.
func TestAnAssetsPartHasOneProcessAtATime(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	twin := openRig(t, r.Config, r.q)
	for _, resumed := range []bool{false, true} {
		p, err := r.Part(key)
		must(t, err)
		if have, _ := p.Have(); resumed != (have > 0) {
			t.Fatalf("resumed %v, has %d bytes", resumed, have)
		}
		if !resumed {
			must(t, p.Reset(strong))
		}
		_, err = p.Write([]byte("12345678"))
		must(t, err)
		if _, err := twin.Part(key); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("second, resumed %v: %v", resumed, err)
		}
		must(t, p.Close())
	}
	p, err := twin.Part(key)
	must(t, err)
	if have, _ := p.Have(); have != 16 {
		t.Errorf("the part has %d bytes, want what the other one left", have)
	}
	must(t, p.Discard())
}

func TestAFileSystemWithoutLocksIsUsedAllTheSame(t *testing.T) {
	r := newRig(t)
	r.sys.lock = func(*os.File) error { return unix.ENOLCK }
	p, err := r.Part(r.asset("run1", run.Videos, "v"))
	must(t, err)
	must(t, p.Discard())
}

func TestAFailedWriteLeavesWhatWasSyncedAndNothingElse(t *testing.T) {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS} {
		r := newRig(t)
		key := r.asset("run1", run.Videos, "v")
		data := body(syncBytes+500, "v")
		p, err := r.write(key, strong, data[:syncBytes])
		must(t, err)
		must(t, p.endSync())
		real := r.sys.write
		r.sys.write = func(f *os.File, b []byte, off int64) (int, error) {
			if strings.HasSuffix(f.Name(), partExt) {
				n, _ := real(f, b[:len(b)/2], off) // half of it comes through
				return n, &fs.PathError{Op: "write", Path: f.Name(), Err: errno}
			}
			return real(f, b, off)
		}
		_, err = p.Write(data[syncBytes:])
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), p.hash) {
			t.Errorf("err = %v", err)
		}
		if full := errno == unix.ENOSPC || errno == unix.EDQUOT; errors.Is(err, run.ErrNoRoom) != full {
			t.Errorf("%v is no room: %v", errno, errors.Is(err, run.ErrNoRoom))
		}
		if errors.Is(err, run.ErrVolumeOffline) != (errno == unix.EROFS) {
			t.Errorf("%v is volume offline: %v", errno, errors.Is(err, run.ErrVolumeOffline))
		}
		if _, again := p.Write([]byte("x")); again == nil {
			t.Error("written on after a failed write")
		}
		must(t, p.Close())
		r.sys.write = real
		_, q := r.reopen(t, key, "another boot")
		if n, _ := q.Have(); n != syncBytes {
			t.Errorf("%v: %d bytes are left, want %d", errno, n, syncBytes)
		}
		if got := partBytes(t, q); !bytes.Equal(got, data[:syncBytes]) {
			t.Error("other bytes")
		}
		must(t, q.Close())
	}
}

func TestAFailedSyncBesideTheTransferEndsThePart(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	syncs := 0
	r.sys.sync = func(*os.File) error { syncs++; return unix.EIO }
	p, err := r.write(key, strong, body(syncBytes, "v"))
	must(t, err)
	for range 2 * mostUnsynced / (1 << 20) {
		if _, err = p.Write(body(1<<20, "more")); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EIO) {
		t.Errorf("err = %v", err)
	}
	must(t, p.Close())
	if left := r.tree(); len(left) != 0 || syncs != 1 {
		t.Errorf("left %q after %d syncs, want nothing after 1", left, syncs)
	}
}

func TestAResumableTrickleIsSyncedEveryFewSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var mu sync.Mutex
		syncs, real := 0, r.sys.sync
		r.sys.sync = func(f *os.File) error {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(f.Name(), partExt) {
				syncs++
			}
			return real(f)
		}
		p, err := r.Part(r.asset("run1", run.Videos, "v"))
		must(t, err)
		must(t, p.Reset(strong))
		for range 21 {
			if _, err := p.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		mu.Lock()
		defer mu.Unlock()
		if syncs != 4 {
			t.Errorf("%d syncs in 20 s, want 4", syncs)
		}
		mu.Unlock()
		must(t, p.Close())
		mu.Lock()
	})
}

func TestATransferWaitsForASyncOnlyWhenTooMuchPilesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		hold := make(chan struct{})
		r.sys.sync = func(*os.File) error { <-hold; return nil }
		p, err := r.write(r.asset("run1", run.Videos, "v"), strong, make([]byte, syncBytes))
		must(t, err)
		chunk := make([]byte, 1<<20)
		for range mostUnsynced/len(chunk) - 1 { // none of these waits
			if _, err := p.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		wrote := make(chan error, 1)
		go func() { _, err := p.Write(chunk); wrote <- err }()
		synctest.Wait()
		if len(wrote) != 0 {
			t.Error("nothing holds the transfer back")
		}
		close(hold)
		must(t, <-wrote)
		must(t, p.Discard())
	})
}

func TestReadAtSeesOnlyWhatCounts(t *testing.T) {
	r := newRig(t)
	p, err := r.write(r.asset("run1", run.Images, "i"), strong, []byte("0123456789"))
	must(t, err)
	defer p.Close()
	b := make([]byte, 4)
	for _, c := range []struct {
		off  int64
		want string
		err  error
	}{{0, "0123", nil}, {6, "6789", nil}, {8, "89", io.EOF}, {10, "", io.EOF}, {99, "", io.EOF}} {
		n, err := p.ReadAt(b, c.off)
		if string(b[:n]) != c.want || err != c.err {
			t.Errorf("at %d: %q, %v", c.off, b[:n], err)
		}
	}
	must(t, os.Truncate(p.path(), 5))
	if _, err := p.ReadAt(b, 4); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file cut from outside: %v", err)
	}
	if _, err := p.ReadAt(b, -1); err == nil {
		t.Error("a negative offset is read")
	}
}

func TestQuarantineKeepsOneBoundedCopyAnAsset(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Images, "i")
	for _, size := range []int{100, quarantineSize + 5, 50} {
		p, err := r.write(key, strong, body(size, "html"))
		must(t, err)
		name, err := p.Quarantine()
		must(t, err)
		if want := ".assetd/quarantine/" + key.Hash(); name != want {
			t.Errorf("put aside as %q, want %q", name, want)
		}
		if got := r.content(name); got != string(body(min(size, quarantineSize), "html")) {
			t.Errorf("%d bytes of %d are kept", len(got), size)
		}
		if left := r.tree(); len(left) != 1 || left[0] != name {
			t.Errorf("left %q", left)
		}
	}
	if n := r.reservations.total(); n != 0 || len(r.inUse) != 0 {
		t.Errorf("%d bytes and %v are still held", n, r.inUse)
	}
}

func TestMissingDescriptorsDoNotCostAPart(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	p, err := r.write(key, strong, []byte("much"))
	must(t, err)
	must(t, p.Close())
	open := r.sys.open
	r.sys.open = func(root *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
		if strings.HasSuffix(name, partExt) {
			return nil, &fs.PathError{Op: "openat", Path: name, Err: unix.EMFILE}
		}
		return open(root, name, flag, perm)
	}
	if _, err := r.Part(key); !errors.Is(err, unix.EMFILE) {
		t.Errorf("err = %v", err)
	}
	r.sys.open = open
	p, err = r.Part(key)
	must(t, err)
	defer p.Close()
	if n, _ := p.Have(); n != 4 {
		t.Errorf("%d bytes are left of 4", n)
	}
}

// S12: rclone without a cache never opens a written file for writing again.
func TestWherePartsCannotBeReopenedTheyBeginAnew(t *testing.T) {
	r := newRig(t)
	open, refused := r.sys.open, 0
	r.sys.open = func(root *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
		if strings.HasSuffix(name, partExt) && flag&os.O_CREATE == 0 {
			refused++
			return nil, &fs.PathError{Op: "openat", Path: name, Err: unix.EPERM}
		}
		return open(root, name, flag, perm)
	}
	r.sys.place = func(*os.File, string, *os.File, string) error { return unix.ENOSYS }
	r.sys.syncDir = func(*os.File) error { return unix.ENOTSUP }
	r.sys.allocate = func(*os.File, int64, int64) error { return unix.EOPNOTSUPP }
	r.sys.chmod = func(*os.File, fs.FileMode) error { return unix.EPERM }
	r.sys.syncTold = false
	r.running()
	key := r.asset("run1", run.Images, "i")
	p, err := r.write(key, strong, []byte("half"))
	must(t, err)
	must(t, p.Close())
	p, err = r.Part(key)
	must(t, err)
	if n, _ := p.Have(); n != 0 || refused != 1 {
		t.Errorf("have %d, refused %d", n, refused)
	}
	must(t, p.Close())
	r.mustKeep(key, []byte("picture"))
	if got := r.content("app/run1/images/i.png"); got != "picture" {
		t.Errorf("content %q", got)
	}
}
