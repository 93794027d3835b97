// Package storage is the durable store: the volume that assets are kept on.
//
// It guarantees that what is under a media file's final name is whole, is
// synced with the directories that lead to it before the queue records `stored`,
// and is never overwritten; that nothing is written unless the volume's marker,
// read through the same os.Root, names this queue; that no name leaves the
// volume or goes through a symbolic link; and that after a failed write or sync
// nothing which could be wrong is ever trusted again.
//
// It leaves to others which asset comes first, what is in a part (transfer), and
// what is true (the queue: the order on disk is part synced, queue `verified`,
// rename, directories synced, queue `stored`).
package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// Config is the storage section of the configuration.
type Config struct {
	Dir      string      // storage.dir, absolute
	Default  bool        // Dir is the default one: made where it is missing
	Mounted  bool        // Dir must be another device than its parent
	RunDir   string      // template of a run's directory below Dir
	FileName string      // template of a file below the run's directory
	MinFree  int64       // bytes that assets leave free; records do not ask
	FileMode fs.FileMode // of stored files and records
	DirMode  fs.FileMode // of directories made here
}

// Runs is what storage reads of the queue.
type Runs interface {
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Asset(ctx context.Context, key run.Key) (run.Asset, error)
	Place(ctx context.Context, id run.ID, wanted string) (dir string, err error)
}

// Progress is what it records there of assets. Verified answers one error an
// item: nil, run.ErrNameTaken, run.ErrStale or run.ErrUnknown.
type Progress interface {
	Verified(ctx context.Context, batch []run.Named) ([]error, error)
	Stored(ctx context.Context, keys []run.Key) (ready []run.ID, err error)
	Again(ctx context.Context, key run.Key, reason string) (run.Asset, error)
}

// Owner is the queue that a volume belongs to.
type Owner interface {
	ID() string
	UsesVolume(dir string) (bool, error)
	UseVolume(ctx context.Context, dir string) error
}

// Ledger is the queue as storage sees it.
type Ledger interface {
	Runs
	Progress
	Owner
}

// Deps is what a volume works with; all of it but Timed is required.
type Deps struct {
	Ledger Ledger
	Ready  func([]run.ID)       // these runs have nothing open any more
	Broken func(err error) bool // the queue cannot go on
	Tell   run.Tell
	Timed  func(sync string, took time.Duration) // takes what syncs took, of a Sync... each; nil: nobody does
}

// What is synced, for Deps.Timed.
const (
	SyncFile       = "file"
	SyncDirectory  = "directory"
	SyncFileSystem = "file_system" // all that was written to it
)

// Events that only a volume emits.
const (
	VolumeTaken     run.EventKind = "volume taken into use"
	SyncUnsupported run.EventKind = "directories cannot be synced on this file system, going on without"
	NameTrouble     run.EventKind = "whole asset cannot get its final name yet"
)

// What stands in a volume besides the runs' directories.
const (
	metaDir        = ".assetd"
	markerFile     = metaDir + "/volume"
	partsDir       = metaDir + "/parts"
	quarantineDir  = metaDir + "/quarantine"
	partExt        = ".part"
	provisionalExt = ".early" // whole bytes, fetched before their run ended
	sidecarExt     = ".json"
	tempExt        = ".tmp"
)

// Volume is the store below one storage.dir. All methods are safe for
// concurrent use; Run may be called once.
type Volume struct {
	Config
	deps  Deps
	sys   calls
	names names
	boot  string // this boot's id; empty: unknown, then every start counts as a reboot

	masked bool // the umask takes something from DirMode

	minFree atomic.Int64
	taken   atomic.Bool // the marker was seen to name this queue since the start
	suspect atomic.Bool // a write was refused: Check has to try one
	noAlloc atomic.Bool // fallocate is not supported here
	told    atomic.Bool // SyncUnsupported was reported
	opened  atomic.Uint64

	checks       probe[struct{}]
	spaces       probe[int64]
	seen         atomic.Pointer[Space]
	looks        probe[Sight]
	capable      probe[[]Capability]
	reservations reservations
	committer    committer

	writers sync.Pool // of *bufio.Writer, for records

	mu    sync.Mutex
	inUse map[string]bool // hashes of the parts that are open or in the committer
}

// New makes a volume; it touches no file. An error names the template that
// cannot be used. Dir must be absolute.
func New(c Config, d Deps) (*Volume, error) {
	n, err := parseNames(c.RunDir, c.FileName)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(c.Dir) {
		return nil, fmt.Errorf("storage.dir %q is not an absolute path", c.Dir)
	}
	c.Dir = filepath.Clean(c.Dir)
	v := &Volume{Config: c, deps: d, sys: systemCalls(), names: n, boot: bootID(), inUse: map[string]bool{}}
	v.sys.timed(d.Timed)
	v.masked = c.DirMode.Perm()&umask() != 0
	v.writers.New = func() any { return bufio.NewWriterSize(nil, mostBuffered) }
	v.committer.init()
	v.minFree.Store(c.MinFree)
	return v, nil
}

// Configure takes the settings that can change while work goes on: MinFree.
func (v *Volume) Configure(c Config) { v.minFree.Store(c.MinFree) }

// bootID tells this boot from the one before.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// claim makes the caller the only user of a part until release.
func (v *Volume) claim(hash string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.inUse[hash] {
		return false
	}
	v.inUse[hash] = true
	return true
}

func (v *Volume) release(hash string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.inUse, hash)
}

// mount is the volume as one asset or one batch sees it: a root that was opened
// at storage.dir and whose marker, read through it, names this queue. A volume
// that is unmounted or swapped afterwards cannot slip in below.
type mount struct {
	v    *Volume
	root *os.Root
	id   fileID // of the root directory
}

// fileID tells two directories apart.
type fileID struct{ dev, ino uint64 }

// open opens the volume and reads its marker. The error is run.ErrVolumeOffline
// unless this process lacks something (descriptors, memory).
func (v *Volume) open() (*mount, error) {
	m, meta, err := v.openMeta()
	if err == nil {
		meta.close()
	}
	return m, err
}

// openMeta is open for one who goes on to what is next to the marker.
func (v *Volume) openMeta() (*mount, *folder, error) {
	m, err := v.openDir()
	if err != nil {
		return nil, nil, err
	}
	var mk marker
	meta, err := m.enter(metaDir, false)
	if err == nil {
		if mk, err = meta.marker(); err == nil && mk.Queue == v.deps.Ledger.ID() {
			return m, meta, nil
		}
		meta.close()
	}
	m.close()
	return nil, nil, v.foreign(mk, err)
}

// openDir opens storage.dir without looking at the marker.
func (v *Volume) openDir() (*mount, error) {
	root, err := v.sys.openRoot(v.Dir)
	if err != nil {
		return nil, v.unusable(v.Dir, err)
	}
	m := &mount{v: v, root: root}
	info, err := m.lstat(".")
	if err != nil {
		m.close()
		return nil, v.unusable(v.Dir, err)
	}
	if st, ok := sysStat(info); ok {
		m.id = fileID{st.Dev, st.Ino}
	}
	if err := v.checkMounted(m.id.dev); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// checkMounted holds storage.mounted: the directory that was opened must be on
// another device than its parent. The path goes through "..", as the kernel sees
// it, so that a symbolic link to a mount point counts as the mount.
func (v *Volume) checkMounted(dev uint64) error {
	if !v.Mounted {
		return nil
	}
	info, err := os.Stat(v.Dir + "/..")
	if err != nil {
		return v.unusable(v.Dir+"/..", err)
	}
	if st, ok := sysStat(info); ok && st.Dev == dev {
		return run.Because(run.ErrVolumeOffline, fmt.Errorf("nothing is mounted at %s, and storage.mounted says that something must be: mount it", v.Dir))
	}
	return nil
}

func (m *mount) close() { m.root.Close() }

// path is a name below storage.dir as people read it.
func (m *mount) path(name string) string { return filepath.Join(m.v.Dir, name) }

// unusable is why the volume, or one of its own files, cannot be opened.
func (v *Volume) unusable(path string, err error) error {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("opening %s: %w: raise the limit or lower download.workers", path, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return run.Because(run.ErrNoRoom, fmt.Errorf("opening %s: %w", path, err))
	case errors.Is(err, fs.ErrNotExist):
		return run.Because(run.ErrVolumeOffline, fmt.Errorf("%s is not there: mount the volume or make the directory", path))
	}
	v.suspect.Store(true)
	if errors.Is(err, fs.ErrPermission) {
		return run.Because(run.ErrVolumeOffline, fmt.Errorf("uid %d may not use %s: it needs read, write and search permission there: %w", os.Getuid(), path, err))
	}
	return run.Because(run.ErrVolumeOffline, fmt.Errorf("%s cannot be used: %w", path, err))
}

// explain is an error of a write with its object, its meaning and its hint.
func (v *Volume) explain(doing, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return run.Because(run.ErrNoRoom, fmt.Errorf("%s %s: %w", doing, path, err))
	case errors.Is(err, unix.EROFS):
		v.suspect.Store(true)
		return run.Because(run.ErrVolumeOffline, fmt.Errorf("%s %s: the file system is read-only, mount it writable: %w", doing, path, err))
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EHOSTDOWN):
		v.suspect.Store(true)
		return run.Because(run.ErrVolumeOffline, fmt.Errorf("%s %s: the file system has gone, mount it again: %w", doing, path, err))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: uid %d may not: give it read, write and search permission: %w", doing, path, os.Getuid(), err)
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("%s %s: the disk or its connection fails, see the kernel's log: %w", doing, path, err)
	default:
		return fmt.Errorf("%s %s: %w", doing, path, err)
	}
}
