package storage

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// disk stands between a volume and the system: it counts the calls, lets chosen
// ones fail, and knows what would survive a power loss by the letter of POSIX: the
// bytes of a file as of its last sync, the names in a directory as of its last.
type disk struct {
	t   *testing.T
	dir string

	mu    sync.Mutex
	step  int
	fault func(step int, op string) verdict // may be nil
	fired int
	dead  bool

	files map[uint64]*fileNode
	dirs  map[uint64]*dirNode
}

// verdict is what becomes of a call.
type verdict int

const (
	passes  verdict = iota
	fails           // nothing is done, an error comes
	applied         // all is done, an error comes all the same
	dies            // nothing is done, nor ever after: the process is gone
)

// fileNode and dirNode are what is durable of a file and of a directory.
type fileNode struct {
	synced   bool
	data     []byte
	poisoned bool // a sync of it failed: no later one may be believed
}

type dirNode struct{ names map[string]any } // of *fileNode and *dirNode

var errDead = errors.New("the process is dead")

// faulty puts a disk below the volume. Syncs only note what they would do.
func faulty(r *rig) *disk {
	d := &disk{t: r.t, dir: r.dir, files: map[uint64]*fileNode{}, dirs: map[uint64]*dirNode{}}
	real := r.sys
	s := &r.sys
	s.syncTold = true
	s.openRoot = func(dir string) (root *os.Root, err error) {
		err = d.do("openRoot", unix.EIO, func() error { root, err = real.openRoot(dir); return err })
		if err != nil && root != nil {
			root.Close()
			root = nil
		}
		return root, err
	}
	s.open = func(root *os.Root, name string, flag int, perm fs.FileMode) (f *os.File, err error) {
		err = d.do("open", unix.EIO, func() error {
			if f, err = real.open(root, name, flag, perm); err == nil && flag&os.O_CREATE != 0 {
				d.files[ino(f)] = &fileNode{}
			}
			return err
		})
		if err != nil && f != nil {
			f.Close()
			f = nil
		}
		return f, err
	}
	s.lstat = func(root *os.Root, name string) (info fs.FileInfo, err error) {
		err = d.do("lstat", unix.EIO, func() error { info, err = real.lstat(root, name); return err })
		return info, err
	}
	s.mkdir = func(root *os.Root, name string, perm fs.FileMode) error {
		return d.do("mkdir", unix.ENOSPC, func() error { return real.mkdir(root, name, perm) })
	}
	s.remove = func(root *os.Root, name string) error {
		return d.do("remove", unix.EIO, func() error { return real.remove(root, name) })
	}
	s.rename = func(root *os.Root, from, to string) error {
		return d.do("rename", unix.EIO, func() error { return real.rename(root, from, to) })
	}
	s.place = func(from *os.File, name string, to *os.File, as string) error {
		return d.do("place", unix.EIO, func() error { return real.place(from, name, to, as) })
	}
	s.read = func(f *os.File, p []byte, off int64) (n int, err error) {
		err = d.do("read", unix.EIO, func() error { n, err = real.read(f, p, off); return err })
		return n, err
	}
	s.write = func(f *os.File, p []byte, off int64) (n int, err error) {
		err = d.do("write", unix.ENOSPC, func() error { n, err = real.write(f, p, off); return err })
		return n, err
	}
	s.truncate = func(f *os.File, n int64) error {
		return d.do("truncate", unix.EIO, func() error { return real.truncate(f, n) })
	}
	s.chmod = func(f *os.File, m fs.FileMode) error {
		return d.do("chmod", unix.EIO, func() error { return real.chmod(f, m) })
	}
	s.sync = func(f *os.File) error {
		err := d.do("sync", unix.EIO, func() error { d.syncFile(ino(f), f.Name()); return nil })
		if err != nil {
			d.mu.Lock()
			d.file(ino(f)).poisoned = true
			d.mu.Unlock()
		}
		return err
	}
	s.syncDir = func(f *os.File) error {
		return d.do("syncDir", unix.EIO, func() error { d.syncDir(f.Name()); return nil })
	}
	s.syncFS = func(*os.File) error {
		return d.do("syncFS", unix.EIO, func() error { d.syncAll(); return nil })
	}
	s.close = func(f *os.File) error {
		err := d.do("close", unix.EIO, func() error { return nil })
		f.Close()
		return err
	}
	s.statfs = func(f *os.File) (st unix.Statfs_t, err error) {
		err = d.do("statfs", unix.EIO, func() error { st, err = real.statfs(f); return err })
		st.Type = unix.TMPFS_MAGIC // local, whatever it is
		return st, err
	}
	s.lock = func(f *os.File) error {
		return d.do("lock", unix.ENOLCK, func() error { return real.lock(f) })
	}
	s.allocate = func(f *os.File, off, n int64) error {
		return d.do("allocate", unix.ENOSPC, func() error { return real.allocate(f, off, n) })
	}
	d.syncAll() // what stood before stands
	return d
}

func (d *disk) do(op string, errno error, call func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.next(op) {
	case fails:
		return errno
	case applied:
		if err := call(); err != nil {
			return err
		}
		return errno
	case dies:
		return errDead
	}
	return call()
}

func (d *disk) next(op string) verdict {
	if d.dead {
		return dies
	}
	d.step++
	if d.fault == nil {
		return passes
	}
	v := d.fault(d.step, op)
	if v != passes {
		d.fired++
	}
	d.dead = v == dies
	return v
}

// ledgerFault is the same counter for the queue's calls, which only die.
func (d *disk) ledgerFault(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next("ledger "+op) == dies {
		return errDead
	}
	return nil
}

func ino(f *os.File) uint64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	st, _ := sysStat(info)
	return st.Ino
}

func (d *disk) file(ino uint64) *fileNode {
	if d.files[ino] == nil {
		d.files[ino] = &fileNode{}
	}
	return d.files[ino]
}

func (d *disk) syncFile(ino uint64, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Errorf("disk: %v", err)
	}
	n := d.file(ino)
	n.synced, n.data = true, data
}

func (d *disk) syncDir(path string) { d.node(path).names = d.names(path) }

// names is what a directory holds at this moment.
func (d *disk) names(path string) map[string]any {
	entries, err := os.ReadDir(path)
	if err != nil {
		d.t.Errorf("disk: %v", err)
	}
	names := map[string]any{}
	for _, e := range entries {
		if p := filepath.Join(path, e.Name()); e.IsDir() {
			names[e.Name()] = d.node(p)
		} else if info, err := os.Lstat(p); err == nil {
			st, _ := sysStat(info)
			names[e.Name()] = d.file(st.Ino)
		}
	}
	return names
}

func (d *disk) node(path string) *dirNode {
	info, err := os.Stat(path)
	if err != nil {
		d.t.Errorf("disk: %v", err)
		return &dirNode{}
	}
	st, _ := sysStat(info)
	if d.dirs[st.Ino] == nil {
		d.dirs[st.Ino] = &dirNode{}
	}
	return d.dirs[st.Ino]
}

func (d *disk) syncAll() {
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, _ := sysStat(info)
		if e.IsDir() {
			d.syncDir(p)
		} else if info.Mode().IsRegular() {
			d.syncFile(st.Ino, p)
		}
		return nil
	})
	if err != nil {
		d.t.Errorf("disk: %v", err)
	}
}

// durable reports whether the file below the volume would survive a power loss
// with these bytes, and no failed sync speaks against it.
func (d *disk) durable(name string, want []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	node, elems := d.node(d.dir), strings.Split(name, "/")
	for _, elem := range elems[:len(elems)-1] {
		next, ok := node.names[elem].(*dirNode)
		if !ok {
			return "directory " + elem + " is not durable"
		}
		node = next
	}
	f, ok := node.names[elems[len(elems)-1]].(*fileNode)
	switch {
	case !ok:
		return "its name is not durable"
	case !f.synced || string(f.data) != string(want):
		return "its bytes are not durable"
	case f.poisoned:
		return "a sync of it had failed"
	}
	return ""
}

// powerLoss leaves on the real disk what survives: what is durable, and of the
// rest what luck has written back already.
func (d *disk) powerLoss(luck *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := map[*fileNode][]byte{}
	tree := map[*dirNode]map[string]any{}
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			tree[d.node(p)] = d.names(p)
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, _ := sysStat(info)
		data, err := os.ReadFile(p)
		now[d.file(st.Ino)] = data
		return err
	})
	if err != nil {
		d.t.Errorf("disk: %v", err)
	}
	root := d.node(d.dir)
	entries, _ := os.ReadDir(d.dir)
	for _, e := range entries {
		os.RemoveAll(filepath.Join(d.dir, e.Name()))
	}
	d.rebuild(d.dir, root, tree, now, luck)
}

func (d *disk) rebuild(path string, node *dirNode, tree map[*dirNode]map[string]any, now map[*fileNode][]byte, luck *rand.Rand) {
	names := map[string]any{}
	for name, is := range node.names {
		names[name] = is
	}
	for name, is := range tree[node] {
		if names[name] != is && luck.IntN(2) == 0 {
			names[name] = is
		}
	}
	for name, is := range node.names {
		file, _ := is.(*fileNode)
		if _, renamed := now[file]; renamed {
			continue // a rename is never torn: the old name goes with or after the new one's coming
		}
		if _, ok := tree[node][name]; !ok && luck.IntN(2) == 0 {
			delete(names, name) // a removal that was written back
		}
	}
	for name, is := range names {
		p := filepath.Join(path, name)
		switch is := is.(type) {
		case *dirNode:
			if err := os.Mkdir(p, 0o755); err != nil {
				d.t.Errorf("disk: %v", err)
			}
			d.rebuild(p, is, tree, now, luck)
		case *fileNode:
			data := is.data
			if later, ok := now[is]; ok && string(later) != string(data) {
				switch luck.IntN(4) {
				case 0: // written back
					data = later
				case 1: // the new length with zeros for bytes
					data = make([]byte, len(later))
				case 2: // half
					data = later[:len(later)/2]
				}
			}
			if err := os.WriteFile(p, data, 0o600); err != nil {
				d.t.Errorf("disk: %v", err)
			}
		}
	}
}
