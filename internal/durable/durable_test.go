package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/testenv"
)

// recorded is the real calls, with a note of each; those of fail fail.
func recorded(root string, fail string, failure error) (system, *[]string) {
	var calls []string
	note := func(call, path string) error {
		rel, _ := filepath.Rel(root, path)
		calls = append(calls, call+" "+rel)
		if calls[len(calls)-1] == fail {
			return &fs.PathError{Op: call, Path: path, Err: failure}
		}
		return nil
	}
	return system{
		renameNoReplace: RenameNoReplace,
		mkdir: func(path string, mode fs.FileMode) error {
			if err := note("mkdir", path); err != nil {
				return err
			}
			return os.Mkdir(path, mode)
		},
		sync: func(dir string) error {
			if err := note("sync", dir); err != nil {
				return err
			}
			return SyncDir(dir)
		},
	}, &calls
}

func TestCase_A24_MkdirAllSyncsTheParentOfEachNewDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		there, path string
		want        []string
		made        bool
	}{
		"three new ones":   {"", "a/b/c", []string{"mkdir a", "sync .", "mkdir a/b", "sync a", "mkdir a/b/c", "sync a/b"}, true},
		"one new one":      {"a/b", "a/b/c", []string{"mkdir a/b/c", "sync a/b"}, true},
		"none":             {"a/b/c", "a/b/c", nil, false},
		"written unclean":  {"a", "a//b/../b/", []string{"mkdir a/b", "sync a"}, true},
		"the root of all":  {"", ".", nil, false},
		"above what there": {"a/b/c", "a/b", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, c.there), 0o755); err != nil {
				t.Fatal(err)
			}
			s, calls := recorded(root, "", nil)
			made, err := s.mkdirAll(filepath.Clean(root+"/"+c.path), 0o750)
			if err != nil || made != c.made {
				t.Errorf("made %v, error %v", made, err)
			}
			if diff := cmp.Diff(c.want, *calls); diff != "" {
				t.Error(diff)
			}
			if info, err := os.Stat(root + "/" + c.path); err != nil || !info.IsDir() {
				t.Errorf("%s: %v", c.path, err)
			}
		})
	}
}

func TestCase_A24_MkdirAllNamesWhatFailsAndGoesNoFurther(t *testing.T) {
	for _, failing := range []string{"mkdir a", "sync .", "mkdir a/b", "sync a"} {
		t.Run(failing, func(t *testing.T) {
			root := t.TempDir()
			s, calls := recorded(root, failing, unix.EIO)
			_, err := s.mkdirAll(filepath.Join(root, "a/b"), 0o750)
			var at *fs.PathError
			if !errors.Is(err, unix.EIO) || !errors.As(err, &at) || at.Path != filepath.Join(root, strings.Fields(failing)[1]) {
				t.Errorf("error %v", err)
			}
			if last := (*calls)[len(*calls)-1]; last != failing {
				t.Errorf("went on to %s", last)
			}
		})
	}
	root := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"link": func(path string) error { return os.Symlink("nowhere", path) },
	} {
		path := filepath.Join(root, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{path, path + "/below"} {
			if _, err := MkdirAll(dir, 0o750); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: error %v", dir, err)
			}
		}
	}
}

func TestMkdirAll_SyncsADirectoryThatAnotherMadeMeanwhile(t *testing.T) {
	root := t.TempDir()
	s, calls := recorded(root, "", nil)
	mkdir := s.mkdir
	s.mkdir = func(path string, mode fs.FileMode) error {
		if err := os.Mkdir(path, mode); err != nil {
			return err
		}
		return mkdir(path, mode)
	}
	made, err := s.mkdirAll(filepath.Join(root, "a"), 0o750)
	if diff := cmp.Diff([]string{"mkdir a", "sync ."}, *calls); diff != "" || made || err != nil {
		t.Errorf("made %v, error %v, %s", made, err, diff)
	}
}

func TestCase_G3_OpenDirDoesNotWaitForAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- SyncDir(path) }()
	select {
	case err := <-done:
		if !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("waits for a writer")
	}
}

func TestRenameNoReplace_KeepsWhatIsThere(t *testing.T) {
	dir := opened(t, "a", "b")
	if err := RenameNoReplace(dir, "a", dir, "b"); !errors.Is(err, fs.ErrExist) {
		if Unsupported(err) {
			testenv.Missing(t, "RENAME_NOREPLACE on the temporary directory's file system")
		}
		t.Errorf("error %v", err)
	}
	holds(t, dir, map[string]string{"a": "a", "b": "b"})
	if err := RenameNoReplace(dir, "a", dir, "c"); err != nil {
		t.Error(err)
	}
	if err := Rename(dir, "c", dir, "b"); err != nil {
		t.Error(err)
	}
	holds(t, dir, map[string]string{"b": "a"})
}

func TestUninterrupted_RepeatsOnlyWhatASignalInterrupted(t *testing.T) {
	for _, want := range []error{nil, unix.EIO, unix.EAGAIN} {
		n := 0
		err := Uninterrupted(func() error {
			if n++; n < 4 {
				return &fs.PathError{Op: "stat", Path: "x", Err: unix.EINTR}
			}
			return want
		})
		if n != 4 || !errors.Is(err, want) {
			t.Errorf("%d calls, error %v, want %v", n, err, want)
		}
	}
}

// opened is an open directory with the named files, each of which holds its name.
func opened(t *testing.T, names ...string) *os.File {
	t.Helper()
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir.Name(), name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// holds checks the content of a directory's files.
func holds(t *testing.T, dir *os.File, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir.Name())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		text, _ := os.ReadFile(filepath.Join(dir.Name(), e.Name()))
		got[e.Name()] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCreate_MakesAWholeFileOrNone(t *testing.T) {
	dir := opened(t, "there")
	if err := os.Symlink("elsewhere", filepath.Join(dir.Name(), "link")); err != nil {
		t.Fatal(err)
	}
	write := func(failure error) func(*os.File) error {
		return func(f *os.File) error {
			_, err := f.WriteString("text")
			return errors.Join(err, failure)
		}
	}
	for _, c := range []struct {
		name          string
		failure, want error
	}{
		{"new", nil, nil},
		{"failed", unix.ENOSPC, unix.ENOSPC},
		{"there", nil, fs.ErrExist},
		{"link", nil, fs.ErrExist},
		{"missing/new", nil, fs.ErrNotExist},
	} {
		if err := Create(dir, c.name, write(c.failure)); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	closed := func(f *os.File) error { return f.Close() }
	if err := Create(dir, "closed", closed); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a file that cannot be synced: error %v", err)
	}
	holds(t, dir, map[string]string{"new": "text", "there": "there", "link": ""})
	if info, err := os.Stat(filepath.Join(dir.Name(), "new")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}

func TestCopyFile_NeverReplaces(t *testing.T) {
	dir := opened(t, "a", "b")
	path := func(name string) string { return filepath.Join(dir.Name(), name) }
	if err := CopyFile(path("a"), path("b")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto another: error %v", err)
	}
	if err := CopyFile(path("missing"), path("c")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a file that does not exist: error %v", err)
	}
	if err := CopyFile(path("a"), path("d")); err != nil {
		t.Error(err)
	}
	holds(t, dir, map[string]string{"a": "a", "b": "b", "d": "a"})
}

func TestPublish_ReplacesOnPurposeOnly(t *testing.T) {
	nfs := kernel()
	nfs.renameNoReplace = func(*os.File, string, *os.File, string) error { return unix.EINVAL }
	for name, s := range map[string]system{"": kernel(), "without RENAME_NOREPLACE": nfs} {
		t.Run(name, s.testPublish)
	}
}

func (s system) testPublish(t *testing.T) {
	dir := opened(t, "first", "second", "third", "final")
	path := func(name string) string { return filepath.Join(dir.Name(), name) }
	for _, c := range []struct {
		temp, name string
		replace    bool
		want       error
	}{
		{"first", "final", false, fs.ErrExist},
		{"second", "final", true, nil},
		{"third", "new", false, nil},
		{"missing", "other", true, fs.ErrNotExist},
	} {
		if err := s.publish(path(c.temp), path(c.name), c.replace); !errors.Is(err, c.want) {
			t.Errorf("%s as %s: error %v, want %v", c.temp, c.name, err, c.want)
		}
	}
	holds(t, dir, map[string]string{"first": "first", "final": "second", "new": "third"})
}

func TestRemove_AcceptsAMissingFile(t *testing.T) {
	dir := opened(t, "a", "b")
	for _, name := range []string{"a", "missing"} {
		if err := Remove(dir, name); err != nil {
			t.Error(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir.Name(), "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir, "dir"); err == nil {
		t.Error("a directory was removed")
	}
	holds(t, dir, map[string]string{"b": "b", "dir": ""})
}
