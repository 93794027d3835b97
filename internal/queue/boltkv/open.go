package boltkv

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue/kv"
)

const (
	defaultWait = 5 * time.Second
	dirMode     = 0o750
)

// Path is the file of a state directory.
func Path(dir string) string { return filepath.Join(dir, "queue.db") }

// Open opens the file in a state directory, and makes both where they are not there yet.
// It fails with ErrLocked where another process has it, with a *kv.DamageError where the
// file cannot be trusted (never with an empty one in its place), and with a
// *FilesystemError. For reading only it fails with fs.ErrNotExist where there is no file.
func Open(dir string, format Format, options Options) (*Store, error) {
	s := &Store{
		dir: dir, path: Path(dir), format: format, options: options,
		failure: kv.NewFailure(), closing: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		if s.db != nil {
			_ = s.db.Close()
		}
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, Explain(err, dir)
	}
	return s, nil
}

func (s *Store) open() error {
	if !s.options.ReadOnly {
		if _, err := durable.MkdirAll(s.dir, dirMode); err != nil {
			return err
		}
	}
	warning, err := Suitable(s.dir)
	if err != nil {
		return err
	}
	s.warn(warning)
	if s.lock, err = lockDir(s.dir, s.options.ReadOnly, s.lockWait()); err != nil {
		return err
	}
	if !s.options.ReadOnly {
		if err := errors.Join(s.removeHalf(), s.create()); err != nil {
			return err
		}
	}
	badHead, err := inspect(s.path, inspectionSize)
	if err != nil {
		return err
	}
	s.warn(badHead)
	return s.openFile(badHead != "")
}

func (s *Store) lockWait() time.Duration { return cmp.Or(s.options.LockWait, defaultWait) }

func (s *Store) warn(warning string) {
	if warning != "" {
		s.warnings = append(s.warnings, warning)
	}
}

// create makes the file where there is none: under another name and synced, so that
// what is under the final name is whole from the first moment on.
func (s *Store) create() error {
	if gone, err := missing(s.path); err != nil || !gone {
		return err
	}
	return s.replace(func(db *bolt.DB) error {
		if err := s.format.prepare(db); err != nil {
			return err
		}
		return s.format.writer(db)(s.format.Create)
	})
}

// openFile has bbolt open the file, and sees that what is in it can be used.
func (s *Store) openFile(badHead bool) (err error) {
	defer guard(s.path, &err)()
	if err := s.openDB(); err != nil {
		return err
	}
	if badHead && !s.options.ReadOnly { // the next commit writes that one
		if err := s.db.Update(func(*bolt.Tx) error { return nil }); err != nil {
			return err
		}
		badHead = false
	}
	depth := Head
	if !badHead && used(s.db) <= inspectionSize {
		depth = Entries
	}
	if err := s.check(depth); err != nil {
		return err
	}
	if err := s.acquit(); err != nil || s.options.ReadOnly {
		return err
	}
	if !s.sealed {
		return s.migrate()
	}
	if s.mostlyFree() {
		return s.compact()
	}
	return nil
}

func (s *Store) openDB() error {
	db, err := bolt.Open(s.path, 0o600, &bolt.Options{
		Timeout:         s.lockWait(),
		ReadOnly:        s.options.ReadOnly,
		PreLoadFreelist: true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize(),
		MaxSize:         int(s.options.MaxSize),
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			s.file = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(s.path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return damaged(s.path, err)
	case err != nil:
		return err
	}
	s.db = db
	return nil
}

// mapSize is how much is mapped from the start: while the file is smaller, no reader
// holds the writer up. It is address space, not memory; where that is short, it is less.
func mapSize() int {
	if strconv.IntSize == 32 {
		return 64 << 20
	}
	return 256 << 20
}

// check sees that the file has the format and, from Entries on, that its pages agree
// with each other: bbolt's own check, which wants both heads.
func (s *Store) check(depth Depth) error {
	return s.db.View(func(tx *bolt.Tx) error {
		if err := s.recognize(tx); err != nil {
			return err
		}
		err := s.checkAt(tx, Head)
		if err == nil && depth > Head {
			if err = s.pages(tx); err == nil {
				err = s.checkAt(tx, depth)
			}
		}
		return err
	})
}

func (s *Store) checkAt(tx *bolt.Tx, depth Depth) error {
	t := s.tx(tx)
	return inFile(s.path, t.sound(s.format.Check(t, depth)))
}

// recognize sees that the file has the buckets and a schema that are known.
func (s *Store) recognize(tx *bolt.Tx) error {
	for _, b := range s.format.Buckets {
		if tx.Bucket([]byte(b.Name)) == nil && !b.Late {
			return damaged(s.path, fmt.Sprintf("no queue of assetd: it has no %q", b.Name))
		}
	}
	found := string(tx.Bucket([]byte(s.format.Buckets[schemaBucket].Name)).Get([]byte(schemaKey)))
	if found != s.format.Schema && found != s.format.Unsealed {
		return fmt.Errorf("%s has the schema %.40q, this assetd knows %q: use the assetd that wrote it", s.path, found, s.format.Schema)
	}
	s.sealed = found == s.format.Schema
	return nil
}

// pages runs bbolt's own check.
func (s *Store) pages(tx *bolt.Tx) error {
	finding := ""
	for err := range tx.Check(bolt.WithKVStringer(brief{})) {
		if finding == "" {
			finding = err.Error()
		}
	}
	if finding != "" {
		return damaged(s.path, finding)
	}
	return nil
}

// brief shows keys and values in bbolt's findings: damaged lengths are no reason to
// print the file.
type brief struct{}

func (brief) KeyToString(b []byte) string   { return hex.EncodeToString(b[:min(len(b), 32)]) }
func (brief) ValueToString(b []byte) string { return hex.EncodeToString(b[:min(len(b), 32)]) }

// migrate rewrites a file of the unsealed schema as one with checksums: the new file is
// complete and synced before it takes the old one's name.
func (s *Store) migrate() error {
	err := s.replace(func(to *bolt.DB) error {
		if err := s.format.prepare(to); err != nil {
			return err
		}
		return s.db.View(func(tx *bolt.Tx) error { return s.format.Migrate(s.tx(tx), s.format.writer(to)) })
	})
	if err != nil {
		return err
	}
	if err := s.reopen(); err != nil {
		return err
	}
	return s.check(Entries)
}

// Explain adds what a person can do to an error of the file system in a state directory.
func Explain(err error, dir string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("state directory %s: %w; the user assetd runs as (uid %d) must own it and what is in it", dir, err, os.Geteuid())
	}
	return err
}
