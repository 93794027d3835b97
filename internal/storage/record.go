package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// longestRecord bounds what ReadRecord reads, in bytes: a manifest of 100,000
// assets.
const longestRecord = 128 << 20

// filesForRecords is from how many temporary files on one syncfs is cheaper.
const filesForRecords = filesForSyncFS

// sheaf is one run's records on their way.
type sheaf struct {
	run.Records
	err error
}

// WriteRecords writes the records of many runs durably and atomically: each file
// is whole or the one before. The files of a run become visible in their order,
// each durable before the next. These alone are ever replaced. Directories that
// are missing are made; storage.min_free does not count. The answers are one error
// a run; the second result, where nothing was tried, is run.ErrVolumeOffline.
func (v *Volume) WriteRecords(ctx context.Context, batch []run.Records) ([]error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := v.open()
	if err != nil {
		return nil, err
	}
	defer m.close()
	// Before the first byte: see syncParts.
	top, err := (&folder{m: m, root: m.root, name: "."}).handle()
	if err != nil {
		return nil, v.unusable(v.Dir, err)
	}
	defer top.Close()
	w := recordWriter{m: m, top: top, sheaves: make([]*sheaf, len(batch))}
	for i, r := range batch {
		w.sheaves[i] = &sheaf{Records: r}
	}
	w.write()
	errs := make([]error, len(batch))
	for i, s := range w.sheaves {
		errs[i] = s.err
	}
	return errs, nil
}

type recordWriter struct {
	m       *mount
	top     *os.File
	sheaves []*sheaf
}

// tempName is where a record is until it is whole. After a crash the next
// writing of the same record takes it away.
func tempName(name string) string { return "." + name + tempExt }

func (w *recordWriter) write() {
	files, longest := 0, 0
	for _, s := range w.sheaves {
		files += len(s.Files)
		longest = max(longest, len(s.Files))
	}
	var st unix.Statfs_t
	err := durable.Uninterrupted(func() (err error) { st, err = w.m.v.sys.statfs(w.top); return err })
	together := err == nil && localFS(st) && w.m.v.sys.syncTold && files >= filesForRecords
	w.all(func(s *sheaf) error { return w.fill(s, !together) })
	if together {
		w.syncFS()
	}
	for i := range longest {
		w.all(func(s *sheaf) error { return w.show(s, i) })
		w.syncDirs(i, together)
	}
	for _, s := range w.sheaves {
		if s.err != nil {
			w.clean(s)
		}
	}
}

// all does a step for each run that has had no error. Those that wait for a disk
// wait together.
func (w *recordWriter) all(step func(s *sheaf) error) {
	each(w.sheaves, func(s *sheaf) {
		defer func() {
			if p := recover(); p != nil {
				w.m.v.panicked(p)
				s.err = fmt.Errorf("panic while writing records of %s: %v", s.Dir, p)
			}
		}()
		if s.err == nil {
			s.err = step(s)
		}
	})
}

// fill writes a run's records next to their final names.
func (w *recordWriter) fill(s *sheaf, durable bool) error {
	d, err := w.m.enter(s.Dir, true)
	if err != nil {
		return err
	}
	defer d.close()
	for _, f := range s.Files {
		if path.Base(f.Name) != f.Name || !fs.ValidPath(f.Name) {
			return fmt.Errorf("%q is no name for a record", f.Name)
		}
		if err := d.writePieces(tempName(f.Name), f.Write, durable); err != nil {
			return err
		}
	}
	return nil
}

// show gives a run's i-th record its name.
func (w *recordWriter) show(s *sheaf, i int) error {
	if i >= len(s.Files) {
		return nil
	}
	d, err := w.m.enter(s.Dir, false)
	if err != nil {
		return err
	}
	defer d.close()
	return d.replace(tempName(s.Files[i].Name), s.Files[i].Name)
}

// syncDirs makes the names just given durable, before the next ones appear. With
// the first come the directories that lead there.
func (w *recordWriter) syncDirs(i int, together bool) {
	dirs := map[string][]*sheaf{}
	for _, s := range w.sheaves {
		if s.err != nil || i >= len(s.Files) {
			continue
		}
		for dir := path.Clean(s.Dir); ; dir = path.Dir(dir) {
			dirs[dir] = append(dirs[dir], s)
			if i > 0 || dir == "." {
				break
			}
		}
	}
	if together && len(dirs) >= dirsForSyncFS {
		w.syncFS()
		return
	}
	for dir, sheaves := range dirs {
		if err := w.m.syncDir(dir); err != nil {
			for _, s := range sheaves {
				s.err = errors.Join(s.err, err)
			}
		}
	}
}

// syncFS puts everything on disk. Where that fails nobody's record is believed.
func (w *recordWriter) syncFS() {
	err := durable.Uninterrupted(func() error { return w.m.v.sys.syncFS(w.top) })
	if err == nil {
		return
	}
	for _, s := range w.sheaves {
		s.err = errors.Join(s.err, w.m.v.explain("syncing the file system of", w.m.v.Dir, err))
	}
}

// clean takes away what a failed run's records have left.
func (w *recordWriter) clean(s *sheaf) {
	d, err := w.m.enter(s.Dir, false)
	if err != nil {
		return
	}
	defer d.close()
	for _, f := range s.Files {
		d.remove(tempName(f.Name)) //nolint:errcheck // the run's own error is returned
	}
}

// syncDir makes the names in a directory below storage.dir durable.
func (m *mount) syncDir(name string) error {
	d, err := m.enter(name, false)
	if err != nil {
		return err
	}
	defer d.close()
	return d.sync()
}

// ReadRecord reads a small file of a run's directory: fs.ErrNotExist where it is
// not there, run.ErrVolumeOffline where the volume is not.
func (v *Volume) ReadRecord(ctx context.Context, dir, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := v.open()
	if err != nil {
		return nil, err
	}
	defer m.close()
	d, err := m.enter(path.Clean(dir), false)
	if err != nil {
		return nil, err
	}
	defer d.close()
	f, info, err := d.regular(name, os.O_RDONLY)
	if err != nil {
		return nil, v.explain("opening", d.path(name), err)
	}
	defer f.Close()
	if info.Size() > longestRecord {
		return nil, fmt.Errorf("%s has %d bytes: too large for a record", d.path(name), info.Size())
	}
	data := make([]byte, info.Size())
	n, err := v.sys.read(f, data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, v.explain("reading", d.path(name), err)
	}
	return data[:n], nil
}

// Sizes is how many bytes each of the files below a run's directory has. One that
// is not there, or is no regular file reached without symbolic links, is left out;
// what cannot be looked at is an error.
func (v *Volume) Sizes(ctx context.Context, dir string, files []string) (map[string]int64, error) {
	m, err := v.open()
	if err != nil {
		return nil, err
	}
	defer m.close()
	w := dirCache{m: m}
	defer w.close()
	sizes := make(map[string]int64, len(files))
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.trim()
		size, there, err := w.size(path.Join(dir, file))
		if err != nil {
			return nil, err
		}
		if there {
			sizes[file] = size
		}
	}
	return sizes, nil
}

func (w *dirCache) size(name string) (int64, bool, error) {
	d, err := w.enter(path.Dir(name), false)
	switch {
	case missing(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	info, err := d.lstat(path.Base(name))
	switch {
	case missing(err):
		return 0, false, nil
	case err != nil:
		return 0, false, w.m.v.explain("looking at", d.path(path.Base(name)), err)
	}
	return info.Size(), info.Mode().IsRegular(), nil
}
