package manifest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

// recordOf is the record of a run with n assets as it is written.
func recordOf(t *testing.T, n int) (run.Run, []run.Asset, Record) {
	t.Helper()
	assets, answer := manyAssets("run1", n)
	r := run.Run{ID: "run1", Status: run.Completed, State: run.StoredRun, Outcome: run.OutcomeStored, Revision: 2, Assets: n, Stored: n}
	m := Build(r, assets, answer, 2, time.Unix(0, 0))
	var out, sums strings.Builder
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	if err := m.WriteSums(&sums); err != nil {
		t.Fatal(err)
	}
	return r, assets, Record{Manifest: []byte(out.String()), Sums: []byte(sums.String())}
}

func TestARecordThatWasNotTouchedHasNoFault(t *testing.T) {
	for _, n := range []int{0, 1, 50} {
		r, assets, rec := recordOf(t, n)
		if n == 0 {
			rec.Sums = nil
		}
		if c := Compare(r, assets, rec); len(c.Faults)+len(c.Only) > 0 {
			t.Errorf("%d assets: %+v", n, c)
		}
	}
}

func TestWhatIsWrongWithARecordIsNamed(t *testing.T) {
	edit := func(old, with string) func(*Record) {
		return func(rec *Record) {
			rec.Manifest = []byte(strings.Replace(string(rec.Manifest), old, with, 1))
		}
	}
	for name, c := range map[string]struct {
		spoil func(*Record)
		want  []string
	}{
		"no manifest":   {func(rec *Record) { rec.Manifest = nil }, []string{"manifest.json is missing"}},
		"no sums":       {func(rec *Record) { rec.Sums = nil }, []string{"SHA256SUMS is missing"}},
		"other sums":    {func(rec *Record) { rec.Sums = rec.Sums[1:] }, []string{"SHA256SUMS is not what manifest.json says"}},
		"empty sums":    {func(rec *Record) { rec.Sums = []byte{} }, []string{"SHA256SUMS is not what manifest.json says"}},
		"another run":   {edit(`"run1"`, `"run2"`), []string{`manifest.json is that of run "run2"`}},
		"older":         {edit(`"revision": 2`, `"revision": 1`), []string{"manifest.json has revision 1, 2 was written"}},
		"newer":         {edit(`"revision": 2`, `"revision": 3`), nil},
		"another end":   {edit(`"outcome": "stored"`, `"outcome": "failed"`), []string{`manifest.json says outcome "failed", which is "stored"`}},
		"half of it":    {func(rec *Record) { rec.Manifest = rec.Manifest[:40] }, []string{"manifest.json cannot be read: not a manifest: unexpected end of JSON input"}},
		"another sum":   {edit(`"sha256": "00ff"`, `"sha256": "00fe"`), []string{"manifest.json says of run1/images/a00000 what is not so: it was stored as images/a00000.png, 3 bytes, SHA-256 00ff", "SHA256SUMS is not what manifest.json says"}},
		"another name":  {edit(`"file": "images/a00000.png"`, `"file": "images/b.png"`), []string{"manifest.json says of run1/images/a00000 what is not so: it was stored as images/a00000.png, 3 bytes, SHA-256 00ff", "SHA256SUMS is not what manifest.json says"}},
		"one left out":  {edit(`"file": "images/a00000.png"`, `"file": null`), []string{"manifest.json does not name images/a00000.png", "SHA256SUMS is not what manifest.json says"}},
		"a way outside": {edit(`"file": "images/a00000.png"`, `"file": "../../x"`), []string{"manifest.json does not name images/a00000.png", "SHA256SUMS is not what manifest.json says"}},
	} {
		r, assets, rec := recordOf(t, 2)
		c.spoil(&rec)
		if d := cmp.Diff(c.want, Compare(r, assets, rec).Faults); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestWhatTheManifestAloneNamesIsTold(t *testing.T) {
	r, assets, rec := recordOf(t, 3)
	c := Compare(r, assets[:1], rec)
	want := []run.Adopted{
		{Key: assets[1].Key, Stored: run.Stored{File: "images/a00001.png", Size: 3, SHA256: "00ff"}},
		{Key: assets[2].Key, Stored: run.Stored{File: "images/a00002.png", Size: 3, SHA256: "00ff"}},
	}
	if d := cmp.Diff(want, c.Only); d != "" || len(c.Faults) > 0 {
		t.Error(d, c.Faults)
	}
}

func TestTheFaultsOfARunAreBounded(t *testing.T) {
	r, assets, _ := recordOf(t, 50)
	_, _, rec := recordOf(t, 0)
	if c := Compare(r, assets, rec); len(c.Faults) != mostFaults+1 || c.Faults[mostFaults] != "manifest.json has further faults" {
		t.Errorf("%d: %q", len(c.Faults), c.Faults)
	}
}
