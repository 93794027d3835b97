package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/assetd/assetd/internal/queue/kv"
)

// first and second are buckets of every engine.
const (
	first  = kv.Bucket(1)
	second = kv.Bucket(2)
)

func update(t *testing.T, s kv.Store, change func(kv.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// put sets values that are equal to their keys.
func put(tx kv.Tx, b kv.Bucket, keys ...string) error {
	for _, k := range keys {
		if _, err := tx.Put(b, []byte(k), []byte(k)); err != nil {
			return err
		}
	}
	return nil
}

// keys are all keys of a bucket, each of which has to have its value.
func keys(t *testing.T, tx kv.Tx, b kv.Bucket) (all []string) {
	t.Helper()
	c := tx.Cursor(b)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if string(v) != string(k) || string(tx.Get(b, k)) != string(k) {
			t.Errorf("%q has the value %q, read %q", k, v, tx.Get(b, k))
		}
		all = append(all, string(k))
	}
	return all
}

func holds(t *testing.T, s kv.Store, b kv.Bucket, want ...string) {
	t.Helper()
	err := s.View(t.Context(), func(tx kv.Tx) error {
		if got := keys(t, tx, b); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func opened(t *testing.T, engine Engine, dir string) kv.Store {
	t.Helper()
	s := engine(t, dir)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func cursors(t *testing.T, engine Engine) {
	s := opened(t, engine, t.TempDir())
	update(t, s, func(tx kv.Tx) error {
		if err := put(tx, first, "b", "\x00", "a", "ab", "\xff", "d"); err != nil {
			return err
		}
		if deleted, err := tx.Delete(first, []byte("d")); !deleted || err != nil {
			t.Errorf("deleted %v, %v", deleted, err)
		}
		if deleted, err := tx.Delete(first, []byte("d")); deleted || err != nil {
			t.Errorf("deleted twice: %v, %v", deleted, err)
		}
		if added, err := tx.Put(first, []byte("b"), []byte("b")); added || err != nil {
			t.Errorf("added twice: %v, %v", added, err)
		}
		if got := keys(t, tx, first); !slices.Equal(got, []string{"\x00", "a", "ab", "b", "\xff"}) {
			t.Errorf("own writes: %q", got)
		}
		return nil
	})
	holds(t, s, first, "\x00", "a", "ab", "b", "\xff")
	holds(t, s, second)
	err := s.View(t.Context(), func(tx kv.Tx) error {
		c := tx.Cursor(first)
		for from, want := range map[string]string{"": "\x00", "a": "a", "aa": "ab", "b\x00": "\xff", "\xff\x00": ""} {
			if k, _ := c.Seek([]byte(from)); string(k) != want {
				t.Errorf("from %q: %q", from, k)
			}
		}
		var back []string
		for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
			back = append(back, string(k))
		}
		if !slices.Equal(back, []string{"\xff", "b", "ab", "a", "\x00"}) {
			t.Errorf("backwards: %q", back)
		}
		if tx.Get(first, []byte("c")) != nil || tx.Get(second, []byte("a")) != nil {
			t.Error("a value of no key")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func parts(t *testing.T, engine Engine) {
	s := opened(t, engine, t.TempDir())
	no := errors.New("no")
	update(t, s, func(tx kv.Tx) error { return put(tx, first, "kept", "old") })
	update(t, s, func(tx kv.Tx) error {
		err := tx.Try(func() error { return put(tx, first, "before") })
		refused := tx.Try(func() error {
			if _, err := tx.Put(first, []byte("old"), []byte("new")); err != nil {
				return err
			}
			if _, err := tx.Delete(first, []byte("kept")); err != nil {
				return err
			}
			inner := tx.Try(func() error { return put(tx, second, "inner") })
			return errors.Join(inner, put(tx, first, "never"), no)
		})
		if !errors.Is(refused, no) {
			t.Errorf("%v", refused)
		}
		return errors.Join(err, tx.Try(func() error { return put(tx, first, "after") }))
	})
	holds(t, s, first, "after", "before", "kept", "old")
	holds(t, s, second)
}

func transactions(t *testing.T, engine Engine) {
	s := opened(t, engine, t.TempDir())
	no := errors.New("no")
	update(t, s, func(tx kv.Tx) error { return put(tx, first, "a") })
	if err := s.Update(t.Context(), func(tx kv.Tx) error { return errors.Join(put(tx, first, "b"), no) }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if err := s.View(t.Context(), func(kv.Tx) error { return no }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	holds(t, s, first, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(kv.Tx) error { t.Error("run for nobody"); return nil }
	if err := errors.Join(s.View(ctx, never), s.Update(ctx, never)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func snapshots(t *testing.T, engine Engine) {
	s := opened(t, engine, t.TempDir())
	update(t, s, func(tx kv.Tx) error { return put(tx, first, "a") })
	err := s.View(t.Context(), func(tx kv.Tx) error {
		update(t, s, func(tx kv.Tx) error { return put(tx, first, "b") })
		if got := keys(t, tx, first); !slices.Equal(got, []string{"a"}) {
			t.Errorf("a view sees %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	holds(t, s, first, "a", "b")
}

func durability(t *testing.T, engine Engine) {
	dir := t.TempDir()
	var want []string
	for round := range 3 {
		s := opened(t, engine, dir)
		holds(t, s, first, want...)
		for i := range 100 {
			k := fmt.Sprintf("%d-%02d", round, i)
			update(t, s, func(tx kv.Tx) error { return put(tx, first, k) })
			want = append(want, k)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func failures(t *testing.T, engine Engine) {
	dir := t.TempDir()
	for _, use := range []func(s kv.Store, f func(kv.Tx) error) error{
		func(s kv.Store, f func(kv.Tx) error) error { return s.View(t.Context(), f) },
		func(s kv.Store, f func(kv.Tx) error) error { return s.Update(t.Context(), f) },
	} {
		s := opened(t, engine, dir)
		damage := (*kv.DamageError)(nil)
		err := use(s, func(kv.Tx) error { return kv.Damaged("it is garbage", nil) })
		if !errors.As(err, &damage) || damage.File != s.Name() {
			t.Errorf("%v", err)
		}
		select {
		case <-s.Failed():
		default:
			t.Error("it has not failed")
		}
		if got := s.View(t.Context(), func(kv.Tx) error { return nil }); got == nil || got.Error() != err.Error() || s.Err() == nil {
			t.Errorf("afterwards: %v", got)
		}
		_ = s.Close()
	}
}

func closing(t *testing.T, engine Engine) {
	s := opened(t, engine, t.TempDir())
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	never := func(kv.Tx) error { t.Error("run after the end"); return nil }
	if err := s.View(t.Context(), never); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Update(t.Context(), never); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("%v", err)
	}
}
