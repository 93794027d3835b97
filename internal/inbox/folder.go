package inbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/backoff"
	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

const (
	acceptedDir = "accepted"
	rejectedDir = "rejected"
	errorExt    = ".error"

	lookAgain  = 10 * time.Minute       // for so long after its last change a taken file is looked at
	secondLook = 100 * time.Millisecond // after the first, where the mtime is older than drop.settle
	writeEmpty = time.Minute            // beyond drop.settle: an empty file that says nothing may be written for so long
	writeOn    = 30 * time.Second       // a file that ends within a line or a text may be written on for so long
	maxLooks   = 100_000                // files known of a folder at a time; the others follow
)

// folder is a directory and what was seen in it. The directory is held open for
// one pass only, so that it can be unmounted, and everything in it is reached
// through that descriptor: whoever may write here may swap a folder for a symlink.
type folder struct {
	path    string
	dir     *os.File // nil between passes, and where it could not be opened
	id      identity
	err     error // why not
	looks   map[string]*look
	next    time.Time // when it is listed again (accepted and rejected)
	listed  bool      // it was, since the start
	trouble trouble
	statAt  func(dir int, name string, st *unix.Stat_t, flags int) error
}

// identity tells directories apart that stand under one path after another.
type identity struct{ dev, ino uint64 }

func newFolder(path string) *folder {
	return &folder{path: path, looks: map[string]*look{}, statAt: unix.Fstatat}
}

// open opens the directory at the path.
func (f *folder) open() error { return f.openAt(unix.AT_FDCWD, f.path, 0) }

// openBelow opens a folder of the drop directory, which it makes where it is
// missing. A symlink is not followed. f.err says where that failed.
func (f *folder) openBelow(drop *folder) {
	name := filepath.Base(f.path)
	f.err = f.openAt(drop.fd(), name, unix.O_NOFOLLOW)
	if errors.Is(f.err, fs.ErrNotExist) {
		if _, f.err = drop.makeDir(name, dirMode, dirLeast); f.err == nil {
			f.err = f.openAt(drop.fd(), name, unix.O_NOFOLLOW)
		}
	}
}

func (f *folder) openAt(at int, name string, flags int) error {
	var fd int
	err := durable.Uninterrupted(func() (err error) {
		fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: f.path, Err: err}
	}
	f.dir = os.NewFile(uintptr(fd), f.path)
	var st unix.Stat_t
	if err := durable.Uninterrupted(func() error { return unix.Fstat(fd, &st) }); err != nil {
		f.close()
		return &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	f.id = identity{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // their types differ between systems
	return nil
}

func (f *folder) close() {
	if f.dir != nil {
		_ = f.dir.Close() // it was only read
		f.dir = nil
	}
}

func (f *folder) fd() int { return int(f.dir.Fd()) }

// lstat is the stamp of what stands under the name.
func (f *folder) lstat(name string) (stamp, error) {
	var st unix.Stat_t
	err := durable.Uninterrupted(func() error { return f.statAt(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return stamp{}, &fs.PathError{Op: "stat", Path: f.path + "/" + name, Err: err}
	}
	return stampOf(&st), nil
}

// openFile opens a file for reading: no symlink is followed, no FIFO waited for.
func (f *folder) openFile(name string) (*os.File, error) {
	var fd int
	path := f.path + "/" + name
	err := durable.Uninterrupted(func() (err error) {
		fd, err = unix.Openat(f.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// stamp is what of a file's inode says whether it has changed.
type stamp struct {
	ino     uint64
	size    int64
	mtime   int64 // nanoseconds since 1970
	ctime   int64
	regular bool
	linked  bool // it has other names, too
}

// usable reports whether the file may be read. One with several names may be anybody's:
// whoever can write here can link a file of the daemon's user that they cannot read.
func (s stamp) usable() bool { return s.regular && !s.linked }

func stampOf(st *unix.Stat_t) stamp {
	regular := uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG
	return stamp{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), regular, regular && st.Nlink > 1}
}

// same reports whether size and mtime are unchanged, and whether it may be read.
func (s stamp) same(t stamp) bool {
	return s.size == t.size && s.mtime == t.mtime && s.regular == t.regular && s.linked == t.linked
}

// age is how old the last change is, by the wall clock.
func (s stamp) age(now time.Time) time.Duration { return now.Round(0).Sub(time.Unix(0, s.mtime)) }

// look is what was seen of one file.
type look struct {
	stamp
	since    time.Time // when it was first seen like this
	seen     uint64    // in which pass last
	state    state
	quiet    bool // seen at the start in accepted or rejected: nothing is told that is no news
	count    int  // taken: its IDs
	failures int  // in a row
	retry    time.Time
	told     string // the trouble told last
}

// state is what is left to do with a file.
type state int

const (
	fresh    state = iota // to be read
	idle                  // nothing, until it changes
	odd                   // nothing, not a file to take; told
	toAccept              // its IDs are in the queue: to be moved
	toReject              // likewise
)

// settled reports whether the file may be taken, or when that will be: size and
// mtime unchanged for settle, or an mtime older than that and two looks that
// agree. A clock that differs from the file server's only makes it wait longer.
func (l *look) settled(now time.Time, settle time.Duration) (bool, time.Time) {
	unchanged, second := now.Sub(l.since), min(settle, secondLook)
	left := max(min(settle-unchanged, settle-l.age(now)), second-unchanged)
	return left <= 0, now.Add(left)
}

// holdBack puts the reading of a file off that may be written on, where its last
// change is not as old as that takes.
func (p *pass) holdBack(l *look, patience time.Duration) bool {
	old, at := l.settled(p.now, patience)
	if !old {
		l.retry = at
		p.sooner(at)
	}
	return !old
}

// failed puts the next attempt off: 1 s, doubling, at most a minute.
func (l *look) failed(now time.Time) {
	l.failures++
	l.retry = now.Add(retryDelay(l.failures))
}

func retryDelay(failures int) time.Duration {
	return backoff.Delay(failures, time.Second, time.Minute)
}

// scan lists a folder and gives the files that are ready to be read or moved.
// Files whose last change is older than young are passed over.
func (p *pass) scan(f *folder, young time.Duration) ([]*item, error) {
	if _, err := f.lstat("."); err != nil { // then nothing in it can be seen
		return nil, err
	}
	var ready []*item
	seen := 0
	for {
		names, err := f.dir.Readdirnames(1024)
		for _, name := range names {
			if dropfile.Pending(name) && !dropfile.Foreign(name) || f == p.drop && (name == acceptedDir || name == rejectedDir) ||
				f == p.rejected && filepath.Ext(name) == errorExt {
				continue
			}
			seen++
			if it := p.look(f, name, young); it != nil {
				ready = append(ready, it)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return ready, fmt.Errorf("list %s: %w", f.path, err)
		}
	}
	for name, l := range f.looks {
		if l.seen != p.passes {
			delete(f.looks, name)
		}
	}
	if f == p.rejected {
		p.lying.Store(int64(seen))
	}
	return ready, nil
}

// look looks at one file, and gives it back where something is to be done with it
// now.
func (p *pass) look(f *folder, name string, young time.Duration) *item {
	st, err := f.lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil { // somebody's FUSE mount, a bad sector: no other file waits for it
		p.unseen(f, name, err)
		return nil
	}
	l := f.looks[name]
	switch {
	case l == nil && (st.age(p.now) > young || len(f.looks) >= maxLooks):
		return nil
	case l != nil && l.state == odd && (!st.usable() || dropfile.Foreign(name)): // a directory's mtime changes with what is in it
		l.stamp = st
	case l == nil || !l.same(st):
		l = &look{stamp: st, since: p.now, quiet: f != p.drop && !f.listed && l == nil}
		f.looks[name] = l
	case l.ctime != st.ctime: // its permissions, perhaps: worth another try
		l.ctime, l.retry, l.failures = st.ctime, time.Time{}, 0
	}
	if l.state == idle && st.age(p.now) > young {
		return nil // not seen: forgotten
	}
	l.seen = p.passes
	return p.ready(f, name, l)
}

// oddity says why a file is left alone where it is; empty: it is not.
func oddity(name string, l *look) string {
	switch {
	case dropfile.Foreign(name):
		return "a file of a file manager, an operating system or an office program: it holds no run IDs"
	case !l.regular:
		return "only regular files are taken"
	case l.linked:
		return "it has several names (hard links): only a file with one is read; copy it instead (cp)"
	}
	return ""
}

// halfMoved ends the move of a file that a crash cut short between the making of its
// new name and the removal of the old one, where the file system cannot rename without
// replacing. Its run IDs are in the queue: files move only then.
func (p *pass) halfMoved(name string, st stamp) bool {
	for _, to := range []*folder{p.accepted, p.rejected} {
		room := maxName
		if to == p.rejected {
			room -= len(errorExt)
		}
		for n := 1; to.dir != nil && n <= maxNames; n++ {
			there, err := to.lstat(numbered(name, n, room))
			if err != nil {
				break
			}
			if there.ino == st.ino && to.id.dev == p.drop.id.dev && there.linked {
				return p.drop.remove(name) == nil
			}
		}
	}
	return false
}

// unseen tells once of what cannot be looked at.
func (p *pass) unseen(f *folder, name string, err error) {
	l := f.looks[name]
	if l == nil {
		if len(f.looks) >= maxLooks {
			return
		}
		l = &look{since: p.now}
		f.looks[name] = l
	}
	l.seen = p.passes
	p.tellFile(l, run.Event{File: f.path + "/" + name, Err: err, Note: "tried again later"}, err.Error())
}

func (p *pass) ready(f *folder, name string, l *look) *item {
	whole := false
	switch l.state {
	case idle, odd:
		return nil
	case fresh:
		whole = f == p.drop && l.usable() && p.whole(name, l)
		if l.linked && f == p.drop && p.halfMoved(name, l.stamp) {
			return nil // and there is no file of this name any more
		}
		if hint := oddity(name, l); hint != "" {
			l.state = odd
			if f == p.drop {
				p.tell(run.Event{Kind: run.FileSkipped, File: f.path + "/" + name, Hint: hint})
			}
			return nil
		}
		if whole {
			break
		}
		if ok, at := l.settled(p.now, p.cfg.Settle); !ok {
			p.sooner(at)
			return nil
		}
	}
	if p.now.Before(l.retry) {
		p.sooner(l.retry)
		return nil
	}
	return &item{from: f, name: name, look: l, whole: whole}
}
