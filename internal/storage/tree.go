package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

var (
	errNotRegular = errors.New("not a regular file")
	errNoPath     = errors.New("is no path below storage.dir")
)

// folder is a directory of a mount, opened by a way without symbolic links.
type folder struct {
	m    *mount
	root *os.Root
	name string   // below storage.dir, slashes; "." is storage.dir
	file *os.File // see descriptor; nil: nobody asked
}

func (d *folder) close() {
	if d.file != nil {
		d.file.Close()
	}
	if d.root != d.m.root {
		d.root.Close()
	}
}

func (d *folder) path(name string) string { return d.m.path(path.Join(d.name, name)) }

// lstat looks at a name below the folder without following a link at its end.
func (d *folder) lstat(name string) (info fs.FileInfo, err error) {
	err = durable.Uninterrupted(func() error { info, err = d.m.v.sys.lstat(d.root, name); return err })
	return info, err
}

func (m *mount) lstat(name string) (fs.FileInfo, error) {
	return (&folder{m: m, root: m.root}).lstat(name)
}

// enter opens a directory below storage.dir, element by element. os.Root keeps
// every element inside the volume but follows links there; so each must be a
// directory by Lstat, and what was opened must be that very directory. With
// create, missing elements are made.
func (m *mount) enter(name string, create bool) (*folder, error) {
	d := &folder{m: m, root: m.root, name: "."}
	if name == "." {
		return d, nil
	}
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%q %w", name, errNoPath)
	}
	for elem := range strings.SplitSeq(name, "/") {
		next, err := d.step(elem, create)
		d.close()
		if err != nil {
			return nil, err
		}
		d = next
	}
	return d, nil
}

// parts is the directory of parts in .assetd. Where it has to be made, it is durable
// before the first part in it can be.
func (d *folder) parts() (*folder, error) {
	parts, err := d.step(path.Base(partsDir), false)
	if !errors.Is(err, fs.ErrNotExist) {
		return parts, err
	}
	if parts, err = d.step(path.Base(partsDir), true); err != nil {
		return nil, err
	}
	if err := d.sync(); err != nil {
		parts.close()
		return nil, err
	}
	return parts, nil
}

func (d *folder) step(elem string, create bool) (*folder, error) {
	made := false
	before, err := d.lstat(elem)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := d.m.v.sys.mkdir(d.root, elem, d.m.v.newDirMode()); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, d.m.v.explain("making directory", d.path(elem), err)
		}
		made = true
		before, err = d.lstat(elem)
	}
	if err != nil {
		return nil, d.m.v.explain("looking at", d.path(elem), err)
	}
	if !before.IsDir() {
		return nil, fmt.Errorf("%s is %s where a directory belongs: refused, take it away: %w", d.path(elem), kind(before), unix.ENOTDIR)
	}
	root, err := d.root.OpenRoot(elem)
	if err != nil {
		return nil, d.m.v.explain("opening", d.path(elem), err)
	}
	next := &folder{m: d.m, root: root, name: path.Join(d.name, elem)}
	after, err := next.lstat(".")
	if err == nil && !os.SameFile(before, after) {
		err = errors.New("it was exchanged while being opened")
	}
	if err == nil && (made || create && halfMade(after)) {
		err = next.setMode(after)
	}
	if err != nil {
		next.close()
		return nil, d.m.v.explain("opening", d.path(elem), err)
	}
	return next, nil
}

// handle is the folder as a file, for calls that take a descriptor.
func (d *folder) handle() (*os.File, error) {
	return d.m.v.sys.open(d.root, ".", os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// regular opens a regular file below the folder, never through a link at its
// end and never waiting for a FIFO.
func (d *folder) regular(name string, flag int) (*os.File, fs.FileInfo, error) {
	before, err := d.lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is %s: %w, refused, take it away", d.path(name), kind(before), errNotRegular)
	}
	f, err := d.m.v.sys.open(d.root, name, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was exchanged while being opened: %w", d.path(name), errNotRegular)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, after, nil
}

// create makes a new file; whatever is at its name is removed first
// unless it is a directory. A link is removed, not followed.
func (d *folder) create(name string, mode fs.FileMode) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := d.m.v.sys.open(d.root, name, flags, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := d.m.v.sys.remove(d.root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d.m.v.sys.open(d.root, name, flags, mode)
}

// kind names what is somewhere, for people.
func kind(info fs.FileInfo) string {
	switch t := info.Mode().Type(); {
	case t == 0:
		return "a regular file"
	case t&fs.ModeSymlink != 0:
		return "a symbolic link"
	case t&fs.ModeDir != 0:
		return "a directory"
	case t&fs.ModeNamedPipe != 0:
		return "a FIFO"
	default:
		return "a special file"
	}
}

// missing reports whether the error says that no such file can be there: the name
// or its directory is not, or what should be the directory is something else.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, errNoPath)
}
