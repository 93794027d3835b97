package storage

import (
	"os"
	"path"
)

// maxDirs bounds the folders that a dirCache keeps open, up to two descriptors each.
const maxDirs = 16

// dirCache is the folders below one mount that a batch has entered: most of its files
// share them, and each entering costs a dozen system calls. They last as long as the
// batch does and no longer. Not safe for concurrent use.
type dirCache struct {
	m    *mount
	open map[dirKey]*folder
}

// dirKey is how a folder was entered: only with create is one that a crash left half
// made finished.
type dirKey struct {
	name   string
	create bool
}

// enter is mount.enter. The folder is not the caller's to close, and good until the
// next bound.
func (w *dirCache) enter(name string, create bool) (*folder, error) {
	name = path.Clean(name)
	if d := w.open[dirKey{name, create}]; d != nil {
		return d, nil
	}
	d, err := w.m.enter(name, create)
	if err != nil {
		return nil, err
	}
	if w.open == nil {
		w.open = map[dirKey]*folder{}
	}
	w.open[dirKey{name, create}] = d
	return d, nil
}

// trim comes between one file and the next, and closes all where there are too many.
func (w *dirCache) trim() {
	if len(w.open) >= maxDirs {
		w.close()
	}
}

func (w *dirCache) close() {
	for _, d := range w.open {
		d.close()
	}
	clear(w.open)
}

// descriptor is the folder as a file that stays open as long as the folder.
func (d *folder) descriptor() (*os.File, error) {
	if d.file == nil {
		f, err := d.handle()
		if err != nil {
			return nil, err
		}
		d.file = f
	}
	return d.file, nil
}
