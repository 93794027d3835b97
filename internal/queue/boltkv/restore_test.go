package boltkv_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// copied is a state directory and a copy of its queue, which has two runs; the
// queue has one more.
func copied(t *testing.T) (dir, copy string, made queue.Copy) {
	t.Helper()
	dir, copy = t.TempDir(), filepath.Join(t.TempDir(), "copy")
	q := opened(t, dir, queue.Options{})
	add(t, q, "run-1", "run-2")
	made, err := q.Backup(t.Context(), copy)
	if err != nil {
		t.Fatal(err)
	}
	add(t, q, "run-3")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, copy, made
}

func content(queue.Copy) error { return nil }

func TestACopyTakesTheQueuesPlaceWhateverHappenedToThat(t *testing.T) {
	page := os.Getpagesize()
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":         func(b []byte) []byte { return b },
		"0 bytes":         func([]byte) []byte { return nil },
		"100 bytes":       func(b []byte) []byte { return b[:100] },
		"64 KiB of zeros": func([]byte) []byte { return make([]byte, 64<<10) },
		"both heads":      func(b []byte) []byte { clear(b[:2*page]); return b },
		"the body":        func(b []byte) []byte { clear(b[2*page:]); return b },
		"cut short":       func(b []byte) []byte { return b[:3*page] },
	} {
		t.Run(name, func(t *testing.T) {
			dir, copy, made := copied(t)
			was, err := os.ReadFile(boltkv.Path(dir))
			if err != nil {
				t.Fatal(err)
			}
			was = spoil(was)
			if err := os.WriteFile(boltkv.Path(dir), was, 0o600); err != nil {
				t.Fatal(err)
			}
			asked := 0
			c, aside, err := queue.Restore(dir, copy, boltkv.AsideDamaged, func(c queue.Copy) error {
				asked++
				if b, err := os.ReadFile(boltkv.Path(dir)); err != nil || !bytes.Equal(b, was) {
					t.Errorf("replaced before anybody was asked: %v", err)
				}
				return nil
			})
			if err != nil || asked != 1 || c.ID != made.ID || c.Runs != 2 || !c.At.Equal(noon()) || c.Path != copy {
				t.Fatalf("%+v, asked %d times, %v", c, asked, err)
			}
			if b, err := os.ReadFile(aside); err != nil || !bytes.Equal(b, was) || !strings.HasPrefix(aside, boltkv.Path(dir)+".damaged-") {
				t.Errorf("%s: %v", aside, err)
			}
			noHalf(t, dir)
			q := opened(t, dir, queue.Options{})
			if c := must(q.Counts(t.Context()))(t); c.Runs[run.Waiting] != 2 || q.ID() != made.ID {
				t.Errorf("%v of queue %s", c, q.ID())
			}
			add(t, q, "run-3")
		})
	}
}

func TestWhereThereIsNoQueueACopyBecomesOne(t *testing.T) {
	_, copy, made := copied(t)
	dir := filepath.Join(t.TempDir(), "new", "state")
	if c, aside, err := queue.Restore(dir, copy, boltkv.AsideReplaced, content); err != nil || aside != "" || c.ID != made.ID {
		t.Errorf("%+v, %q, %v", c, aside, err)
	}
	if q := opened(t, dir, queue.Options{}); q.ID() != made.ID {
		t.Error("another queue")
	}
}

func TestARestorationThatFailsLeavesTheQueueAsItIs(t *testing.T) {
	dir, copy, _ := copied(t)
	was, err := os.ReadFile(boltkv.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("no queue"), 0o600); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	for name, c := range map[string]struct {
		from   string
		before func(queue.Copy) error
		want   func(error) bool
	}{
		"bad copy":    {bad, content, func(err error) bool { d := (*kv.DamageError)(nil); return errors.As(err, &d) && d.File == bad }},
		"no file":     {bad + "x", content, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		"a directory": {dir, content, func(err error) bool { return errors.As(err, new(*kv.DamageError)) }},
		"itself":      {boltkv.Path(dir), content, func(err error) bool { return strings.Contains(err.Error(), "is the queue itself") }},
		"refused":     {copy, func(queue.Copy) error { return no }, func(err error) bool { return errors.Is(err, no) }},
	} {
		if _, aside, err := queue.Restore(dir, c.from, boltkv.AsideReplaced, c.before); err == nil || !c.want(err) || aside != "" {
			t.Errorf("%s: aside %q, %v", name, aside, err)
		}
		if b, err := os.ReadFile(boltkv.Path(dir)); err != nil || !bytes.Equal(b, was) {
			t.Errorf("%s: the queue was changed: %v", name, err)
		}
		noHalf(t, dir)
	}
	q := opened(t, dir, queue.Options{})
	if _, _, err := queue.Restore(dir, copy, boltkv.AsideReplaced, content); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("restored under one who has it open: %v", err)
	}
	add(t, q, "run-4")
}

// bbolt's check passes over a record that is garbage: the process that meets it
// ends, and the next one must not meet it again and again.
func TestAQueueThatDiedOfARecordIsDamagedAtTheNextOpen(t *testing.T) {
	dir := filled(t)
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.Update(func(tx *bolt.Tx) error {
		key := []byte("run-001") // what a defect wrote, not the disk: its checksum fits
		return tx.Bucket(name(bRuns)).Put(key, boltkv.Seal(bRuns, key, []byte("garbage")))
	}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Get(t.Context(), "run-001"); !errors.As(err, new(*kv.DamageError)) || q.Err() == nil {
		t.Fatalf("%v", err)
	}
	_ = q.Close()
	for range 2 {
		if _, err := queue.Open(dir, queue.Options{}); !errors.As(err, new(*kv.DamageError)) {
			t.Errorf("%v", err)
		}
	}
	_, copy, made := copied(t)
	if _, _, err := queue.Restore(dir, copy, boltkv.AsideDamaged, content); err != nil {
		t.Fatal(err)
	}
	if q := opened(t, dir, queue.Options{}); q.ID() != made.ID || len(q.Warnings()) > 0 {
		t.Errorf("warnings %q", q.Warnings())
	}
}

func TestAQueueThatDiedOfWhatIsGoneIsOpenedWithAWarning(t *testing.T) {
	dir := filled(t)
	q, store := stored(t, dir, queue.Options{})
	store.Fail("a page that could not be read for once")
	_ = q.Close()
	if q = opened(t, dir, queue.Options{}); !strings.Contains(strings.Join(q.Warnings(), "\n"), "every record was read, and it is not") {
		t.Errorf("warnings %q", q.Warnings())
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q = opened(t, dir, queue.Options{LockWait: time.Minute}); len(q.Warnings()) > 0 {
		t.Errorf("warned again: %q", q.Warnings())
	}
}
