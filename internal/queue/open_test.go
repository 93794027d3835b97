package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// filled is the directory of a closed queue with some hundred runs and assets.
func filled(t testing.TB) string {
	t.Helper()
	dir := quick(t)
	q, err := Open(dir, Options{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	var in []run.HandIn
	for i := range 300 {
		in = append(in, run.HandIn{ID: run.ID(fmt.Sprintf("run-%03d", i)), Labels: map[string]string{"shot": strings.Repeat("7", 100)}})
	}
	if _, err := q.Add(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for _, id := range []run.ID{"run-001", "run-002"} {
		v := run.Verdict{Answer: answerOf(id, 100), Terminal: true, At: noon()}
		if _, err := q.Answered(t.Context(), id, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inUse is the file of a closed queue without the empty room at its end.
func inUse(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(dbPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	return b[:len(bytes.TrimRight(b, "\x00"))/page*page+2*page]
}

func TestDamageIsNamedAndNeverAnEmptyQueue(t *testing.T) {
	dir := filled(t)
	sound := inUse(t, dir)
	page := os.Getpagesize()
	zero := func(from, to int) func() []byte {
		return func() []byte {
			b := append([]byte(nil), sound...)
			clear(b[from:to])
			return b
		}
	}
	random := make([]byte, 64<<10)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	foreign := filepath.Join(dir, "foreign")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func() []byte
		want string // in the message
	}{
		"0 bytes":          {func() []byte { return nil }, "0 bytes"},
		"100 bytes":        {func() []byte { return sound[:100] }, "100 bytes"},
		"64 KiB of zeros":  {func() []byte { return make([]byte, 64<<10) }, "neither of its two heads"},
		"random bytes":     {func() []byte { return random }, "neither of its two heads"},
		"text":             {func() []byte { return []byte("run IDs\nabcd\n") }, "neither of its two heads"},
		"both heads bad":   {zero(0, 2*page), "neither of its two heads"},
		"body zeroed":      {zero(2*page, len(sound)), "page"},
		"cut short":        {func() []byte { return sound[:len(sound)/2/page*page] }, "cut short"},
		"another's bbolt":  {func() []byte { b, _ := os.ReadFile(foreign); return b }, "no queue of assetd"},
		"heads and a page": {func() []byte { return sound[:2*page+100] }, "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(dbPath(dir), c.make(), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{false, true} {
				q, err := Open(dir, Options{ReadOnly: readOnly})
				damage := (*DamageError)(nil)
				if !errors.As(err, &damage) {
					if err == nil {
						_ = q.Close()
					}
					t.Fatalf("%v", err)
				}
				if damage.File != dbPath(dir) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "assetd restore") {
					t.Errorf("%v", err)
				}
			}
			if b, err := os.ReadFile(dbPath(dir)); err != nil || string(b) != string(c.make()) {
				t.Errorf("the file was touched: %v", err)
			}
		})
	}
}

func TestOneBadHeadIsPassedOverWithAWarning(t *testing.T) {
	for head := range 2 {
		dir := filled(t)
		f, err := os.OpenFile(dbPath(dir), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		page := os.Getpagesize()
		if _, err := f.WriteAt(make([]byte, page), int64(head*page)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		q := opened(t, dir, Options{})
		if w := strings.Join(q.Warnings(), "\n"); !strings.Contains(w, "one of its two heads is bad") {
			t.Errorf("head %d: warnings %q", head, w)
		}
		// One commit older at the most: the second answer may be gone.
		c := must(q.Counts(t.Context()))(t)
		if c.Runs[run.Waiting]+c.Runs[run.Downloading] != 300 || c.Assets[run.AssetWaiting] < 100 {
			t.Errorf("head %d: %v", head, c)
		}
	}
}

// A flipped bit somewhere, a sector of garbage: whatever Open and the reads make
// of it, they return.
func TestNoDamageEndsTheProcess(t *testing.T) {
	dir := filled(t)
	sound := inUse(t, dir)
	bad := 0
	for seed := range uint64(250) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := append([]byte(nil), sound...)
		if at := r.IntN(len(sound) - os.Getpagesize()); seed%2 == 0 {
			b[at] ^= 1 << r.IntN(8)
		} else {
			for i := at; i < min(at+512, len(b)); i++ {
				b[i] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(dbPath(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := Open(dir, Options{})
		if err != nil {
			bad++
			continue
		}
		if inconsistency(q) != nil {
			bad++
		}
		_, _ = q.Add(t.Context(), []run.HandIn{{ID: "run-001"}, {ID: "another"}})
		_ = q.Close()
	}
	if bad == 0 {
		t.Error("nothing was damaged")
	}
}

func TestAFileCutShortUnderTheQueueIsAnError(t *testing.T) {
	for name, use := range map[string]func(*Queue) error{
		"read": func(q *Queue) error {
			_, err := q.List(t.Context(), "", "", 1000)
			return err
		},
		"write": func(q *Queue) error {
			_, err := q.Add(t.Context(), []run.HandIn{{ID: "another"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := Open(filled(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(q.Path(), int64(3*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
			damage := (*DamageError)(nil)
			if err := use(q); !errors.As(err, &damage) {
				t.Errorf("%v", err)
			}
			if q.Err() == nil {
				t.Error("not dead")
			}
			_ = q.Close()
		})
	}
}

func TestTheStateDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	for _, readOnly := range []bool{false, true} {
		_, err := Open(dir, Options{ReadOnly: readOnly, LockWait: time.Millisecond})
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another assetd runs on this state directory") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v", err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	one := opened(t, dir, Options{ReadOnly: true})
	two := opened(t, dir, Options{ReadOnly: true})
	if _, err := Open(dir, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("written while read: %v", err)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(dbPath(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := Open(dir, Options{LockWait: 60 * time.Millisecond}); !errors.Is(err, ErrLocked) {
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
			q, err := Open(dir, Options{LockWait: time.Minute})
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
	if _, err := Open(none, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	dir := filled(t)
	before, _ := os.ReadFile(dbPath(dir))
	q := opened(t, dir, Options{ReadOnly: true})
	if runs, err := q.List(t.Context(), run.Downloading, "", 9); err != nil || len(runs) != 2 {
		t.Errorf("%v, %v", runs, err)
	}
	if err := q.Reschedule(t.Context(), "run-001", noon()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
	if err := q.SaveAnswer("run-001", run.Answer{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(q.Alive(t.Context()), q.Close()); err != nil {
		t.Error(err)
	}
	if after, _ := os.ReadFile(dbPath(dir)); string(before) != string(after) {
		t.Error("the file changed")
	}
}

func TestWhatIsLeftOfACreationIsNoQueue(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dbPath(dir)+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := opened(t, dir, Options{})
	if !q.Fresh() {
		t.Error("not fresh")
	}
	if _, err := os.Stat(dbPath(dir) + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(dbPath(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bMeta.name()).Put([]byte(keySchema), []byte("assetd/queue/2"))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	if damage := (*DamageError)(nil); err == nil || errors.As(err, &damage) || !strings.Contains(err.Error(), "assetd/queue/2") {
		t.Errorf("%v", err)
	}
}

func TestAFileMostlyFreeIsMadeAnewAtOpen(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(dbPath(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ballast := []byte("ballast")
	err = errors.Join(
		db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket(bMeta.name()).Put(ballast, make([]byte, compactFrom+compactFrom/4))
		}),
		db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bMeta.name()).Delete(ballast) }),
		db.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	q := opened(t, dir, Options{})
	s := must(q.Stats(t.Context()))(t)
	if s.Size > 1<<20 || s.Free > s.Size/2 || !strings.Contains(strings.Join(q.Warnings(), "\n"), "compacted") {
		t.Errorf("%+v, warnings %q", s, q.Warnings())
	}
	if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != 298 || c.Assets[run.AssetWaiting] != 200 {
		t.Errorf("%v", c)
	}
	if _, err := Open(dir, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("the new file is not locked: %v", err)
	}
	add(t, q, "another")
}

func TestFileSystemsThatCannotBeTrustedAreRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("missing: Linux")
	}
	for magic, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9p",
		unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.SMB_SUPER_MAGIC: "SMB",
	} {
		if warning, err := judgeType("/state", magic); err == nil || !strings.Contains(err.Error(), want) || warning != "" {
			t.Errorf("%#x: %q, %v", magic, warning, err)
		}
	}
	if warning, err := judgeType("/state", unix.OVERLAYFS_SUPER_MAGIC); err != nil || !strings.Contains(warning, "overlayfs") {
		t.Errorf("%q, %v", warning, err)
	}
	if warning, err := judgeType("/state", unix.EXT4_SUPER_MAGIC); err != nil || warning != "" {
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
			lacks(t, "setfsuid: "+err.Error())
		}
		defer func() {
			_, _ = unix.SetfsuidRetUid(0)
			runtime.UnlockOSThread()
		}()
	}
	_, err := Open(dir, Options{LockWait: time.Millisecond})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "uid") {
		t.Errorf("%v", err)
	}
}
