package dropfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) run.ID { return run.ID(rapid.StringMatching(`[A-Za-z0-9_-]{4,64}`).Draw(t, "id")) })
		labels := rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOfN(rapid.StringN(1, 20, MaxLabelName), rapid.StringN(0, 40, MaxLabelValue), 1, 5))
		var ids []run.HandIn
		for _, id := range rapid.SliceOfNDistinct(id, 1, 20, rapid.ID).Draw(t, "ids") {
			ids = append(ids, run.HandIn{ID: id, Labels: labels.Draw(t, "labels")})
		}
		path, err := Write(dir, ids)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := Parse(filepath.Base(path), data)
		if diff := cmp.Diff(Result{HandIns: ids}, r); diff != "" {
			t.Fatal(diff)
		}
		if Pending(filepath.Base(path)) {
			t.Fatalf("%s is never taken", path)
		}
	})
	names, err := os.ReadDir(dir)
	if err != nil || len(names) < 100 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		if strings.HasPrefix(name.Name(), ".") {
			t.Errorf("%s was left behind", name.Name())
		}
	}
}

func TestWrittenFilesAreReadableForTheGroupWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path, err := Write(t.TempDir(), []run.HandIn{{ID: "run1"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestWriteRefusesWhatWouldBeRejected(t *testing.T) {
	dir := t.TempDir()
	big := map[string]string{"a": strings.Repeat("v", MaxLabelValue)}
	many := make([]run.HandIn, 5000)
	for i := range many {
		many[i] = run.HandIn{ID: "run1", Labels: big}
	}
	for name, ids := range map[string][]run.HandIn{
		"none":      nil,
		"bad ID":    {{ID: "../../x"}},
		"too many":  make([]run.HandIn, MaxIDs+1),
		"too large": many,
		"label":     {{ID: "run1", Labels: map[string]string{"": "x"}}},
	} {
		if path, err := Write(dir, ids); err == nil {
			t.Errorf("%s: wrote %s", name, path)
		}
	}
	_, err := Write(filepath.Join(dir, "missing"), []run.HandIn{{ID: "run1"}})
	if err == nil || !strings.Contains(err.Error(), "drop.dir") {
		t.Errorf("missing directory: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v %v", names, err)
	}
}
