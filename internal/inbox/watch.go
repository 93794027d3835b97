package inbox

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/dropfile"
)

// watch is the hint that something happened in the drop directory. Without one
// the rescan does alone.
type watch struct {
	open    func() (*fsnotify.Watcher, error)
	watcher *fsnotify.Watcher
	on      identity // the directory watched
	trouble trouble
	renamed map[string]time.Time // files that appeared and were not written since, and when
}

// ensure watches the directory that f has open. A watch ends when its directory
// is moved, removed or unmounted; what is at the path by now is watched anew.
func (w *watch) ensure(f *folder) error {
	if w.watcher != nil && w.on == f.id && len(w.watcher.WatchList()) > 0 {
		return nil
	}
	w.close()
	watcher, err := w.open()
	if err != nil {
		return err
	}
	if err := watcher.Add(f.path); err != nil {
		_ = watcher.Close() // nothing was watched
		return err
	}
	w.watcher, w.on, w.renamed = watcher, f.id, map[string]time.Time{}
	return nil
}

// close ends the watch and waits for its goroutine.
func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // its descriptor is gone either way
		w.watcher, w.renamed = nil, nil
	}
}

func (w *watch) events() <-chan fsnotify.Event {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Events
}

func (w *watch) errors() <-chan error {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Errors
}

// maxRenamed bounds how many files are known to have appeared whole: for others only
// drop.settle tells.
const maxRenamed = 10_000

// note keeps of the events what tells a file that was renamed into place (IN_MOVED_TO)
// from one that is written there: both appear, but the second is then written.
func (w *watch) note(event fsnotify.Event) {
	name := filepath.Base(event.Name)
	switch {
	case event.Has(fsnotify.Create) && len(w.renamed) < maxRenamed && !dropfile.Pending(name):
		w.renamed[name] = time.Now()
	case event.Has(fsnotify.Write) || event.Has(fsnotify.Rename) || event.Has(fsnotify.Remove):
		delete(w.renamed, name)
	}
}

// matters reports whether an event can be about a file to take.
func (w *watch) matters(event fsnotify.Event, dir string) bool {
	return event.Name == filepath.Clean(dir) || !dropfile.Pending(filepath.Base(event.Name))
}

// watchHint says what to do about the limits of inotify, whose errors name
// something else (P5.4).
func watchHint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "the limit of inotify watches is reached: raise fs.inotify.max_user_watches"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "the limit of inotify instances or open files is reached: raise fs.inotify.max_user_instances or LimitNOFILE"
	}
	return "drop files are taken all the same, only later"
}
