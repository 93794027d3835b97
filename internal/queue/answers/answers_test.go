package answers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func has(t *testing.T, s *Store, id run.ID) bool {
	t.Helper()
	_, ok, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func answerOf(id run.ID, images int) *run.Answer {
	a := &run.Answer{Run: id, Status: run.Completed}
	for i := range images {
		url := fmt.Sprintf("https://cdn.example/%s/%d.png", id, i)
		a.Assets = append(a.Assets, run.Listed{Kind: run.Images, ID: fmt.Sprint(i), URL: url + "?token=SECRET", Source: url})
	}
	return a
}

func TestStore_UnitesAnswersAndFindsThemAgain(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	if has(t, s, "abcd") {
		t.Error("an answer before the first")
	}
	if err := s.Save("abcd", *answerOf("abcd", 2)); err != nil {
		t.Fatal(err)
	}
	second := answerOf("abcd", 1)
	second.Assets[0].URL += "&again"
	if err := s.Save("abcd", *second); err != nil {
		t.Fatal(err)
	}
	want := answerOf("abcd", 2).Unite(*second)
	check := func(s *Store) {
		t.Helper()
		got, ok, err := s.Get("abcd")
		if err != nil || !ok || !cmp.Equal(got, want) {
			t.Errorf("%v, %v: %s", ok, err, cmp.Diff(want, got))
		}
		l, ok, err := s.Listed(run.Key{Run: "abcd", Kind: run.Images, ID: "1"})
		if err != nil || !ok || !cmp.Equal(l, want.Assets[1]) {
			t.Errorf("%+v, %v, %v", l, ok, err)
		}
		if _, ok, _ := s.Listed(run.Key{Run: "abcd", Kind: run.Videos, ID: "1"}); ok {
			t.Error("an asset that was not listed")
		}
	}
	check(s)
	for name, perm := range map[string]fs.FileMode{s.path("abcd"): 0o600, filepath.Dir(s.path("abcd")): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != perm {
			t.Errorf("%v, %v", info, err)
		}
	}
	check(New(dir))
}

func TestStore_ReplacesADamagedAnswer(t *testing.T) {
	whole := func(s *Store) []byte {
		b, _ := os.ReadFile(s.path("abcd"))
		return b
	}
	for name, damage := range map[string]func(*Store) []byte{
		"empty":       func(*Store) []byte { return nil },
		"half":        func(s *Store) []byte { return whole(s)[:50] },
		"garbage":     func(*Store) []byte { return []byte("<html>") },
		"another's":   func(s *Store) []byte { return []byte(strings.Replace(string(whole(s)), `"abcd"`, `"ABCD"`, 1)) },
		"wrong shape": func(*Store) []byte { return []byte(`["abcd"]`) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := New(dir)
			if err := s.Save("abcd", *answerOf("abcd", 2)); err != nil {
				t.Fatal(err)
			}
			b := damage(s)
			if err := os.WriteFile(s.path("abcd"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			s = New(dir)
			if has(t, s, "abcd") {
				t.Error("taken for an answer")
			}
			if err := s.Save("abcd", *answerOf("abcd", 1)); err != nil || !has(t, s, "abcd") {
				t.Errorf("not replaced: %v", err)
			}
		})
	}
}

func TestStore_BoundsItsCache(t *testing.T) {
	s := New(t.TempDir())
	long := strings.Repeat("x", 300<<10)
	for i := range 30 {
		id := run.ID(fmt.Sprintf("run-%02d", i))
		if err := s.Save(id, run.Answer{ErrorMessage: long}); err != nil {
			t.Fatal(err)
		}
		if b := s.bytes; b > cacheBytes {
			t.Fatalf("%d bytes", b)
		}
	}
	if n := s.order.Len(); n != len(s.known) || n < 10 || n > 13 {
		t.Errorf("%d parsed, %d known", n, len(s.known))
	}
	if !has(t, s, "run-00") || !has(t, s, "run-29") {
		t.Error("what is not parsed any more is in its file")
	}
	if err := s.Save("huge", run.Answer{ErrorMessage: strings.Repeat("x", 2*cacheBytes)}); err != nil {
		t.Fatal(err)
	}
	if n := s.order.Len(); n != 1 {
		t.Errorf("%d beside one that is larger than all may be", n)
	}
	for i := range 30 {
		s.Remove(run.ID(fmt.Sprintf("run-%02d", i)))
	}
	s.Remove("huge")
	if s.bytes != 0 || s.order.Len() != 0 || len(s.known) != 0 {
		t.Errorf("%d bytes of %d", s.bytes, s.order.Len())
	}
}

func TestStore_AFileThatHangsHoldsUpNoOtherRun(t *testing.T) {
	s := New(t.TempDir())
	for _, id := range []run.ID{"parsed", "unread"} {
		if err := s.Save(id, *answerOf(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.drop("unread")
	s.mu.Unlock()
	if err := unix.Mkfifo(s.path("slow"), 0o600); err != nil {
		testenv.Missing(t, "named pipes in the temporary directory: "+err.Error())
	}
	read := make(chan error, 1)
	go func() {
		_, _, err := s.Get("slow")
		read <- err
	}()
	disk, err := os.OpenFile(s.path("slow"), os.O_WRONLY, 0) // waits until it is being read
	if err != nil {
		t.Fatal(err)
	}
	others := make(chan struct{})
	go func() {
		defer close(others)
		for _, id := range []run.ID{"parsed", "unread"} {
			if _, ok, err := s.Get(id); !ok || err != nil {
				t.Errorf("%s: %v, %v", id, ok, err)
			}
		}
		if err := s.Save("another", *answerOf("another", 1)); err != nil {
			t.Error(err)
		}
		s.Remove("parsed")
	}()
	select {
	case <-others:
	case <-time.After(10 * time.Second):
		t.Error("another run's answer waits for a file that hangs")
	}
	if err := errors.Join(disk.Close(), <-read); err != nil {
		t.Error(err)
	}
	<-others
}

func TestStore_WritesNothingOutsideOfItsDirectory(t *testing.T) {
	s := New(t.TempDir())
	for _, id := range []run.ID{"", "../queue", "a/../../b", ".", "..", "abc", "nul\x00l", run.ID(strings.Repeat("x", 65))} {
		if err := s.Save(id, run.Answer{}); err == nil {
			t.Errorf("%s: written", id)
		}
		if _, ok, err := s.Get(id); ok || err != nil {
			t.Errorf("%s: %v, %v", id, ok, err)
		}
	}
}

// counter counts what is written, and how much at most at a time.
type counter struct{ bytes, largest int }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	c.largest = max(c.largest, len(p))
	return len(p), nil
}

func TestStore_WritesALargeAnswerInPieces(t *testing.T) {
	var c counter
	if err := New(t.TempDir()).encode(&c, *answerOf("abcd", 5000)); err != nil {
		t.Fatal(err)
	}
	if c.largest > 64<<10 || c.bytes < 5*c.largest {
		t.Errorf("%d bytes, %d of them at a time", c.bytes, c.largest)
	}
}
