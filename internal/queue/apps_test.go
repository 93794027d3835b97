package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// ends has a run of an app end.
func ends(t *testing.T, q *Queue, id run.ID, name string, s run.Sample, at time.Time) {
	t.Helper()
	add(t, q, id)
	v := run.Verdict{Answer: &run.Answer{Run: id, App: name, Status: run.Completed}, Terminal: true, At: at, Sample: s}
	must(q.Answered(t.Context(), id, v))(t)
}

func took(s float64) run.Sample { return run.Sample{Took: time.Duration(s * float64(time.Second))} }

func TestWhatARunsEndTellsOfItsAppIsKept(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	if s := must(q.Samples("app"))(t); s != nil {
		t.Errorf("%v", s)
	}
	add(t, q, "run-0")
	still := run.Verdict{Answer: &run.Answer{App: "app", Status: run.Running}, Next: noon(), At: noon()}
	must(q.Answered(t.Context(), "run-0", still))(t)
	ends(t, q, "run-1", "app", run.Sample{Took: 61500 * time.Millisecond, Life: 12 * time.Hour}, noon())
	ends(t, q, "run-2", "app", took(59), noon())
	ends(t, q, "run-3", "other", took(7), noon())
	ends(t, q, "run-4", "app", run.Sample{}, noon()) // nothing is known of it
	// Only the first terminal answer counts.
	again := run.Verdict{Answer: &run.Answer{App: "app", Status: run.Completed}, Terminal: true, At: noon(), Sample: took(1)}
	must(q.Answered(t.Context(), "run-2", again))(t)
	want := []run.Sample{{Took: 61500 * time.Millisecond, Life: 12 * time.Hour}, took(59)}
	for range 2 {
		if diff := cmp.Diff(want, must(q.Samples("app"))(t)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]run.Sample{took(7)}, must(q.Samples("other"))(t)); diff != "" {
			t.Error(diff)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = opened(t, dir, Options{ReadOnly: true})
	}
}

func TestWhatIsKeptOfAppsIsBounded(t *testing.T) {
	q := opened(t, quick(t), Options{})
	for i := range samplesMost + 6 {
		ends(t, q, run.ID(fmt.Sprintf("many-%d", i)), "busy", run.Sample{Took: time.Duration(i+1) * time.Second, Life: 100 * time.Hour}, noon().Add(time.Hour))
	}
	s := must(q.Samples("busy"))(t)
	if len(s) != samplesMost || s[0].Took != 7*time.Second || s[samplesMost-1].Took != 70*time.Second {
		t.Errorf("%d samples: %v", len(s), s)
	}
	err := q.update(t.Context(), 1, func(tx *txn) error {
		for i := range appsMost + 5 {
			if err := tx.sample(fmt.Sprintf("app-%04d", i), took(1), noon().Add(time.Duration(i)*time.Second)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	err = q.view(t.Context(), func(tx *txn) error {
		c := tx.tx.Cursor(bMeta)
		for k, v := c.Seek([]byte(keyApp)); strings.HasPrefix(string(k), keyApp); k, v = c.Next() {
			if known++; len(v) > 512 {
				t.Errorf("%s has %d bytes", k, len(v))
			}
		}
		return nil
	})
	if err != nil || known != appsMost {
		t.Errorf("%d apps, %v", known, err)
	}
	for name, want := range map[string]int{"busy": samplesMost, "app-0005": 0, "app-0006": 1, "app-1004": 1} {
		if s := must(q.Samples(name))(t); len(s) != want {
			t.Errorf("%s: %d samples", name, len(s))
		}
	}
}

func TestAnAppsNameIsNoPlaceForASecret(t *testing.T) {
	q := fresh(t)
	name := "https://host/app?token=s3cret"
	ends(t, q, "run-1", name, took(5), noon())
	ends(t, q, "run-2", strings.Repeat("long", 100), took(6), noon())
	if s := must(q.Samples(name))(t); len(s) != 1 || s[0] != took(5) {
		t.Errorf("%v", s)
	}
	if s := must(q.Samples(strings.Repeat("long", 100)))(t); len(s) != 1 || s[0] != took(6) {
		t.Errorf("%v", s)
	}
	err := q.view(t.Context(), func(tx *txn) error {
		return tx.each(bMeta, func(k, _ []byte) error {
			if strings.Contains(string(k), "s3cret") {
				t.Errorf("%s", k)
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWhatIsKeptOfAnAppIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := app{at: rapid.Int64Range(0, 1<<50).Draw(t, "at")}
		for range rapid.IntRange(1, samplesMost).Draw(t, "n") {
			want.samples = append(want.samples, run.Sample{
				Took: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "took")) * time.Millisecond,
				Life: time.Duration(rapid.Int64Range(0, 1<<30).Draw(t, "life")) * time.Second,
			})
		}
		got, err := decodeApp(encodeApp(want))
		if err != nil || !cmp.Equal(want, got, cmp.AllowUnexported(app{})) {
			t.Fatalf("%v, %v", got, err)
		}
		// Whatever the bytes are, reading them ends.
		_, _ = decodeApp(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	})
}

func TestARecordOfAnAppThatCannotBeReadIsDamage(t *testing.T) {
	q := fresh(t)
	err := q.update(t.Context(), 1, func(tx *txn) error { return tx.put(bMeta, appKey("app1"), []byte{9}) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Samples("app1"); !errors.As(err, new(*kv.DamageError)) {
		t.Errorf("%v", err)
	}
	if err := q.Watch(context.Background()); !errors.As(err, new(*kv.DamageError)) {
		t.Errorf("%v", err)
	}
}
