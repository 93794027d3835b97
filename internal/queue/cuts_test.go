package queue

import (
	"testing"
	"time"
)

func TestHostsThatCutAreKnownAfterARestart(t *testing.T) {
	dir := t.TempDir()
	open := func() *Queue {
		q, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	at := time.UnixMilli(1_790_000_000_123)
	q := open()
	for host, seen := range map[string]time.Time{"cdn.test": at, "gone.test": at} {
		if err := q.Cuts(t.Context(), host, seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Cuts(t.Context(), "gone.test", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open()
	defer q.Close()
	cuts, err := q.Cutters(t.Context())
	if err != nil || len(cuts) != 1 || !cuts["cdn.test"].Equal(at) {
		t.Errorf("%v, %v", cuts, err)
	}
}
