package boltkv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// unsealed makes a queue's file what a version without checksums made; the first of
// these had no outbox either.
func unsealed(t *testing.T, dir string, outbox bool) {
	t.Helper()
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		notices := uint64(0)
		for b := range buckets {
			sealed := map[string][]byte{}
			err := tx.Bucket(name(b)).ForEach(func(k, v []byte) error {
				sealed[string(k)] = bytes.Clone(v)
				return nil
			})
			if err != nil {
				return err
			}
			for _, k := range slices.Sorted(maps.Keys(sealed)) {
				value, ok := boltkv.Unseal(b, []byte(k), sealed[k])
				switch {
				case b == bMeta && k == keySchema:
					value = []byte(queue.Format().Unsealed)
				case !ok:
					return fmt.Errorf("%s %q has no checksum", name(b), k)
				case b == bMeta && k == keyCounts:
					notices = binary.BigEndian.Uint64(value[1+8*beforeNotices:])
					value = value[:1+8*firstStates]
				}
				if err := tx.Bucket(name(b)).Put([]byte(k), value); err != nil {
					return err
				}
			}
		}
		if !outbox {
			return tx.DeleteBucket(name(bOutbox))
		}
		return tx.Bucket(name(bOutbox)).SetSequence(notices)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// contents is all that a person or a stage can see of a queue, as text.
func contents(q *queue.Queue) (string, error) {
	var b strings.Builder
	add := func(v any, err error) error {
		if err != nil {
			return err
		}
		text, err := json.Marshal(v)
		b.Write(append(text, '\n'))
		return err
	}
	ctx := context.Background()
	runs, err := q.List(ctx, "", "", 1000)
	if err := add(runs, err); err != nil {
		return "", err
	}
	for _, r := range runs {
		assets, err := q.Assets(ctx, r.ID)
		if err := add(assets, err); err != nil {
			return "", err
		}
	}
	due, next, err := q.Due(ctx, noon().AddDate(1, 0, 0), run.Turns{}, 1000)
	if err := errors.Join(add(due, err), add(next, nil)); err != nil {
		return "", err
	}
	waiting, _, err := q.Waiting(ctx, "", 1000)
	if err := add(waiting, err); err != nil {
		return "", err
	}
	counts, err := q.Counts(ctx)
	if err := add(counts, err); err != nil {
		return "", err
	}
	for _, hook := range []run.Hooks{run.URLHook, run.CommandHook} {
		notices, err := q.Outbox(ctx, hook, 0, 1000)
		if err := add(notices, err); err != nil {
			return "", err
		}
	}
	uses, err := q.UsesVolume("/volume")
	if err := add(uses, err); err != nil {
		return "", err
	}
	return b.String(), nil
}

// full is a closed queue with something in every bucket.
func full(t *testing.T) (dir, content string) {
	t.Helper()
	dir = filled(t)
	q := opened(t, dir, queue.Options{Now: noon})
	q.SetHooks(run.URLHook | run.CommandHook)
	ctx := t.Context()
	for i := range 20 {
		kind := []run.NoticeKind{run.VolumeGone, run.VolumeOnline}[i%2]
		if err := q.Post(ctx, run.Notice{Kind: kind, At: noon(), Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(q.UseVolume(ctx, "/volume"), q.Prove(ctx, "proof")); err != nil {
		t.Fatal(err)
	}
	content = must(contents(q))(t)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, content
}

// Every bit that changes in a page in use is detected and named, or changes nothing
// that can be seen.
func TestCase_G10_NoBitChangesWhatTheQueueSaysInSilence(t *testing.T) {
	dir, want := full(t)
	sound := inUse(t, dir)
	used, size, err := boltkv.UsedPages(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	detected := 0
	for seed := range uint64(900) {
		r := rand.New(rand.NewPCG(seed, 10))
		at, bit := used[r.IntN(len(used))]*size+r.IntN(size), r.IntN(8)
		if seed%3 == 0 { // headers and elements are few, and say where everything is
			at = at/size*size + r.IntN(256)
		}
		b := bytes.Clone(sound)
		b[at] ^= 1 << bit
		if err := os.WriteFile(boltkv.Path(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := "", error(nil)
		q, err := queue.Open(dir, queue.Options{Now: noon, ReadOnly: seed%2 == 0})
		if err == nil {
			got, err = contents(q)
			_ = q.Close()
		}
		_ = os.Remove(boltkv.SuspectPath(dir))
		switch {
		case err != nil && !errors.As(err, new(*kv.DamageError)):
			t.Errorf("bit %d of byte %#x: %v", bit, at, err)
		case err != nil:
			detected++
		case got != want:
			t.Errorf("bit %d of byte %#x (page %d, byte %#x of it) changed in silence what the queue says", bit, at, at/size, at%size)
		}
	}
	if detected < 300 {
		t.Errorf("%d of 900 changes were detected: were they made where the queue is?", detected)
	}
}

func TestCase_G10_TheDamagedRecordIsNamed(t *testing.T) {
	for _, c := range []struct {
		b    kv.Bucket
		key  string
		want string // in the message
	}{
		{bRuns, "run-001", `run entry "run-001"`},
		{bAssets, "run-001/", `asset entry "run-001/images/`},
		{bMeta, keyCounts, `meta entry "counts"`},
		{bMeta, keyID, `meta entry "id"`},
		{bMeta, keyService, `meta entry "service"`},
		{bMeta, keyVolume + "/volume", `meta entry "volume//volume"`},
		{bOutbox, string(binary.BigEndian.AppendUint64(nil, 3)), "outbox entry"},
	} {
		t.Run(string(name(c.b))+" "+c.key, func(t *testing.T) {
			dir, _ := full(t)
			damage(t, dir, c.b, c.key)
			_, err := queue.Open(dir, queue.Options{})
			if !errors.As(err, new(*kv.DamageError)) {
				t.Fatalf("%v", err)
			}
			for _, want := range []string{c.want, "checksum", boltkv.Path(dir), "assetd restore"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: no %s", err, want)
				}
			}
		})
	}
}

// damage changes one bit of a value; of the first one where there is no such key.
func damage(t *testing.T, dir string, b kv.Bucket, key string) {
	t.Helper()
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		k, v := tx.Bucket(name(b)).Cursor().Seek([]byte(key))
		v = bytes.Clone(v)
		v[len(v)/2] ^= 4
		return tx.Bucket(name(b)).Put(bytes.Clone(k), v)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Damage that comes while the queue is open is found by whoever reads the record.
func TestCase_G10_DamageWhileTheQueueIsOpenIsFoundByReading(t *testing.T) {
	dir, _ := full(t)
	q := opened(t, dir, queue.Options{})
	db, err := os.OpenFile(boltkv.Path(dir), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := inUse(t, dir)
	label := []byte(strings.Repeat("7", 100))
	for at := 0; ; { // every copy of the labels, in pages in use or not
		n := bytes.Index(b[at:], label)
		if n < 0 {
			break
		}
		if at += n; true {
			if _, err := db.WriteAt([]byte("8"), int64(at+50)); err != nil {
				t.Fatal(err)
			}
		}
		at += len(label)
	}
	if _, err := q.Get(t.Context(), "run-007"); !errors.As(err, new(*kv.DamageError)) || !strings.Contains(err.Error(), `"run-007"`) {
		t.Errorf("%v", err)
	}
	if _, err := q.Add(t.Context(), []run.HandIn{{ID: "another"}}); err == nil {
		t.Error("a damaged queue goes on")
	}
}

// Entries that vanish with a number in a page's header are missed.
func TestCase_G10_EntriesThatAreGoneAreMissed(t *testing.T) {
	for b := range buckets {
		dir, _ := full(t)
		db, err := bolt.Open(boltkv.Path(dir), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		gone := false
		err = db.Update(func(tx *bolt.Tx) error {
			k, _ := tx.Bucket(name(b)).Cursor().Last()
			if b == bMeta {
				k = []byte(keyProof + "proof")
			}
			if gone = k != nil; gone {
				return tx.Bucket(name(b)).Delete(bytes.Clone(k))
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if !gone {
			continue
		}
		if _, err := queue.Open(dir, queue.Options{}); !errors.As(err, new(*kv.DamageError)) || !strings.Contains(err.Error(), "entries") {
			t.Errorf("%s: %v", name(b), err)
		}
	}
}

func TestQueue_AFileWithoutChecksumsIsMigrated(t *testing.T) {
	dir, want := full(t)
	unsealed(t, dir, true)
	ro := opened(t, dir, queue.Options{ReadOnly: true, Now: noon})
	if got := must(contents(ro))(t); got != want {
		t.Errorf("read only: %s\nwant %s", got, want)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Verify(boltkv.Path(dir)); err != nil {
		t.Errorf("a copy of it: %v", err)
	}
	q := opened(t, dir, queue.Options{Now: noon})
	if got := must(contents(q))(t); got != want {
		t.Errorf("migrated: %s\nwant %s", got, want)
	}
	if err := q.Audit(context.Background()); err != nil {
		t.Error(err)
	}
	q.SetHooks(run.URLHook)
	if err := q.Post(t.Context(), run.Notice{Kind: run.VolumeGone, At: noon()}); err != nil {
		t.Fatal(err)
	}
	notices := must(q.Outbox(t.Context(), run.URLHook, 0, 100))(t)
	if last := notices[len(notices)-1]; last.Seq != 21 || len(notices) != 21 {
		t.Errorf("%d notices, the last at %d", len(notices), last.Seq)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, dir, bRuns, "run-001")
	if _, err := queue.Open(dir, queue.Options{}); !errors.As(err, new(*kv.DamageError)) {
		t.Errorf("migrated without checksums: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A file of the last version, which counted fewer states, is read as it is.
func TestQueue_AFileThatCountsFewerStatesIsRead(t *testing.T) {
	dir, want := full(t)
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, key := tx.Bucket(name(bMeta)), []byte(keyCounts)
		value, _ := boltkv.Unseal(bMeta, key, meta.Get(key))
		return meta.Put(key, boltkv.Seal(bMeta, key, value[:len(value)-8]))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	q := opened(t, dir, queue.Options{Now: noon})
	defer q.Close()
	if got := must(contents(q))(t); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestCase_E7_DamageThatAnEarlierVersionMarkedIsCounted(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, queue.Options{})
	keys := settledRun(t, q, "aaaa")
	if err := q.Mark(t.Context(), "aaaa", 1, []run.Finding{{Key: keys[0], Damage: "missing"}}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(boltkv.Path(dir), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(name(bMeta)).Delete([]byte(keyDamaged + "aaaa")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	unsealed(t, dir, true)
	q = opened(t, dir, queue.Options{})
	if f := must(q.Figures(t.Context()))(t); f.DamagedFiles != 1 || f.DamagedRuns != 1 {
		t.Errorf("%d files of %d runs, want one of one", f.DamagedFiles, f.DamagedRuns)
	}
}
