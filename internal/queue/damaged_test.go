package queue

import (
	"context"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// What verify marks is counted at once, whatever becomes of it afterwards.
func TestCase_E7_FiguresCountDamagedFilesAndRuns(t *testing.T) {
	q := fresh(t)
	a, b := settledRun(t, q, "aaaa"), settledRun(t, q, "bbbb")
	settledRun(t, q, "cccc")
	mark := func(id run.ID, damage string, keys ...run.Key) func() error {
		return func() error {
			var found []run.Finding
			for _, k := range keys {
				found = append(found, run.Finding{Key: k, Damage: damage})
			}
			return q.Mark(t.Context(), id, 1, found)
		}
	}
	record := func(id run.ID) run.Key { return run.Key{Run: id} }
	for _, step := range []struct {
		name        string
		do          func() error
		files, runs int
	}{
		{"nothing", func() error { return nil }, 0, 0},
		{"one file", mark("aaaa", "missing", a[0]), 1, 1},
		{"the same file once more", mark("aaaa", "other bytes", a[0]), 1, 1},
		{"another file of it", mark("aaaa", "missing", a[1]), 2, 1},
		{"and its record", mark("aaaa", "manifest.json is missing", record("aaaa")), 3, 1},
		{"another run", mark("bbbb", "missing", b[0], b[1]), 5, 2},
		{"a record alone", mark("cccc", "SHA256SUMS is missing", record("cccc")), 6, 3},
		{"found whole again", mark("bbbb", "", b[0]), 5, 3},
		{"tried again", func() error { return q.Retry(t.Context(), "aaaa", nil) }, 2, 2},
		{"removed", func() error { return q.Remove(t.Context(), "bbbb", false) }, 1, 1},
		{"the record, too", mark("cccc", "", record("cccc")), 0, 0},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		f := must(q.Figures(t.Context()))(t)
		if f.DamagedFiles != step.files || f.DamagedRuns != step.runs {
			t.Errorf("%s: %d files of %d runs, want %d of %d", step.name, f.DamagedFiles, f.DamagedRuns, step.files, step.runs)
		}
		if err := q.Audit(context.Background()); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}
