package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

func TestSumReadsAllOfAFile(t *testing.T) {
	r := newRig(t)
	data := body(3<<20+17, "v")
	key := run.Key{Run: "run1", Kind: run.Videos, ID: "v"}
	for name, size := range map[string]int{"a": 0, "b": 1, "c": 1 << 20, "d": len(data)} {
		plantFile(t, filepath.Join(r.dir, "app/run1", name), string(data[:size]))
		read := 0
		c, err := r.Sum(t.Context(), "app/run1", name, func(n int) { read += n })
		if err != nil || c.Size != int64(size) || c.SHA256 != whole(key, data[:size]).SHA256 || c.Odd != "" || read != size {
			t.Errorf("%d bytes: %+v, %d read, %v", size, c, read, err)
		}
	}
}

func TestSumSaysWhatIsNoFileAndWhatIsNotThere(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "app/run1")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	plantFile(t, filepath.Join(dir, "file"), "x")
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, os.Symlink("sub", filepath.Join(dir, "linked")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for name, odd := range map[string]string{"link": "a symbolic link", "sub": "a directory", "fifo": "a FIFO"} {
		if c, err := r.Sum(t.Context(), "app/run1", name, nil); err != nil || c.Odd != odd || c.SHA256 != "" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for _, name := range []string{"none", "none/x", "file/x", "linked/x", "../../etc/passwd"} {
		if _, err := r.Sum(t.Context(), "app/run1", name, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingIsMissingOnAVolumeThatIsOffline(t *testing.T) {
	r := newRig(t)
	marker, away := filepath.Join(r.dir, markerFile), filepath.Join(r.dir, "volume")
	must(t, os.Rename(marker, away))
	if _, err := r.Sum(t.Context(), "app/run1", "none", nil); !errors.Is(err, run.ErrVolumeOffline) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its marker: %v", err)
	}
	must(t, os.Rename(away, marker))
	// And where it goes between the look at the marker and the file.
	lstat, gone := r.sys.lstat, false
	r.sys.lstat = func(root *os.Root, name string) (fs.FileInfo, error) {
		if name == "app" && !gone {
			gone = true
			must(t, os.Rename(marker, away))
		}
		return lstat(root, name)
	}
	if _, err := r.Sum(t.Context(), "app/run1", "none", nil); !gone || !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("that goes meanwhile: %v", err)
	}
}

func TestAFileThatCannotBeReadIsNeitherMissingNorDamaged(t *testing.T) {
	r := newRig(t)
	plantFile(t, filepath.Join(r.dir, "app/run1/file"), "x")
	read := r.sys.read
	r.sys.read = func(f *os.File, p []byte, off int64) (int, error) {
		if filepath.Base(f.Name()) == "file" {
			return 0, unix.EIO
		}
		return read(f, p, off)
	}
	_, err := r.Sum(t.Context(), "app/run1", "file", nil)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, run.ErrVolumeOffline) || !strings.Contains(err.Error(), "see the kernel's log") {
		t.Errorf("a bad sector: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.sys.read = read
	if _, err := r.Sum(ctx, "app/run1", "file", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
