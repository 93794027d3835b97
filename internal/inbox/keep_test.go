package inbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOnlyOldAcceptedFilesAreRemoved(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	b.writeAt("accepted/old.txt", "run1", now.Add(-time.Hour))
	b.writeAt("accepted/read-again.txt", "run2", now.Add(-9*time.Minute)) // it may yet be read again
	b.writeAt("accepted/future.txt", "run2", now.Add(2*time.Hour))
	b.writeAt("rejected/old.txt", "bad", now.Add(-time.Hour))
	b.writeAt("rejected/old.txt.error", "bad", now.Add(-time.Hour))
	b.writeAt("waiting.txt", "run3", now.Add(-time.Hour))
	if err := os.Mkdir(filepath.Join(b.dir, "accepted", "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "theirs")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(b.dir, "accepted", "link")); err != nil {
		t.Fatal(err)
	}
	// Written an hour ago, but moved here just now.
	if n, err := Expire(t.Context(), b.dir, now.Add(-time.Minute)); err != nil || n != 0 {
		t.Errorf("%d removed, %v", n, err)
	}
	if n, err := Expire(t.Context(), b.dir, now.Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("%d removed, %v", n, err)
	}
	b.holds("accepted/future.txt accepted/link accepted/read-again.txt rejected/old.txt rejected/old.txt.error waiting.txt", "")
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestASymlinkInThePlaceOfAcceptedIsNotCleared(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	theirs := filepath.Join(outside, "theirs")
	if err := os.WriteFile(theirs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(theirs, old, old); err != nil {
		t.Fatal(err)
	}
	accepted := filepath.Join(b.dir, "accepted")
	if err := os.Remove(accepted); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, accepted); err != nil {
		t.Fatal(err)
	}
	if n, err := Expire(t.Context(), b.dir, time.Now().Add(time.Hour)); err == nil || n != 0 {
		t.Errorf("%d removed, %v", n, err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}
