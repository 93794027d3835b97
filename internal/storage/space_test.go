package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// disk makes the volume look as if it had so many bytes available. Setting blocks
// aside takes from them, as on a real one, when allocate is true.
func (r *rig) disk(bytes int64, allocate bool) *int64 {
	r.sys.statfs = func(*os.File) (unix.Statfs_t, error) {
		return unix.Statfs_t{Blocks: 1 << 30, Bavail: uint64(bytes), Frsize: 1, Bsize: 4096}, nil
	}
	r.sys.allocate = func(_ *os.File, _, n int64) error {
		if !allocate {
			return unix.EOPNOTSUPP
		}
		bytes -= n
		return nil
	}
	return &bytes
}

func TestWhatOneIsPromisedNoOtherGets(t *testing.T) {
	for _, allocate := range []bool{false, true} {
		t.Run(fmt.Sprint("fallocate ", allocate), func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.MinFree = 100 << 20 })
			r.disk(200<<20, allocate)
			a, err := r.Part(r.asset("run1", run.Videos, "a"))
			must(t, err)
			b, err := r.Part(r.asset("run1", run.Videos, "b"))
			must(t, err)
			defer b.Close()
			must(t, a.Reserve(60<<20))
			must(t, a.Reserve(60<<20)) // the same bytes once more
			if free, err := r.Free(); err != nil || free != 40<<20 {
				t.Errorf("free %d, %v", free, err)
			}
			if err := b.Reserve(41 << 20); !errors.Is(err, run.ErrNoRoom) {
				t.Errorf("more than is left: %v", err)
			}
			must(t, b.Reserve(40<<20))
			if err := b.Reserve(41 << 20); !errors.Is(err, run.ErrNoRoom) {
				t.Errorf("more than is left: %v", err)
			}
			must(t, b.Reserve(40<<20))
			must(t, a.Discard())
			if allocate {
				return // this fake disk gives nothing back
			}
			must(t, b.Reserve(100<<20))
			if free, err := r.Free(); err != nil || free != 0 {
				t.Errorf("free %d, %v", free, err)
			}
			r.Configure(Config{MinFree: 0})
			if free, err := r.Free(); err != nil || free != 100<<20 {
				t.Errorf("after min_free was lowered %d, %v", free, err)
			}
		})
	}
}

func TestWhatMinFreeLacksIsPartOfWhatIsMissing(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MinFree = 100 << 20 })
	r.disk(60<<20, false)
	p, err := r.Part(r.asset("run1", run.Videos, "a"))
	must(t, err)
	defer p.Close()
	err = p.Reserve(5 << 20)
	if !errors.Is(err, run.ErrNoRoom) || !strings.Contains(err.Error(), "needs 5.0 MiB, which is 45 MiB more than is left at "+r.Dir) {
		t.Errorf("5 MiB where 60 of 100 that stay free are there: %v", err)
	}
}

func TestWritingUsesUpWhatWasReservedAndNeedsRoomBeyondIt(t *testing.T) {
	r := newRig(t)
	left := r.disk(100, false)
	p, err := r.Part(r.asset("run1", run.Videos, "a"))
	must(t, err)
	must(t, p.Reserve(60))
	must(t, p.Reset(run.PartMark{Total: -1})) // keeps it
	if n := r.reservations.total(); n != 60 {
		t.Errorf("%d promised", n)
	}
	if _, err := p.Write(make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	*left -= 50
	if n := r.reservations.total(); n != 10 {
		t.Errorf("%d promised after 50 of 60 bytes", n)
	}
	_, err = p.Write(make([]byte, 51))
	if !errors.Is(err, run.ErrNoRoom) || !strings.Contains(err.Error(), "1 B more than is left at "+r.Dir) {
		t.Errorf("51 of 50 bytes: %v", err)
	}
	if _, err := p.Write(make([]byte, 50)); err != nil {
		t.Errorf("the last 50: %v", err) // the refused ones have changed nothing
	}
	must(t, p.Close())
	if n := r.reservations.total(); n != 0 {
		t.Errorf("%d promised after the end", n)
	}
}

func TestADiskThatIsFullForFallocateHasNoRoom(t *testing.T) {
	r := newRig(t)
	r.disk(1<<40, true)
	r.sys.allocate = func(*os.File, int64, int64) error { return unix.ENOSPC }
	p, err := r.Part(r.asset("run1", run.Videos, "a"))
	must(t, err)
	defer p.Close()
	if err := p.Reserve(allocSize); !errors.Is(err, run.ErrNoRoom) {
		t.Errorf("err = %v", err)
	}
	if n := r.reservations.total(); n != 0 {
		t.Errorf("%d are still promised", n)
	}
	if _, err := p.Write([]byte("x")); err != nil {
		t.Errorf("the part is not usable after it: %v", err)
	}
}

func TestBlocksSetAsideBeyondTheEndAreGivenBack(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "a")
	p, err := r.write(key, strong, []byte("begun"))
	must(t, err)
	must(t, p.Reserve(4*allocSize))
	if r.noAlloc.Load() {
		testenv.Missing(t, "fallocate on the temporary directory's file system")
	}
	must(t, p.Close())
	sizes, err := r.Parts()
	must(t, err)
	if n := sizes[key.Hash()]; n == 0 || n > 1<<20 {
		t.Errorf("the closed part of 5 bytes takes %d", n)
	}
}

func TestPartsAreListedAndRemovedUnlessInUse(t *testing.T) {
	r := newRig(t)
	idle, busy := r.asset("run1", run.Videos, "idle"), r.asset("run1", run.Videos, "busy")
	p, err := r.write(idle, strong, body(100_000, "i"))
	must(t, err)
	must(t, p.Close())
	p, err = r.write(busy, strong, body(100_000, "b"))
	must(t, err)
	defer p.Close()
	sizes, err := r.Parts()
	must(t, err)
	if len(sizes) != 1 || sizes[idle.Hash()] < 100_000 {
		t.Errorf("listed %v", sizes)
	}
	must(t, r.RemovePart(idle))
	must(t, r.RemovePart(idle)) // gone already
	if sizes, err = r.Parts(); err != nil || len(sizes) != 0 {
		t.Errorf("listed %v, %v", sizes, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, partsDir, idle.Hash()+sidecarExt)); err == nil {
		t.Error("its card is still there")
	}
}

func TestPromisesAlwaysAddUp(t *testing.T) {
	r := newRig(t)
	r.disk(1<<40, false)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		p, err := r.Part(r.asset("run1", run.Videos, fmt.Sprint(n)))
		if err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				if err := p.Reserve(rapid.Int64Range(-5, 30<<20).Draw(t, "n")); err != nil {
					t.Fatal(err)
				}
			},
			"write": func(t *rapid.T) {
				if _, err := p.Write(make([]byte, rapid.IntRange(0, 5000).Draw(t, "n"))); err != nil {
					t.Fatal(err)
				}
			},
			"reset": func(t *rapid.T) {
				left := p.reserved - p.size
				if err := p.Reset(run.PartMark{Total: -1}); err != nil || p.reserved != left {
					t.Fatalf("%v: %d left of %d", err, p.reserved, left)
				}
			},
			"": func(t *rapid.T) {
				if want := max(p.reserved-p.size, 0); p.reserved < p.size || r.reservations.total() != want {
					t.Fatalf("%d promised, %d are due", r.reservations.total(), want)
				}
			},
		})
		if err := p.Close(); err != nil || r.reservations.total() != 0 {
			t.Fatalf("%v: %d promised after the end", err, r.reservations.total())
		}
	})
}

func TestTheRoomSeenLastIsToldWithoutAsking(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MinFree = 100 })
	if _, min, known := r.Room(); known || min != 100 {
		t.Errorf("before anybody asked: known %v, min_free %d", known, min)
	}
	r.disk(5000, false)
	if _, err := r.Free(); err != nil {
		t.Fatal(err)
	}
	r.sys.statfs = func(*os.File) (unix.Statfs_t, error) {
		t.Error("the disk was asked")
		return unix.Statfs_t{}, nil
	}
	if room, _, known := r.Room(); !known || room != (Space{Free: 5000, Size: 1 << 30}) {
		t.Errorf("%+v, known %v", room, known)
	}
}

func TestEverySyncTellsWhatItTook(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	sys := systemCalls()
	nothing := func(*os.File) error { return unix.EIO }
	sys.sync, sys.syncDir, sys.syncFS = nothing, nothing, nothing
	sys.timed(func(what string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if took >= 0 {
			calls[what]++
		}
	})
	for _, sync := range []func(*os.File) error{sys.sync, sys.syncDir, sys.syncDir, sys.syncFS} {
		if err := sync(nil); !errors.Is(err, unix.EIO) {
			t.Errorf("its error is %v", err)
		}
	}
	if calls[SyncFile] != 1 || calls[SyncDirectory] != 2 || calls[SyncFileSystem] != 1 {
		t.Errorf("%v", calls)
	}
}
