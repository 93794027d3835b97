package storage

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// calls are the calls to the system that can fail, one field each: a volume's
// own, so that a test can let the Nth of them fail.
type calls struct {
	openRoot func(dir string) (*os.Root, error)
	open     func(r *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error)
	lstat    func(r *os.Root, name string) (fs.FileInfo, error)
	mkdir    func(r *os.Root, name string, mode fs.FileMode) error // name is one element
	remove   func(r *os.Root, name string) error
	rename   func(r *os.Root, from, to string) error                        // replaces
	place    func(from *os.File, name string, to *os.File, as string) error // renames without replacing
	read     func(f *os.File, p []byte, off int64) (int, error)
	write    func(f *os.File, p []byte, off int64) (int, error)
	truncate func(f *os.File, size int64) error
	chmod    func(f *os.File, mode fs.FileMode) error
	sync     func(f *os.File) error
	syncDir  func(dir *os.File) error
	syncFS   func(f *os.File) error
	close    func(f *os.File) error
	statfs   func(f *os.File) (unix.Statfs_t, error)
	allocate func(f *os.File, off, n int64) error
	lock     func(f *os.File) error // until it is closed, against other processes; never waits
	syncTold bool                   // this kernel tells write-back errors to syncfs
}

// systemCalls are the real ones. Package os repeats what a signal interrupts, but
// for Root.Rename and Root.Lstat; package unix never does: durable.Uninterrupted
// does it for all of these, as FUSE and CIFS do let signals through.
func systemCalls() calls {
	return calls{
		openRoot: os.OpenRoot,
		open:     (*os.Root).OpenFile,
		lstat:    (*os.Root).Lstat,
		mkdir:    mkdirIn,
		remove:   (*os.Root).Remove,
		rename:   (*os.Root).Rename,
		place:    durable.RenameNoReplace,
		read:     (*os.File).ReadAt,
		write:    (*os.File).WriteAt,
		truncate: (*os.File).Truncate,
		chmod:    (*os.File).Chmod,
		sync:     (*os.File).Sync,
		syncDir:  (*os.File).Sync,
		syncFS:   func(f *os.File) error { return durable.Control(f, unix.Syncfs) },
		close:    (*os.File).Close,
		statfs: func(f *os.File) (st unix.Statfs_t, err error) {
			err = durable.Control(f, func(fd int) error { return unix.Fstatfs(fd, &st) })
			return st, err
		},
		allocate: func(f *os.File, off, n int64) error {
			return durable.Control(f, func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n) })
		},
		lock: func(f *os.File) error {
			return durable.Control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		},
		syncTold: kernelAtLeast(5, 8),
	}
}

// timed tells how long each sync takes.
func (c *calls) timed(tell func(sync string, took time.Duration)) {
	if tell == nil {
		return
	}
	as := func(what string, call func(*os.File) error) func(*os.File) error {
		return func(f *os.File) error {
			begun := time.Now()
			defer func() { tell(what, time.Since(begun)) }()
			return call(f)
		}
	}
	c.sync, c.syncDir, c.syncFS = as(SyncFile, c.sync), as(SyncDirectory, c.syncDir), as(SyncFileSystem, c.syncFS)
}

// mkdirIn makes a directory in r, also a sticky one, which os.Root refuses to make.
func mkdirIn(r *os.Root, name string, mode fs.FileMode) error {
	if mode == mode.Perm() {
		return r.Mkdir(name, mode)
	}
	h, err := r.Open(".")
	if err != nil {
		return err
	}
	defer h.Close()
	perm := uint32(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		perm |= unix.S_ISVTX
	}
	return durable.Control(h, func(fd int) error { return unix.Mkdirat(fd, name, perm) })
}

// kernelAtLeast reads the running kernel's version. From 5.8 on syncfs(2) tells
// of write-back that failed since its descriptor was opened; before, it does not.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var got [2]int
	field := 0
	for _, c := range u.Release {
		switch {
		case '0' <= c && c <= '9':
			got[field] = got[field]*10 + int(c-'0')
			continue
		case c == '.' && field == 0:
			field++
			continue
		}
		break
	}
	return got[0] > major || got[0] == major && got[1] >= minor
}

// localFS reports whether syncfs covers everything on this file system, down to
// the disk, and tells errors. Others get a sync for each file.
func localFS(st unix.Statfs_t) bool {
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}

// sysStat is what the system says of a file that fs.FileInfo does not have.
func sysStat(info fs.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}
