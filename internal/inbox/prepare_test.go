package inbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/testenv"
)

// modes holds directories against the modes they should have.
func modes(t *testing.T, want map[string]fs.FileMode) {
	t.Helper()
	for path, mode := range want {
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|mode {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, mode)
		}
	}
}

func prepare(t *testing.T, dir string) (made string) {
	t.Helper()
	made, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestPrepareMakesDirectoriesThatTheGroupReachesWhateverTheUmask(t *testing.T) {
	for umask, above := range map[int]fs.FileMode{0o077: 0o750, 0o022: 0o755} {
		top := t.TempDir()
		dir := filepath.Join(top, "lib", "data", "drop")
		old := syscall.Umask(umask)
		made := prepare(t, dir)
		syscall.Umask(old)
		if made != filepath.Join(top, "lib") {
			t.Errorf("made %s", made)
		}
		const shared = fs.ModeSetgid | 0o770
		modes(t, map[string]fs.FileMode{
			top + "/lib": above, top + "/lib/data": above, dir: shared, dir + "/accepted": shared, dir + "/rejected": shared,
		})
	}
}

func TestPrepareLeavesWhatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "drop")
	prepare(t, dir)
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chmod(filepath.Dir(dir), 0o711), os.Remove(dir+"/rejected")); err != nil {
		t.Fatal(err)
	}
	if made := prepare(t, dir); made != dir+"/rejected" {
		t.Errorf("made %q", made)
	}
	modes(t, map[string]fs.FileMode{dir: 0o700, filepath.Dir(dir): 0o711, dir + "/rejected": fs.ModeSetgid | 0o770})
	if made := prepare(t, dir); made != "" {
		t.Errorf("made %q anew", made)
	}
	if err := errors.Join(os.Remove(dir+"/rejected"), os.WriteFile(dir+"/rejected", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "rejected") {
		t.Errorf("a file in the way: %v", err)
	}
	if err := errors.Join(os.Remove(dir+"/rejected"), os.Symlink("nowhere", dir+"/rejected")); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "rejected") {
		t.Errorf("a symlink that leads nowhere: %v", err)
	}
	if left, err := filepath.Glob(dir + "/.*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// So a crash at any moment leaves it right or not there at all.
func TestNoDirectoryStandsUnderItsNameBeforeItsModeIsRight(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drop")
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	prepare(t, dir)
	if err := os.WriteFile(dir+".last", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	named, early := false, false
	for event := range watcher.Events {
		if event.Name == dir+".last" {
			break
		}
		named = named || event.Name == dir && event.Has(fsnotify.Create)
		early = early || event.Name == dir && event.Has(fsnotify.Chmod)
	}
	if !named || early {
		t.Errorf("named: %v, changed after that: %v", named, early)
	}
}

func TestWhatRootMakesBelongsToTheOwnerOfTheDirectoryAbove(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to make directories of another user")
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.Mkdir(data, 0o750), os.Chown(data, 65534, 65533)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(data, "in", "drop")
	prepare(t, dir)
	for _, path := range []string{filepath.Dir(dir), dir, dir + "/accepted", dir + "/rejected"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Uid != 65534 || st.Gid != 65533 {
			t.Errorf("%s belongs to %d:%d, %v", path, st.Uid, st.Gid, err)
		}
	}
	modes(t, map[string]fs.FileMode{dir: fs.ModeSetgid | 0o770})
}
