package boltkv_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// filled is the directory of a closed queue with some hundred runs and assets.
// inUse is the file of a closed queue without the empty room at its end.
// A flipped bit somewhere, a sector of garbage: whatever Open and the reads make
// of it, they return.
func TestTheStateDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	for _, readOnly := range []bool{false, true} {
		_, err := queue.Open(dir, queue.Options{ReadOnly: readOnly, LockWait: time.Millisecond})
		if !errors.Is(err, boltkv.ErrLocked) || !strings.Contains(err.Error(), "another assetd runs on this state directory") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v", err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	one := opened(t, dir, queue.Options{ReadOnly: true})
	two := opened(t, dir, queue.Options{ReadOnly: true})
	if _, err := queue.Open(dir, queue.Options{LockWait: time.Millisecond}); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("written while read: %v", err)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := queue.Open(dir, queue.Options{LockWait: 60 * time.Millisecond}); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("beside one that locks the file alone: %v", err)
	}
}

func TestManyWhoMakeTheQueueMakeOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var mu sync.Mutex
	made := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			q, err := queue.Open(dir, queue.Options{LockWait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			made[q.ID()]++
			mu.Unlock()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%v", made)
	}
}

func TestReadingOnlyCreatesAndChangesNothing(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if _, err := queue.Open(none, queue.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made: %v", err)
	}
	if _, err := queue.Open(t.TempDir(), queue.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	dir := filled(t)
	before, _ := os.ReadFile(boltkv.Path(dir))
	q := opened(t, dir, queue.Options{ReadOnly: true})
	if runs, err := q.List(t.Context(), run.Downloading, "", 9); err != nil || len(runs) != 2 {
		t.Errorf("%v, %v", runs, err)
	}
	if err := q.Reschedule(t.Context(), "run-001", noon()); !errors.Is(err, kv.ErrReadOnly) {
		t.Errorf("%v", err)
	}
	if err := q.SaveAnswer("run-001", run.Answer{}); !errors.Is(err, kv.ErrReadOnly) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(q.Alive(t.Context()), q.Close()); err != nil {
		t.Error(err)
	}
	if after, _ := os.ReadFile(boltkv.Path(dir)); string(before) != string(after) {
		t.Error("the file changed")
	}
}

func TestWhatIsLeftOfACreationIsNoQueue(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(boltkv.Path(dir)+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened(t, dir, queue.Options{})
	if _, err := os.Stat(boltkv.Path(dir) + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(name(bMeta)).Put([]byte(keySchema), []byte("assetd/queue/3"))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = queue.Open(dir, queue.Options{})
	if damage := (*kv.DamageError)(nil); err == nil || errors.As(err, &damage) || !strings.Contains(err.Error(), "assetd/queue/3") {
		t.Errorf("%v", err)
	}
}

func TestFileSystemsThatCannotBeTrustedAreRefused(t *testing.T) {
	for magic, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9p",
		unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.SMB_SUPER_MAGIC: "SMB",
	} {
		if warning, err := boltkv.JudgeType("/state", magic); err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, new(*boltkv.FilesystemError)) || warning != "" {
			t.Errorf("%#x: %q, %v", magic, warning, err)
		}
	}
	if warning, err := boltkv.JudgeType("/state", unix.OVERLAYFS_SUPER_MAGIC); err != nil || !strings.Contains(warning, "overlayfs") {
		t.Errorf("%q, %v", warning, err)
	}
	if warning, err := boltkv.JudgeType("/state", unix.EXT4_SUPER_MAGIC); err != nil || warning != "" {
		t.Errorf("%q, %v", warning, err)
	}
}

func TestWhoMayNotWriteIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // may do all, until its thread looks at files as nobody
		runtime.LockOSThread()
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			testenv.Missing(t, "setfsuid: "+err.Error())
		}
		defer func() {
			_, _ = unix.SetfsuidRetUid(0)
			runtime.UnlockOSThread()
		}()
	}
	_, err := queue.Open(dir, queue.Options{LockWait: time.Millisecond})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "uid") {
		t.Errorf("%v", err)
	}
}

func TestEraseLeavesNothingOfTheQueueAndAllElse(t *testing.T) {
	dir := filled(t)
	q := opened(t, dir, queue.Options{})
	if err := errors.Join(q.SaveAnswer("run-001", *answerOf("run-001", 1)), q.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also where there is nothing
		if err := queue.Erase(dir); err != nil {
			t.Fatal(err)
		}
		if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 || filepath.Base(names[0]) != "other" {
			t.Errorf("%q", names)
		}
	}
	if again := opened(t, dir, queue.Options{}); again.ID() == q.ID() {
		t.Error("not a new one")
	}
}
