package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

func records(dir string, version int) run.Records {
	return run.Records{Dir: dir, Files: []run.Record{
		{Name: "SHA256SUMS", Write: writes(fmt.Sprintf("sums %d", version))},
		{Name: "manifest.json", Write: writes(fmt.Sprintf("manifest %d", version))},
	}}
}

// written is what stands in a record.
func written(r run.Record) string {
	var text strings.Builder
	_ = r.Write(&text) // never fails
	return text.String()
}

// writes writes a text.
func writes(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

func TestRecordsAreWrittenReplacedAndRead(t *testing.T) {
	for _, runs := range []int{1, 3, 20} {
		r := newRig(t, func(c *Config) { c.MinFree = 1 << 60 }) // does not stop records
		for version := range 2 {
			var batch []run.Records
			for i := range runs {
				batch = append(batch, records(fmt.Sprintf("app/run%d", i), version))
			}
			errs, err := r.WriteRecords(t.Context(), batch)
			must(t, err)
			must(t, errors.Join(errs...))
			for i := range runs {
				data, err := r.ReadRecord(t.Context(), fmt.Sprintf("app/run%d", i), "manifest.json")
				if err != nil || string(data) != fmt.Sprint("manifest ", version) {
					t.Errorf("run %d: %q, %v", i, data, err)
				}
			}
		}
		if n := len(r.tree()); n != 2*runs {
			t.Errorf("%d files for %d runs", n, runs)
		}
	}
}

func TestAManifestAppearsOnlyAfterTheSumsAreDurable(t *testing.T) {
	for _, runs := range []int{1, 20} {
		r := newRig(t)
		var mu sync.Mutex
		var steps []string
		step := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			if len(steps) == 0 || steps[len(steps)-1] != s {
				steps = append(steps, s)
			}
		}
		rename, syncDir, syncFS, sync := r.sys.rename, r.sys.syncDir, r.sys.syncFS, r.sys.sync
		r.sys.rename = func(root *os.Root, from, to string) error { step("rename " + to); return rename(root, from, to) }
		r.sys.syncDir = func(f *os.File) error { step("sync"); return syncDir(f) }
		r.sys.syncFS = func(f *os.File) error { step("sync"); return syncFS(f) }
		r.sys.sync = func(f *os.File) error { step("sync"); return sync(f) }
		var batch []run.Records
		for i := range runs {
			batch = append(batch, records(fmt.Sprintf("app/run%d", i), 0))
		}
		errs, err := r.WriteRecords(t.Context(), batch)
		must(t, errors.Join(append(errs, err)...))
		if want := []string{"sync", "rename SHA256SUMS", "sync", "rename manifest.json", "sync"}; !slices.Equal(steps, want) {
			t.Errorf("%d runs: steps %q", runs, steps)
		}
	}
}

func TestOneRunsBadRecordsFailAlone(t *testing.T) {
	for _, runs := range []int{3, 20} {
		for name, plant := range map[string]func(dir string) error{
			"manifest is a directory": func(d string) error { return os.MkdirAll(filepath.Join(d, "manifest.json"), 0o755) },
			"manifest is a link":      func(d string) error { return os.Symlink("../../precious", filepath.Join(d, "manifest.json")) },
			"manifest is a FIFO":      func(d string) error { return unix.Mkfifo(filepath.Join(d, "manifest.json"), 0o644) },
			"the run's directory is a link": func(d string) error {
				return errors.Join(os.Remove(d), os.Symlink("..", d))
			},
			"the run's directory is a file": func(d string) error {
				return errors.Join(os.Remove(d), os.WriteFile(d, nil, 0o644))
			},
		} {
			r := newRig(t)
			plantFile(t, filepath.Join(r.dir, "precious"), "precious")
			bad := filepath.Join(r.dir, "app/run1")
			must(t, os.MkdirAll(bad, 0o755))
			must(t, plant(bad))
			var batch []run.Records
			for i := range runs {
				batch = append(batch, records(fmt.Sprintf("app/run%d", i), 0))
			}
			errs, err := r.WriteRecords(t.Context(), batch)
			must(t, err)
			for i, err := range errs {
				if (err != nil) != (i == 1) {
					t.Errorf("%s: run %d: %v", name, i, err)
				}
			}
			if r.content("precious") != "precious" {
				t.Errorf("%s: a link's target was written", name)
			}
			for _, file := range r.tree() {
				if strings.HasSuffix(file, tempExt) {
					t.Errorf("%s: %s is left", name, file)
				}
			}
		}
	}
}

func TestAPlantedTemporaryNameIsNotWrittenThrough(t *testing.T) {
	r := newRig(t)
	plantFile(t, filepath.Join(r.dir, "precious"), "precious")
	must(t, os.MkdirAll(filepath.Join(r.dir, "app/run1"), 0o755))
	must(t, os.Symlink("../../precious", filepath.Join(r.dir, "app/run1", tempName("manifest.json"))))
	errs, err := r.WriteRecords(t.Context(), []run.Records{records("app/run1", 0)})
	must(t, errors.Join(append(errs, err)...))
	if r.content("precious") != "precious" || r.content("app/run1/manifest.json") != "manifest 0" {
		t.Error("the link was followed")
	}
}

func TestReadingRecordsThatAreNotThereOrNoneOfOurs(t *testing.T) {
	r := newRig(t)
	must(t, os.MkdirAll(filepath.Join(r.dir, "app/run1/dir"), 0o755))
	must(t, os.Symlink("/etc/passwd", filepath.Join(r.dir, "app/run1/link")))
	must(t, unix.Mkfifo(filepath.Join(r.dir, "app/run1/fifo"), 0o644))
	for _, c := range []struct {
		dir, name string
		notExist  bool
	}{
		{"app/none", "manifest.json", true},
		{"app/run1", "manifest.json", true},
		{"app/run1", "dir", false},
		{"app/run1", "link", false},
		{"app/run1", "fifo", false},
		{"../..", "etc/passwd", false},
		{"/etc", "passwd", false},
	} {
		_, err := r.ReadRecord(t.Context(), c.dir, c.name)
		if err == nil || errors.Is(err, fs.ErrNotExist) != c.notExist {
			t.Errorf("%s/%s: %v", c.dir, c.name, err)
		}
	}
}

func TestSizesLeavesOutWhatIsNoRegularFileOfTheRun(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "app/run1")
	plantFile(t, filepath.Join(dir, "images/a.png"), "12345")
	plantFile(t, filepath.Join(dir, "images/empty"), "")
	must(t, os.Symlink("a.png", filepath.Join(dir, "images/link")))
	must(t, os.Symlink("images", filepath.Join(dir, "linked")))
	must(t, os.Mkdir(filepath.Join(dir, "images/dir"), 0o755))
	files := []string{
		"images/a.png", "images/empty", "images/link", "linked/a.png", "images/dir", "images/none", "none/a", "images/a.png/x",
		"../run1/images/a.png", "../../../../etc/passwd", "/etc/passwd", "",
	}
	sizes, err := r.Sizes(t.Context(), "app/run1", files)
	must(t, err)
	want := map[string]int64{"images/a.png": 5, "images/empty": 0, "../run1/images/a.png": 5}
	if len(sizes) != len(want) {
		t.Errorf("sizes %v", sizes)
	}
	for name, n := range want {
		if got, ok := sizes[name]; !ok || got != n {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
	real := r.sys.lstat
	r.sys.lstat = func(root *os.Root, name string) (fs.FileInfo, error) {
		if name == "a.png" {
			return nil, &fs.PathError{Op: "statat", Path: name, Err: unix.EIO}
		}
		return real(root, name)
	}
	if _, err := r.Sizes(t.Context(), "app/run1", files); !errors.Is(err, unix.EIO) {
		t.Errorf("a disk that fails says that a file is gone: %v", err)
	}
}
