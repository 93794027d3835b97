package dropfile

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) run.ID { return run.ID(rapid.StringMatching(`[A-Za-z0-9_-]{4,64}`).Draw(t, "id")) })
		labels := rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOfN(rapid.StringN(1, 20, run.MaxLabelName), rapid.StringN(0, 40, run.MaxLabelValue), 1, 5))
		var ids []run.HandIn
		for _, id := range rapid.SliceOfNDistinct(id, 1, 20, rapid.ID).Draw(t, "ids") {
			ids = append(ids, run.HandIn{ID: id, Labels: labels.Draw(t, "labels")})
		}
		paths, err := Write(dir, ids)
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		path := paths[0]
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
	paths, err := Write(t.TempDir(), []run.HandIn{{ID: "run1"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(paths[0])
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestWriteRefusesWhatWouldBeRejected(t *testing.T) {
	dir := t.TempDir()
	for name, ids := range map[string][]run.HandIn{
		"none":   nil,
		"bad ID": {{ID: "run1"}, {ID: "../../x"}},
		"label":  {{ID: "run1", Labels: map[string]string{"": "x"}}},
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

func TestMoreThanOneFileMayHoldGoesIntoSeveral(t *testing.T) {
	big := map[string]string{}
	for i := range 16 { // nearly the largest line that there can be
		big[fmt.Sprintf("%03d", i)] = strings.Repeat("\x01", run.MaxLabelValue-3)
	}
	var many, large []run.HandIn
	for i := range 2*MaxIDs + 1 {
		many = append(many, run.HandIn{ID: run.ID(fmt.Sprintf("run%06d", i))})
	}
	for i := range 100 {
		large = append(large, run.HandIn{ID: run.ID(fmt.Sprintf("run%06d", i)), Labels: big})
	}
	for name, c := range map[string]struct {
		ids   []run.HandIn
		files int
	}{"many": {many, 3}, "large": {large, 3}, "just one": {many[:MaxIDs], 1}} {
		dir := t.TempDir()
		paths, err := Write(dir, c.ids)
		if err != nil || len(paths) != c.files {
			t.Errorf("%s: %d files, %v", name, len(paths), err)
		}
		var got []run.HandIn
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := Parse(path, data)
			if !r.OK() {
				t.Errorf("%s: %v", name, r.Faults)
			}
			got = append(got, r.HandIns...)
		}
		same := func(a, b run.HandIn) bool { return a.ID == b.ID && maps.Equal(a.Labels, b.Labels) }
		if !slices.EqualFunc(c.ids, got, same) { // cmp.Diff takes its time for so many
			t.Errorf("%s: %d IDs came back as %d others", name, len(c.ids), len(got))
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != c.files {
			t.Errorf("%s: %v %v", name, all, err)
		}
	}
}

// What root hands in by hand must be readable for a daemon of another user.
func TestAFileOfRootBelongsToTheDirectorysOwnerAndGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root,")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	paths, err := Write(dir, []run.HandIn{{ID: "run1"}})
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(paths[0], &st); err != nil || st.Uid != 65534 || st.Gid != 65533 || st.Mode&0o777 != 0o640 {
		t.Errorf("%d:%d %o %v", st.Uid, st.Gid, st.Mode, err)
	}
}
