package boltkv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func TestACopyMadeWhileMuchIsWrittenIsWholeAndHasAllThatWasDurable(t *testing.T) {
	q, store := stored(t, quick(t), queue.Options{})
	store.Lax()
	ctx, stop := context.WithCancel(t.Context())
	var writers errgroup.Group
	for w := range 4 {
		writers.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				id := run.ID(fmt.Sprintf("run-%d-%d", w, n))
				if err := live(t.Context(), q, id, func(string, run.ID) {}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	dir := t.TempDir()
	commits := must(store.Stats(t.Context()))(t).Commits
	for round := range 5 {
		path := boltkv.CopyPath(dir, noon())
		before := must(q.Counts(t.Context()))(t).Runs[run.StoredRun]
		c, err := q.Backup(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if c.ID != q.ID() || !c.At.Equal(noon()) || c.Path != path || c.Runs < before {
			t.Errorf("round %d: %+v, %d runs were settled before it", round, c, before)
		}
		if again, err := queue.Verify(path); err != nil || again != c {
			t.Errorf("round %d: %+v, then %+v, %v", round, c, again, err)
		}
		other := t.TempDir()
		if err := os.Rename(path, boltkv.Path(other)); err != nil {
			t.Fatal(err)
		}
		copied := opened(t, other, queue.Options{})
		if n := must(copied.Counts(t.Context()))(t).Runs[run.StoredRun]; n < before || copied.ID() != q.ID() {
			t.Errorf("round %d: %d settled runs of %d in the copy", round, n, before)
		}
	}
	stop()
	if err := writers.Wait(); err != nil {
		t.Error(err)
	}
	if must(store.Stats(t.Context()))(t).Commits == commits {
		t.Error("nothing was written meanwhile")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What a kill in the middle of a copy leaves is never taken for one, and goes.
func TestKilledInTheMiddleOfACopyTheOlderOnesAreGood(t *testing.T) {
	testenv.Long(t)
	dir := t.TempDir()
	older := boltkv.CopyPath(boltkv.BackupDir(dir), noon().Add(-time.Hour))
	q, err := queue.Open(dir, queue.Options{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	label := labels(8 << 10)
	for i := range 20 {
		var in []run.HandIn
		for n := range 100 {
			in = append(in, run.HandIn{ID: run.ID(fmt.Sprintf("run-%d-%d", i, n)), Labels: label})
		}
		if _, err := q.Add(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(boltkv.BackupDir(dir), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Backup(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	halves := 0
	for range 30 {
		cmd, out, err := start(t, "copy", dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("copying\n"))); err != nil {
			t.Fatal(err)
		}
		for range rand.IntN(3) { // a few copies further on, or at once
			_, _ = io.ReadFull(out, make([]byte, len("copied\n")))
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it was not killed")
		}
		half, _ := filepath.Glob(boltkv.HalfCopy(filepath.Join(boltkv.BackupDir(dir), "*")))
		halves += len(half)
		copies := must(boltkv.Copies(boltkv.BackupDir(dir), noon()))(t)
		for _, c := range copies {
			if _, err := queue.Verify(c.Path); err != nil {
				t.Error(err)
			}
		}
		if len(copies) == 0 || copies[len(copies)-1].Path != older {
			t.Errorf("copies %v", copies)
		}
		if err := boltkv.Prune(boltkv.BackupDir(dir), noon(), 2); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(boltkv.BackupDir(dir)); len(left) > 2 {
			t.Errorf("left: %v", left)
		}
		if halves >= 2 {
			return
		}
	}
	t.Error("never killed in the middle of a copy")
}

// copyForEver makes copies until somebody kills it.
func copyForEver(dir string) error {
	q, err := queue.Open(dir, queue.Options{Now: noon, LockWait: time.Minute})
	if err != nil {
		return err
	}
	fmt.Println("copying")
	for {
		if _, err := q.Backup(context.Background(), boltkv.CopyPath(boltkv.BackupDir(dir), noon())); err != nil {
			return err
		}
		fmt.Println("copied")
	}
}

func TestACopyThatFailsLeavesNothing(t *testing.T) {
	q := fresh(t)
	add(t, q, "run-1")
	dir := t.TempDir()
	if _, err := q.Backup(t.Context(), filepath.Join(dir, "not", "there")); err == nil {
		t.Error("copied to nowhere")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Backup(ctx, filepath.Join(dir, "copy")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestACopyIsNotMadeWhereTheDiskIsLow(t *testing.T) { onASmallDisk(t, "lowdisk", "refused") }

func copyToALowDisk(mount string) error {
	if err := mountSmall(mount); err != nil {
		return err
	}
	dir := filepath.Join(mount, "state")
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		return err
	}
	_, err = q.Backup(context.Background(), filepath.Join(mount, "copy"))
	if !errors.Is(err, boltkv.ErrNoRoomForCopy) || q.Err() != nil {
		return fmt.Errorf("copied to a low disk: %w, dead: %w", err, q.Err())
	}
	if left, _ := filepath.Glob(filepath.Join(mount, ".copy*")); len(left) > 0 {
		return fmt.Errorf("left: %v", left)
	}
	fmt.Println("refused")
	return q.Close()
}

func TestCopiesAreFoundNewestFirstAndThoseOfAWrongClockLast(t *testing.T) {
	dir := t.TempDir()
	now := noon()
	for _, at := range []time.Time{now.Add(-2 * time.Hour), now.AddDate(9, 0, 0), now, now.Add(-time.Hour)} {
		if err := os.WriteFile(boltkv.CopyPath(dir, at), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"queue-x.db", "notes.txt", "queue-20260225T110000Z.db.old"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(boltkv.HalfCopy(boltkv.CopyPath(dir, now)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	names := func() (names []string) {
		for _, c := range must(boltkv.Copies(dir, now))(t) {
			names = append(names, filepath.Base(c.Path))
		}
		return names
	}
	want := []string{"queue-20260225T120000Z.db", "queue-20260225T110000Z.db", "queue-20260225T100000Z.db", "queue-20350225T120000Z.db"}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if err := boltkv.Prune(dir, now, 2); err != nil {
		t.Error(err)
	}
	if got := names(); !slices.Equal(got, want[:2]) {
		t.Errorf("kept: %v", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 5 {
		t.Errorf("what is not ours was removed, or a half copy was not: %v", left)
	}
	if c, err := boltkv.Copies(filepath.Join(dir, "gone"), now); err != nil || len(c) != 0 {
		t.Errorf("%v, %v", c, err)
	}
}

func TestACopyWithARecordThatCannotBeReadIsNone(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.Update(func(tx *bolt.Tx) error {
		key := []byte("run-001/images/0")
		return tx.Bucket(name(bAssets)).Put(key, boltkv.Seal(bAssets, key, []byte("garbage")))
	}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Verify(boltkv.Path(dir)); !errors.As(err, new(*kv.DamageError)) || !strings.Contains(err.Error(), boltkv.Path(dir)) {
		t.Errorf("%v", err)
	}
}
