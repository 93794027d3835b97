package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// unable is what the volume cannot do, by name.
func unable(t *testing.T, found []Capability) map[string]error {
	t.Helper()
	if len(found) < 10 {
		t.Errorf("only %d things were tried: %+v", len(found), found)
	}
	cannot := map[string]error{}
	for _, a := range found {
		if a.Err != nil {
			cannot[a.What] = a.Err
		}
	}
	return cannot
}

func TestCapabilities_GoodVolumeHasAllAndNothingIsLeft(t *testing.T) {
	c := plainConfig(inMemory(t))
	v, err := New(c, Deps{})
	must(t, err)
	found, err := v.Capabilities()
	must(t, err)
	if cannot := unable(t, found); len(cannot) > 0 {
		t.Errorf("it cannot %v", cannot)
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestCapabilities_NamesWhatAFileSystemCannotDo(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*calls)
		vital  bool
	}{
		"set room aside before it is needed": {func(s *calls) { s.allocate = func(*os.File, int64, int64) error { return unix.EOPNOTSUPP } }, false},
		"lock a file":                        {func(s *calls) { s.lock = func(*os.File) error { return unix.ENOLCK } }, false},
		"sync a file":                        {func(s *calls) { s.sync = func(*os.File) error { return unix.EIO } }, true},
		"rename a file without replacing another": {func(s *calls) {
			s.place = func(*os.File, string, *os.File, string) error { return unix.EINVAL }
		}, false},
		"open a part again and go on with it": {func(s *calls) {
			open := s.open
			s.open = func(r *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
				if flag == os.O_RDWR { // as on a mount without a cache for writes
					return nil, unix.EPERM
				}
				return open(r, name, flag, perm)
			}
		}, false},
		"sync a directory": {func(s *calls) { s.syncDir = func(*os.File) error { return unix.EINVAL } }, false},
		"tell names apart by case": {func(s *calls) {
			lstat := s.lstat
			s.lstat = func(r *os.Root, name string) (fs.FileInfo, error) {
				if name == "file" {
					name = "File"
				}
				return lstat(r, name)
			}
		}, false},
	} {
		conf := plainConfig(inMemory(t))
		v, err := New(conf, Deps{})
		must(t, err)
		c.breaks(&v.sys)
		found, err := v.Capabilities()
		must(t, err)
		cannot := unable(t, found)
		if len(cannot) != 1 || cannot[name] == nil {
			t.Errorf("%s: found is that it cannot %v", name, cannot)
		}
		for _, a := range found {
			if a.What == name && (a.Fallback == "") != c.vital {
				t.Errorf("%s: without it: %q", name, a.Fallback)
			}
		}
		if left, err := os.ReadDir(conf.Dir); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v, %v", name, left, err)
		}
	}
}

func TestCapabilities_NeedsAVolume(t *testing.T) {
	c := plainConfig(filepath.Join(inMemory(t), "none"))
	v, err := New(c, Deps{})
	must(t, err)
	if found, err := v.Capabilities(); !errors.Is(err, run.ErrVolumeOffline) || found != nil {
		t.Errorf("%v, %v", found, err)
	}
}
