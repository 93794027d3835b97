package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// at writes a stretch of data where it belongs.
func at(t *testing.T, p *Part, data []byte, from, to int64) {
	t.Helper()
	if n, err := p.WriteAt(data[from:to], from); err != nil || int64(n) != to-from {
		t.Fatalf("writing %d to %d: %d, %v", from, to, n, err)
	}
}

func spans(pairs ...int64) []run.Span {
	var s []run.Span
	for i := 0; i < len(pairs); i += 2 {
		s = append(s, run.Span{From: pairs[i], To: pairs[i+1]})
	}
	return s
}

// holds holds what counts of a part against what was written, byte for byte.
func holds(t *testing.T, p *Part, data []byte, front int64, beyond ...int64) {
	t.Helper()
	if n, _ := p.Have(); n != front || !slices.Equal(p.Beyond(), spans(beyond...)) {
		t.Errorf("%d bytes and %v count, want %d and %v", n, p.Beyond(), front, beyond)
	}
	if got := partBytes(t, p); !bytes.HasPrefix(data, got) {
		t.Error("other bytes at the front")
	}
	for _, s := range p.Beyond() {
		got := make([]byte, s.Len())
		if _, err := p.f.ReadAt(got, s.From); err != nil || !bytes.Equal(got, data[s.From:s.To]) {
			t.Errorf("other bytes at %v: %v", s, err)
		}
	}
}

// spread begins a part with gaps: its front and two stretches beyond.
func (r *rig) spread(t *testing.T, key run.Key, data []byte) *Part {
	t.Helper()
	p, err := r.Part(key)
	must(t, err)
	must(t, p.Reset(run.PartMark{ETag: `"v1"`, Total: int64(len(data))}))
	at(t, p, data, 0, 1000)
	at(t, p, data, 5000, 6000)
	at(t, p, data, 8000, 9000)
	at(t, p, data, 6000, 7000)
	return p
}

func TestAPartIsWrittenAtSeveralPlacesAndKept(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	p := r.spread(t, key, data)
	holds(t, p, data, 1000, 5000, 7000, 8000, 9000)
	if _, err := p.ReadAt(make([]byte, 10), 5000); !errors.Is(err, io.EOF) {
		t.Errorf("bytes beyond a gap are read: %v", err)
	}
	at(t, p, data, 1000, 5000)
	holds(t, p, data, 7000, 8000, 9000)
	at(t, p, data, 9000, 10_000)
	at(t, p, data, 7000, 8000)
	holds(t, p, data, 10_000)
	if p.sum != crc32.Checksum(data, crcTable) {
		t.Error("the checksum put together is not that of the bytes")
	}
	done := make(chan error, 1)
	p.Keep(whole(key, data), func(err error) { done <- err })
	must(t, <-done)
	if r.content("app/run1/videos/v.png") != string(data) || r.reservations.total() != 0 {
		t.Errorf("other bytes are stored, or %d bytes are still promised", r.reservations.total())
	}
}

func TestAPartWithGapsIsNotKept(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	done := make(chan error, 1)
	r.spread(t, key, data).Keep(whole(key, data), func(err error) { done <- err })
	if err := <-done; err == nil || r.q.state(key) != run.AssetWaiting {
		t.Errorf("a part with gaps is %s: %v", r.q.state(key), err)
	}
}

func TestBytesAreWrittenOnce(t *testing.T) {
	r := newRig(t)
	data := body(10_000, "v")
	p := r.spread(t, r.asset("run1", run.Videos, "v"), data)
	defer p.Close()
	for _, s := range spans(0, 10, 999, 1001, 4999, 5001, 6999, 7500, 1000, 5001, 7000, 9500) {
		if _, err := p.WriteAt(data[s.From:s.To], s.From); err == nil {
			t.Errorf("%v was written over what is there", s)
		}
	}
	holds(t, p, data, 1000, 5000, 7000, 8000, 9000)
}

func TestAPartWithGapsGoesOnByItsMapAfterAKill(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	p := r.spread(t, key, data)
	must(t, p.writeSidecar()) // as after mapBytes or mapTime
	at(t, p, data, 9000, 9500)
	killed(p)
	later, q := r.reopen(t, key, r.boot)
	holds(t, q, data, 1000, 5000, 7000, 8000, 9000) // the last bytes are not on the map
	at(t, q, data, 9000, 10_000)
	must(t, q.Close())
	_, q = later.reopen(t, key, r.boot)
	defer q.Close()
	holds(t, q, data, 1000, 5000, 7000, 8000, 10_000)
	at(t, q, data, 1000, 5000)
	at(t, q, data, 7000, 8000)
	holds(t, q, data, 10_000)
}

func TestTheMapStandsBeforeTheFirstByteBeyondAGap(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	p, err := r.write(key, strong, data[:1000])
	must(t, err)
	write := r.sys.write
	r.sys.write = func(f *os.File, b []byte, off int64) (int, error) {
		n, err := write(f, b, off)
		if off == 5000 {
			panic("killed") // the bytes are there
		}
		return n, err
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = p.WriteAt(data[5000:6000], 5000)
	}()
	killed(p)
	_, q := r.reopen(t, key, r.boot)
	defer q.Close()
	holds(t, q, data, 1000)
}

func TestTheMapFollowsEveryMiBAndEveryFifthOfASecond(t *testing.T) {
	r := newRig(t)
	p, err := r.Part(r.asset("run1", run.Videos, "v"))
	must(t, err)
	defer p.Close()
	must(t, p.Reset(strong))
	data := make([]byte, 128<<10)
	_, err = p.WriteAt(data, 0)
	must(t, err)
	off, most := int64(64<<20), int64(0)
	for range 40 {
		if _, err := p.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
		off += int64(len(data))
		most = max(most, p.written()-spanned(cardOf(t, r, p).Map.Written))
	}
	if most >= mapBytes {
		t.Errorf("the map was %d bytes behind", most)
	}
	p.mappedAt = p.mappedAt.Add(-mapTime)
	if _, err := p.WriteAt([]byte("x"), off); err != nil {
		t.Fatal(err)
	}
	if n := p.written() - spanned(cardOf(t, r, p).Map.Written); n != 0 {
		t.Errorf("after %s the map is %d bytes behind", mapTime, n)
	}
}

func cardOf(t *testing.T, r *rig, p *Part) (c sidecar) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, p.name(sidecarExt)))
	must(t, err)
	must(t, json.Unmarshal(data, &c))
	return c
}

func TestAfterARebootOnlyTheSyncedStretchesOfAPartCount(t *testing.T) {
	for name, c := range map[string]struct {
		harm  func(f *os.File) error
		front int64
		want  []int64
	}{
		"nothing lost":          {func(*os.File) error { return nil }, 1000, []int64{5000, 7000, 8000, 9000}},
		"a stretch is zeros":    {func(f *os.File) error { _, err := f.WriteAt(make([]byte, 100), 5500); return err }, 1000, []int64{8000, 9000}},
		"the end is not there":  {func(f *os.File) error { return f.Truncate(8500) }, 1000, []int64{5000, 7000}},
		"the front is not that": {func(f *os.File) error { _, err := f.WriteAt(make([]byte, 100), 0); return err }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			key := r.asset("run1", run.Videos, "v")
			data := body(10_000, "v")
			p := r.spread(t, key, data)
			p.startSync()
			must(t, p.endSync())
			at(t, p, data, 1000, 2000)
			at(t, p, data, 9000, 10_000)
			must(t, p.writeSidecar())
			must(t, c.harm(p.f))
			killed(p)
			later, q := r.reopen(t, key, "another boot")
			holds(t, q, data, c.front, c.want...)
			if c.front == 0 {
				must(t, q.Close())
				return
			}
			killed(q) // what did not count must not count now that its boot is the same
			_, q = later.reopen(t, key, "another boot")
			defer q.Close()
			holds(t, q, data, c.front, c.want...)
		})
	}
}

// The same for a part without gaps: its length counts within a boot, and what lay
// beyond the synced bytes after a reboot was not cut off before the card said so.
func TestWhatAReadAfterARebootDidNotBelieveIsNotBelievedLater(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(5000, "v")
	p, err := r.write(key, strong, data[:2000])
	must(t, err)
	p.startSync()
	must(t, p.endSync())
	if _, err := p.Write(make([]byte, 3000)); err != nil { // garbage, as of a power loss
		t.Fatal(err)
	}
	killed(p)
	later, q := r.reopen(t, key, "another boot")
	holds(t, q, data, 2000)
	killed(q)
	_, q = later.reopen(t, key, "another boot")
	defer q.Close()
	holds(t, q, data, 2000)
}

func TestACardWithADamagedMapMeansBeginAnew(t *testing.T) {
	for name, harm := range map[string]func(*sidecar){
		"a stretch longer":    func(c *sidecar) { c.Map.Written[1].To += 500 },
		"a stretch moved":     func(c *sidecar) { c.Map.Written[1].From -= 500 },
		"another mark":        func(c *sidecar) { c.Mark.ETag = `"v2"` },
		"another total":       func(c *sidecar) { c.Mark.Total-- },
		"no front":            func(c *sidecar) { c.Map.Written = c.Map.Written[1:]; c.Map.Check = c.sum() },
		"out of order":        func(c *sidecar) { slices.Reverse(c.Map.Written); c.Map.Check = c.sum() },
		"beyond the file":     func(c *sidecar) { c.Map.Written[2].To += 10_000; c.Map.Check = c.sum() },
		"beyond the object":   func(c *sidecar) { c.Mark.Total = 8500; c.Map.Check = c.sum() },
		"one over another":    func(c *sidecar) { c.Map.Written[1].To = 8500; c.Map.Check = c.sum() },
		"a negative stretch":  func(c *sidecar) { c.Map.Written[1].To = 4000; c.Map.Check = c.sum() },
		"a negative synced":   func(c *sidecar) { c.Synced = -1; c.Map.Check = c.sum() },
		"nothing on the map":  func(c *sidecar) { c.Map.Written = nil; c.Map.Check = c.sum() },
		"an emptied checksum": func(c *sidecar) { c.Map.Check = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			key := r.asset("run1", run.Videos, "v")
			data := body(10_000, "v")
			p := r.spread(t, key, data)
			must(t, p.Close())
			c := cardOf(t, r, p)
			harm(&c)
			text, err := json.Marshal(c)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(r.dir, p.name(sidecarExt)), text, 0o600))
			_, q := r.reopen(t, key, r.boot)
			defer q.Close()
			holds(t, q, data, 0)
		})
	}
}

// A program that knows no maps reads the card as one of an earlier boot: it goes on
// from the synced front, and never takes the length for progress.
func TestWhoKnowsNoMapsTakesTheSyncedFrontAlone(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	p := r.spread(t, key, data)
	must(t, p.Close())
	r, p = r.reopen(t, key, r.boot) // which writes it anew
	must(t, p.Close())
	c := cardOf(t, r, p)
	c.Map = nil
	text, err := json.Marshal(c)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.dir, p.name(sidecarExt)), text, 0o600))
	_, q := r.reopen(t, key, r.boot)
	defer q.Close()
	holds(t, q, data, 1000)
	if _, err := q.Write(data[1000:]); err != nil {
		t.Fatal(err)
	}
	holds(t, q, data, 10_000)
}

func TestResetEmptiesAPartWithGaps(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	p := r.spread(t, key, body(10_000, "old"))
	must(t, p.Reset(run.PartMark{ETag: `"v2"`, Total: 20_000}))
	data := body(20_000, "new")
	holds(t, p, data, 0)
	at(t, p, data, 0, 500)
	killed(p)
	_, q := r.reopen(t, key, r.boot)
	defer q.Close()
	holds(t, q, data, 500)
	if _, mark := q.Have(); mark.ETag != `"v2"` {
		t.Errorf("under %+v", mark)
	}
}

func TestTheRoomOfAPartWithGapsIsCountedOnce(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(3*allocSize, "v")
	part := func() *Part {
		p, err := r.Part(key)
		must(t, err)
		return p
	}
	p := part()
	must(t, p.Reset(run.PartMark{ETag: `"v1"`, Total: int64(len(data))}))
	must(t, p.Reserve(int64(len(data))))
	at(t, p, data, 0, 1000)
	at(t, p, data, allocSize, 2*allocSize)
	if p.alloc == 0 {
		testenv.Missing(t, "a file system below the temporary directory that reserves blocks")
	}
	if n := r.reservations.total(); n != 0 {
		t.Errorf("%d bytes are promised of what the file system has set aside", n)
	}
	must(t, p.writeSidecar())
	killed(p)
	r.release(p.hash)
	p = part()
	if err := p.Reserve(int64(len(data)) - p.written()); err != nil || r.reservations.total() > 0 {
		t.Errorf("gone on with, %d bytes are promised: %v", r.reservations.total(), err)
	}
	must(t, p.Close())
	if n := r.reservations.total(); n != 0 {
		t.Errorf("closed, %d bytes are promised", n)
	}
	r.noAlloc.Store(true)
	p = part()
	must(t, p.Reserve(int64(len(data))-p.written()))
	if n, most := r.reservations.total(), int64(len(data))-p.written(); n > most {
		t.Errorf("%d bytes are promised for %d that are missing", n, most)
	}
	must(t, p.Discard())
	if n := r.reservations.total(); n != 0 {
		t.Errorf("discarded, %d bytes are promised", n)
	}
}

func TestAFailedWriteBeyondAGapLeavesWhatWasSynced(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "v")
	data := body(10_000, "v")
	p := r.spread(t, key, data)
	p.startSync()
	must(t, p.endSync())
	at(t, p, data, 1000, 2000)
	must(t, p.writeSidecar())
	real := r.sys.write
	r.sys.write = func(f *os.File, b []byte, off int64) (int, error) {
		if strings.HasSuffix(f.Name(), partExt) {
			return 0, unix.EIO
		}
		return real(f, b, off)
	}
	if _, err := p.WriteAt(data[3000:4000], 3000); !errors.Is(err, unix.EIO) {
		t.Errorf("err = %v", err)
	}
	if _, err := p.WriteAt(data[9000:9500], 9000); !errors.Is(err, unix.EIO) {
		t.Errorf("written on after a failed write: %v", err)
	}
	must(t, p.Close())
	r.sys.write = real
	_, q := r.reopen(t, key, r.boot)
	defer q.Close()
	holds(t, q, data, 1000, 5000, 7000, 8000, 9000)
}

func TestJoinedChecksumsAreThoseOfTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 4000).Draw(t, "data")
		var is coverage
		var order []run.Span
		for from := 0; from < len(data); {
			to := min(from+rapid.IntRange(1, 700).Draw(t, "length"), len(data))
			order = append(order, run.Span{From: int64(from), To: int64(to)})
			from = to
		}
		for _, s := range rapid.Permutation(order).Draw(t, "order") {
			if !is.vacant(s.From, s.Len()) {
				t.Fatalf("%v is not vacant in %+v", s, is)
			}
			is.add(s.From, data[s.From:s.To])
			for _, e := range is.extents {
				if e.Sum != crc32.Checksum(data[e.From:e.To], crcTable) {
					t.Fatalf("checksum of %+v", e)
				}
			}
			if is.vacant(s.From, s.Len()) {
				t.Fatalf("%v is still vacant", s)
			}
		}
		if is.size != int64(len(data)) || len(is.extents) > 0 || is.sum != crc32.Checksum(data, crcTable) {
			t.Fatalf("%+v", is)
		}
	})
}
