package queue

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue/answers"
)

const (
	defaultWait = 5 * time.Second
	dirMode     = 0o750
)

// Path is the file of a state directory's queue.
func Path(dir string) string { return dbPath(dir) }

func dbPath(dir string) string { return filepath.Join(dir, "queue.db") }

// Open opens the queue in a state directory, and makes both where they are not
// there yet. It fails with ErrLocked where another process has it, with a
// *DamageError where the file cannot be trusted (never with an empty queue in its
// place), and where the directory lies on a file system that bbolt's locks and
// mapping cannot trust. For reading only it fails with fs.ErrNotExist where there
// is no queue.
func Open(dir string, options Options) (*Queue, error) {
	q := &Queue{
		dir: dir, path: dbPath(dir), options: options,
		ops: make(chan *operation), pings: make(chan struct{}),
		closing: make(chan struct{}), stopped: make(chan struct{}), dead: make(chan struct{}),
	}
	if err := q.open(); err != nil {
		if q.db != nil {
			_ = q.db.Close()
		}
		if q.lock != nil {
			_ = q.lock.Close()
		}
		return nil, explain(err, dir)
	}
	if options.ReadOnly {
		close(q.stopped)
	} else {
		go q.write()
	}
	return q, nil
}

func (q *Queue) open() error {
	if !q.options.ReadOnly {
		if _, err := durable.MkdirAll(q.dir, dirMode); err != nil {
			return err
		}
	}
	warning, err := Suitable(q.dir)
	if err != nil {
		return err
	}
	q.warn(warning)
	if q.lock, err = lockDir(q.dir, q.options.ReadOnly, q.lockWait()); err != nil {
		return err
	}
	if !q.options.ReadOnly {
		if err := errors.Join(q.removeHalf(), q.create()); err != nil {
			return err
		}
	}
	badHead, err := inspect(q.Path(), inspectionSize)
	if err != nil {
		return err
	}
	q.warn(badHead)
	if err := q.openFile(badHead != ""); err != nil {
		return err
	}
	q.answers = answers.New(q.dir)
	if q.options.ReadOnly {
		return nil
	}
	return q.sweepAnswers()
}

func (q *Queue) lockWait() time.Duration { return cmp.Or(q.options.LockWait, defaultWait) }

func (q *Queue) warn(warning string) {
	if warning != "" {
		q.warnings = append(q.warnings, warning)
	}
}

// create makes the file where there is none: under another name and synced, so
// that what stands under the final name is whole from the first moment on.
func (q *Queue) create() error {
	if gone, err := missing(q.Path()); err != nil || !gone {
		return err
	}
	q.fresh = true
	return q.replace(func(db *bolt.DB) error {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		return initialize(db, id[:])
	})
}

// openFile has bbolt open the file, and sees that what is in it is a queue.
func (q *Queue) openFile(badHead bool) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = damaged(q.Path(), fault)
		}
	}()
	if err := q.openDB(); err != nil {
		return err
	}
	if badHead && !q.options.ReadOnly { // the next commit writes that one
		if err := q.db.Update(func(*bolt.Tx) error { return nil }); err != nil {
			return err
		}
		badHead = false
	}
	if err := q.check(!badHead && used(q.db) <= inspectionSize); err != nil {
		return err
	}
	if err := q.acquit(); err != nil || q.options.ReadOnly {
		return err
	}
	if !q.sealed {
		return q.migrate()
	}
	if q.mostlyFree() {
		return q.compact()
	}
	return nil
}

func (q *Queue) openDB() error {
	db, err := bolt.Open(q.Path(), 0o600, &bolt.Options{
		Timeout:         q.lockWait(),
		ReadOnly:        q.options.ReadOnly,
		PreLoadFreelist: true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize(),
		MaxSize:         int(q.options.MaxSize),
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			q.file = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(q.Path())
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return damaged(q.Path(), err)
	case err != nil:
		return err
	}
	q.db = db
	return nil
}

// mapSize is how much is mapped from the start: while the file is smaller, no
// reader holds the writer up. It is address space, not memory; where that is
// short, it is less.
func mapSize() int {
	if strconv.IntSize == 32 {
		return 64 << 20
	}
	return 256 << 20
}

// check sees that the file holds a queue and, where thorough, that its pages
// agree with each other: bbolt's own check, which wants both heads.
func (q *Queue) check(thorough bool) error {
	return q.db.View(func(tx *bolt.Tx) error {
		for b := range buckets {
			if tx.Bucket(b.name()) == nil && b != bOutbox { // which earlier versions did not have
				return damaged(q.Path(), fmt.Sprintf("no queue of assetd: it has no %q", b.name()))
			}
		}
		found := string(tx.Bucket(bMeta.name()).Get([]byte(keySchema)))
		if found != schema && found != schemaUnsealed {
			return fmt.Errorf("%s has the schema %.40q, this assetd knows %q: use the assetd that wrote it", q.Path(), found, schema)
		}
		q.sealed = found == schema
		t := q.txn(tx)
		q.id = string(t.get(bMeta, []byte(keyID)))
		service, err := decodeService(t.get(bMeta, []byte(keyService)))
		if err := t.sound(nil); err != nil {
			return inFile(q.Path(), err)
		}
		if err != nil || q.id == "" {
			return damaged(q.Path(), "its ID or its clock cannot be read")
		}
		q.service = service
		if !thorough {
			return nil
		}
		if err := q.pages(tx); err != nil {
			return err
		}
		return inFile(q.Path(), t.sums())
	})
}

// pages runs bbolt's own check.
func (q *Queue) pages(tx *bolt.Tx) error {
	finding := ""
	for err := range tx.Check(bolt.WithKVStringer(brief{})) {
		if finding == "" {
			finding = err.Error()
		}
	}
	if finding != "" {
		return damaged(q.Path(), finding)
	}
	return nil
}

// brief shows keys and values in bbolt's findings: damaged lengths are no reason
// to print the file.
type brief struct{}

func (brief) KeyToString(b []byte) string   { return hex.EncodeToString(b[:min(len(b), 32)]) }
func (brief) ValueToString(b []byte) string { return hex.EncodeToString(b[:min(len(b), 32)]) }

// explain adds what a person can do to an error of the file system.
func explain(err error, dir string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("state directory %s: %w; the user assetd runs as (uid %d) must own it and what is in it", dir, err, os.Geteuid())
	}
	return err
}
