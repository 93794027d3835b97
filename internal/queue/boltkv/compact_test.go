package boltkv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// roomy leaves so many runs in a queue, and some MiB of free pages.
func roomy(ctx context.Context, q *queue.Queue, keep ...run.ID) error {
	label := labels(8 << 10)
	var in []run.HandIn
	for i := range 200 {
		in = append(in, run.HandIn{ID: run.ID(fmt.Sprintf("gone-%03d", i)), Labels: label})
	}
	for _, id := range keep {
		in = append(in, run.HandIn{ID: id, Labels: map[string]string{"shot": string(id)}})
	}
	if _, err := q.Add(ctx, in); err != nil {
		return err
	}
	var gone errgroup.Group // at once, so that they share commits
	for _, h := range in[:200] {
		gone.Go(func() error { return q.Remove(ctx, h.ID, true) })
	}
	return gone.Wait()
}

const fewFree = 1 << 20 // where no test can wait for 64 MiB

func noHalf(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(boltkv.HalfPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a half made file is left: %v", err)
	}
}

func TestAFileMostlyFreeIsMadeAnewAtOpen(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ballast := []byte("ballast")
	err = errors.Join(
		db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket(name(bMeta)).Put(ballast, make([]byte, boltkv.CompactFrom+boltkv.CompactFrom/4))
		}),
		db.Update(func(tx *bolt.Tx) error { return tx.Bucket(name(bMeta)).Delete(ballast) }),
		db.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	if ro := opened(t, dir, queue.Options{ReadOnly: true}); must(ro.Figures(t.Context()))(t).Free < boltkv.CompactFrom {
		t.Error("made anew by one who only reads, or nothing was free")
	} else if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	var told []run.Event
	q := opened(t, dir, queue.Options{Tell: func(e run.Event) { told = append(told, e) }})
	s := must(q.Figures(t.Context()))(t)
	if s.Size > 1<<20 || s.Free > s.Size/2 {
		t.Errorf("%+v", s)
	}
	if len(told) != 1 || told[0].Kind != run.QueueCompacted || !strings.Contains(told[0].Note, "MiB to ") {
		t.Errorf("%+v", told)
	}
	if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != 298 || c.Assets[run.AssetWaiting] != 200 {
		t.Errorf("%v", c)
	}
	if _, err := queue.Open(dir, queue.Options{LockWait: time.Millisecond}); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("the new file is not locked: %v", err)
	}
	add(t, q, "another")
}

func TestAFileWithFewFreePagesIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	if err := errors.Join(roomy(t.Context(), q, "kept"), q.Close()); err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, queue.Options{Tell: func(e run.Event) { t.Errorf("%+v", e) }})
	if s := must(q.Figures(t.Context()))(t); s.Free < fewFree {
		t.Errorf("%+v", s)
	}
}

// While it runs, too, without anybody noticing.
func TestAFileMostlyFreeIsMadeAnewBetweenTwoCommits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var told []run.Event
		q := opened(t, dir, queue.Options{CompactFrom: fewFree, Tell: func(e run.Event) {
			if e.Kind != run.RunAccepted {
				told = append(told, e)
			}
		}})
		if err := roomy(t.Context(), q, "kept"); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Second):
					}
					if r, err := q.Get(t.Context(), "kept"); err != nil || r.Labels["shot"] != "kept" {
						t.Errorf("%+v, %v", r, err)
					}
				}
			})
		}
		time.Sleep(compactEvery + 500*time.Millisecond)
		synctest.Wait()
		s := must(q.Figures(t.Context()))(t)
		if len(told) != 1 || told[0].Kind != run.QueueCompacted || s.Size > fewFree {
			t.Errorf("%+v, told %+v", s, told)
		}
		add(t, q, "another")
		time.Sleep(2 * compactEvery)
		close(stop)
		readers.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if len(told) != 1 {
			t.Errorf("made anew though nothing was free: %+v", told[1:])
		}
	})
	noHalf(t, dir)
	q := opened(t, dir, queue.Options{})
	if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != 2 {
		t.Errorf("%v", c)
	}
}

// Whatever a crash left of the new file is no queue, whole or not: only its name
// makes it one.
func TestWhatACrashLeftOfTheNewFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	if err := errors.Join(roomy(t.Context(), q, "kept"), q.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(boltkv.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, queue.Options{CompactFrom: fewFree})
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	anew, err := os.ReadFile(boltkv.Path(dir))
	if err != nil || len(anew) >= len(before) {
		t.Fatalf("%d of %d bytes: %v", len(anew), len(before), err)
	}
	page := os.Getpagesize()
	for _, c := range []struct {
		what       string
		there, new []byte
	}{
		{"before the first byte", before, []byte{}},
		{"in the first page", before, anew[:100]},
		{"in the middle", before, anew[:len(anew)/2/page*page]},
		{"before its sync", before, make([]byte, len(anew))},
		{"before the rename", before, anew},
		{"after the rename", anew, nil},
		{"at the next time", anew, anew[:3*page]},
	} {
		for _, from := range []int64{fewFree, 0} { // made anew once more, or not
			dir := t.TempDir()
			err := os.WriteFile(boltkv.Path(dir), c.there, 0o600)
			if err == nil && c.new != nil {
				err = os.WriteFile(boltkv.HalfPath(dir), c.new, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			q := opened(t, dir, queue.Options{CompactFrom: from})
			noHalf(t, dir)
			r, err := q.Get(t.Context(), "kept")
			if counts := must(q.Counts(t.Context()))(t); err != nil || r.Labels["shot"] != "kept" || counts.Runs[run.Waiting] != 1 {
				t.Errorf("%s: %+v, %v, %v", c.what, r, counts, err)
			}
			add(t, q, "another")
		}
	}
}

// A directory in its place stands for whatever keeps the new file from being made.
func TestAFileThatCannotBeMadeAnewIsUsedAsItIs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var told []run.Event
		q := opened(t, dir, queue.Options{CompactFrom: fewFree, Tell: func(e run.Event) {
			if e.Kind != run.RunAccepted {
				told = append(told, e)
			}
		}})
		if err := roomy(t.Context(), q, "kept"); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(boltkv.HalfPath(dir), "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * compactEvery)
		synctest.Wait()
		if len(told) != 1 || told[0].Kind != run.QueueLarge || told[0].Err == nil || !strings.Contains(told[0].Note, "are free") {
			t.Errorf("told %+v", told)
		}
		add(t, q, "another")
		if err := os.RemoveAll(boltkv.HalfPath(dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(boltkv.CompactAgain)
		synctest.Wait()
		if len(told) != 2 || told[1].Kind != run.QueueCompacted {
			t.Errorf("told %+v", told)
		}
		add(t, q, "one-more")
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMakingTheFileAnewOutlivesSIGKILL(t *testing.T) {
	testenv.Long(t)
	dir := filepath.Join(t.TempDir(), "state")
	added := map[run.ID]bool{}
	compacted := 0
	for round := range 8 {
		cmd, out, err := start(t, "shrink", dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		hear := func() bool {
			if !lines.Scan() {
				return false
			}
			what, id, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "added":
				added[run.ID(id)] = true
			case "compacted":
				compacted++
			case "closing": // what follows makes the file anew
			default:
				t.Fatalf("the child said %q", lines.Text())
			}
			return true
		}
		for n := 1 + rand.IntN(12); n > 0 && hear(); n-- {
		}
		for spin := rand.IntN(1 << 20); spin > 0; spin-- { // somewhere in the next step
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for hear() {
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it was not killed")
		}
		q := opened(t, dir, queue.Options{LockWait: time.Minute})
		noHalf(t, dir)
		for id := range added {
			if _, err := q.Get(t.Context(), id); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if err := errors.Join(q.Audit(context.Background()), q.Close()); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if compacted == 0 || len(added) == 0 {
		t.Errorf("%d added, made anew %d times: nothing was tried", len(added), compacted)
	}
}

// shrinkForEver has the file made anew again and again, and says what stands.
func shrinkForEver(dir string) error {
	for {
		q, err := queue.Open(dir, queue.Options{CompactFrom: fewFree, Tell: func(e run.Event) {
			if e.Kind == run.QueueCompacted {
				fmt.Println("compacted")
			}
		}})
		if err != nil {
			return err
		}
		id := run.ID(fmt.Sprintf("run-%016x", rand.Uint64()))
		if err := roomy(context.Background(), q, id); err != nil {
			return err
		}
		fmt.Println("added", id)
		fmt.Println("closing")
		if err := q.Close(); err != nil {
			return err
		}
	}
}

func TestAFullDiskKeepsTheFileAsItIs(t *testing.T) { onASmallDisk(t, "tight", "as it was") }

func shrinkOnAFullDisk(mount string) error {
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=4m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	ctx := context.Background()
	dir := filepath.Join(mount, "state")
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		return err
	}
	var keep []run.ID
	for i := range 100 {
		keep = append(keep, run.ID(fmt.Sprintf("kept-%d", i)))
	}
	if err := errors.Join(roomy(ctx, q, keep...), q.Close()); err != nil {
		return err
	}
	var fill error
	for i := 0; fill == nil; i++ { // to the last page
		fill = os.WriteFile(filepath.Join(mount, fmt.Sprint("ballast", i)), make([]byte, 4<<10), 0o600)
	}
	var told []run.Event
	if q, err = queue.Open(dir, queue.Options{CompactFrom: fewFree, Tell: func(e run.Event) { told = append(told, e) }}); err != nil {
		return err
	}
	if len(told) != 1 || told[0].Kind != run.QueueLarge || !strings.Contains(told[0].Err.Error(), "no space left") {
		return fmt.Errorf("told %+v", told)
	}
	if _, err := os.Stat(boltkv.HalfPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("a half made file is left: %w", err)
	}
	// There is room in the file itself.
	if _, err := q.Add(ctx, []run.HandIn{{ID: "another"}}); err != nil {
		return err
	}
	c, err := q.Counts(ctx)
	if err != nil || c.Runs[run.Waiting] != 101 {
		return fmt.Errorf("%v, %w", c, err)
	}
	if err := errors.Join(q.Audit(context.Background()), q.Close()); err != nil {
		return err
	}
	fmt.Println("as it was")
	return nil
}

func TestAFileOfAnEarlierVersionGetsItsOutbox(t *testing.T) {
	dir := filled(t)
	unsealed(t, dir, false)
	ro := opened(t, dir, queue.Options{ReadOnly: true})
	if found, err := ro.Outbox(t.Context(), run.URLHook, 0, 9); err != nil || len(found) != 0 {
		t.Errorf("read only: %v, %v", found, err)
	}
	if runs, err := ro.List(t.Context(), run.Downloading, "", 9); err != nil || len(runs) != 2 {
		t.Errorf("read only: %v, %v", runs, err)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	q := opened(t, dir, queue.Options{})
	q.SetHooks(run.URLHook)
	if err := q.Post(t.Context(), run.Notice{Kind: run.VolumeGone, At: noon()}); err != nil {
		t.Fatal(err)
	}
	if found := must(q.Outbox(t.Context(), run.URLHook, 0, 9))(t); len(found) != 1 {
		t.Errorf("%v", found)
	}
}

func TestAFileOfAnEarlierVersionIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	if err := errors.Join(roomy(t.Context(), q, "kept"), q.Close()); err != nil {
		t.Fatal(err)
	}
	unsealed(t, dir, false)
	q = opened(t, dir, queue.Options{CompactFrom: fewFree})
	if free := must(q.Figures(t.Context()))(t).Free; free > fewFree {
		t.Errorf("%d bytes are free", free)
	}
}

// Places are never given twice: not after the last notice is gone, not after a
// restart, not in a file that was made anew.
func TestNoPlaceInTheOutboxIsGivenTwice(t *testing.T) {
	dir := t.TempDir()
	seen := map[uint64]bool{}
	for round := range 3 {
		q := opened(t, dir, queue.Options{CompactFrom: fewFree})
		q.SetHooks(run.CommandHook)
		for i := range 2 {
			settle(t, q, run.ID(fmt.Sprintf("run-%d-%d", round, i)))
			for _, n := range must(q.Outbox(t.Context(), run.CommandHook, 0, 9))(t) {
				if seen[n.Seq] {
					t.Errorf("place %d was given twice", n.Seq)
				}
				seen[n.Seq] = true
				if err := q.Told(t.Context(), run.CommandHook, []uint64{n.Seq}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(roomy(t.Context(), q), q.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d places", len(seen))
	}
}
