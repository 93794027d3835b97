package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// writeCounter counts the writes, each of which is a system call where it is a file.
type writeCounter struct {
	bytes.Buffer
	writes int
}

func (w *writeCounter) Write(p []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(p)
}

func TestAListIsWrittenManyRowsAtATime(t *testing.T) {
	const runs = 2500
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(state, queue.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	var ids []run.HandIn
	for i := range runs {
		ids = append(ids, run.HandIn{ID: run.ID(fmt.Sprintf("run%05d", i))})
	}
	if _, err := q.Add(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}} {
		var out, messages writeCounter
		code := execute(t.Context(), append(args, "--config", os.DevNull, "--set", "data_dir="+dir), system{
			getenv: func(string) (string, bool) { return "", false }, environ: func() []string { return nil },
			stdout: &out, stderr: &messages,
		})
		if rows := bytes.Count(out.Bytes(), []byte("run0")); code != 0 || rows < runs {
			t.Fatalf("%v: exit %d, %d of %d rows\n%s", args, code, rows, runs, messages.String())
		}
		if most := out.Len()/(32<<10) + 1; out.writes > most {
			t.Errorf("%v: %d writes for %d bytes, want at most %d", args, out.writes, out.Len(), most)
		}
	}
}

func TestTheFirstOfAnOrderAreThoseOfTheWholeSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []server.Run
		for i := range rapid.IntRange(0, 40).Draw(t, "runs") {
			r := server.Run{
				RunID: run.ID(fmt.Sprintf("run%05d", i)), State: run.State(rapid.SampledFrom(states()).Draw(t, "state")),
				Bytes: rapid.Int64Range(0, 3).Draw(t, "bytes"), Lost: rapid.IntRange(0, 2).Draw(t, "lost"),
				HandedIn: time.Unix(rapid.Int64Range(0, 5).Draw(t, "handed in"), 0),
			}
			if rapid.Bool().Draw(t, "dies") {
				dies := time.Unix(rapid.Int64Range(0, 5).Draw(t, "when"), 0)
				r.DiesAt = &dies
			}
			all = append(all, r)
		}
		order, reverse := rapid.SampledFrom(orders()).Draw(t, "order"), rapid.Bool().Draw(t, "reverse")
		limit := rapid.IntRange(1, 45).Draw(t, "limit")
		whole, some := newTop(order, reverse, 0), newTop(order, reverse, limit)
		for _, r := range all {
			whole.add(r)
			some.add(r)
		}
		want := whole.sorted()
		if diff := cmp.Diff(want[:min(limit, len(want))], some.sorted(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("the first %d (-want +got):\n%s", limit, diff)
		}
	})
}

func TestWhatDiesFirstComesFirstAndWhatDoesNotLast(t *testing.T) {
	soon, late := time.Unix(1, 0), time.Unix(2, 0)
	top := newTop(orderExpiry, false, 0)
	for _, r := range []server.Run{{RunID: "none"}, {RunID: "late", DiesAt: &late}, {RunID: "soon", DiesAt: &soon}} {
		top.add(r)
	}
	var got []run.ID
	for _, r := range top.sorted() {
		got = append(got, r.RunID)
	}
	if diff := cmp.Diff([]run.ID{"soon", "late", "none"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMomentsAreWrittenAsPeopleDo(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"":                     {},
		"90m":                  now.Add(-90 * time.Minute),
		"7d":                   now.AddDate(0, 0, -7),
		"2026-02-24":           time.Date(2026, 2, 24, 0, 0, 0, 0, zone),
		"2026-02-24 08:30":     time.Date(2026, 2, 24, 8, 30, 0, 0, zone),
		"2026-02-24 08:30:15":  time.Date(2026, 2, 24, 8, 30, 15, 0, zone),
		"2026-02-24T08:30:15Z": time.Date(2026, 2, 24, 8, 30, 15, 0, time.UTC),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"-5m", "-1d", "xd", "soon", "24.2.2026"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
}

func TestANarrowTableHasNoWholeDates(t *testing.T) {
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, time.Local)
	dies := now.Add(90 * time.Minute)
	r := server.Run{RunID: "omps2OH829", State: run.Downloading, HandedIn: now.Add(-3 * time.Hour), DiesAt: &dies}
	for width, want := range map[int]string{80: "3h ago", 160: "2026-02-25 09:00:00", 0: "2026-02-25 09:00:00"} {
		var out bytes.Buffer
		table := newTableRows(&out, width, now)
		if err := errors.Join(table.row(r), table.end()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "in 90m") {
			t.Errorf("%d characters: want %q and in 90m in\n%s", width, want, out.String())
		}
	}
}
