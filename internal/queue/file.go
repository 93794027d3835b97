package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
)

// A queue in a state directory: this file alone knows which engine that is.

// Open opens the queue in a state directory, and makes both where they are not there
// yet. It fails as boltkv.Open does.
func Open(dir string, options Options) (*Queue, error) {
	store, err := boltkv.Open(dir, Format(), boltkv.Options{
		Tell: options.Tell, ReadOnly: options.ReadOnly, LockWait: options.LockWait,
		MaxSize: options.MaxSize, Timed: options.Timed, CompactFrom: options.CompactFrom,
	})
	if err != nil {
		return nil, err
	}
	q, err := New(store, answers.New(dir), options)
	if err != nil {
		return nil, boltkv.Explain(errors.Join(err, store.Close()), dir)
	}
	return q, nil
}

// Format is what is in the file.
func Format() boltkv.Format {
	f := boltkv.Format{
		Schema: "assetd/queue/2", Unsealed: "assetd/queue/1",
		Buckets: make([]boltkv.Bucket, buckets),
		Create:  create, Check: check, Migrate: migrate,
	}
	for b := range buckets {
		f.Buckets[b] = boltkv.Bucket{Name: bucketName(b), Appended: b == bDue || b == bHistory || b == bOutbox, Late: b == bOutbox}
	}
	return f
}

// check sees that what is in a file can be used.
func check(tx kv.Tx, depth boltkv.Depth) error {
	t := &txn{tx: tx}
	switch depth {
	case boltkv.Entries:
		return t.checkEntries()
	case boltkv.Records:
		return errors.Join(t.checkEntries(), t.checkRecords())
	default:
		_, _, err := t.identity()
		return err
	}
}

// migrateStep is how many bytes are copied in one transaction of a migration.
const migrateStep = 16 << 20

// migrate copies a queue of the schema before this one, in which the counts lacked the
// entries of the buckets, and in whose first versions damaged runs had no index.
func migrate(old *boltkv.Tx, write func(func(kv.Tx) error) error) error {
	from := &txn{tx: old}
	if err := from.readCounts(); err != nil {
		return err
	}
	counts := counts{states: from.counts.states, notices: int64(old.Sequence(bOutbox))}
	for b := range buckets {
		c := old.Cursor(b)
		for k, v := c.First(); k != nil; {
			err := write(func(tx kv.Tx) error {
				t := &txn{tx: tx, counts: counts}
				for size := 0; k != nil && size < migrateStep; k, v = c.Next() {
					size += len(k) + len(v)
					if err := t.migrate(b, k, v); err != nil {
						return err
					}
				}
				err := t.writeCounts()
				counts = t.counts
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Copy is what is in a copy of a queue.
type Copy struct {
	Path string
	ID   string    // of the queue that it is a copy of
	At   time.Time // all that was durable at this moment of the local clock is in it; zero: nobody knows
	Runs int
	Size int64 // bytes
}

// Backup writes a copy of the queue as it is at this moment to path, durably and checked
// as Verify does; it fails as boltkv.Store.Copy does. A copy holds no signed URL: it has
// no answers.
func (q *Queue) Backup(ctx context.Context, path string) (c Copy, err error) {
	store, ok := q.store.(*boltkv.Store)
	if !ok {
		return c, fmt.Errorf("copying the queue %s: %w", q.store.Name(), errors.ErrUnsupported)
	}
	began := q.now()
	stamp := func(tx kv.Tx) error {
		t := &txn{tx: tx}
		if err := t.readCounts(); err != nil {
			return err
		}
		return errors.Join(t.put(bMeta, []byte(keyCopied), encodeService(time.Duration(began.UnixNano()))), t.writeCounts())
	}
	err = store.Copy(ctx, path, stamp, func(temp string) error {
		c, err = Verify(temp)
		return err
	})
	c.Path = path
	return c, err
}

// Verify sees that a file is a whole copy of a queue that this assetd can read: its pages
// agree with each other, and every record in it can be read. It changes nothing. The
// error is a *kv.DamageError where the file cannot be trusted.
func Verify(path string) (Copy, error) {
	c := Copy{Path: path}
	size, err := boltkv.Verify(path, Format(), func(tx kv.Tx) error { return c.read(&txn{tx: tx}) })
	c.Size = size
	return c, err
}

func (c *Copy) read(t *txn) (err error) {
	if c.ID, _, err = t.identity(); err != nil {
		return err
	}
	if err := t.readCounts(); err != nil {
		return err
	}
	for _, s := range runStates() {
		c.Runs += int(*t.counts.run(s))
	}
	if value := t.get(bMeta, []byte(keyCopied)); value != nil {
		at, err := decodeService(value)
		if err != nil {
			return broken("entry", []byte(keyCopied), err)
		}
		c.At = time.Unix(0, int64(at)).UTC()
	}
	return nil
}

// Restore puts a copy in the place of a state directory's queue, durably: the copy is
// checked first (Verify), then before is called with what is in it. aside is where the
// queue that was there is now. It fails as boltkv.Restore does, and then that queue is as
// it was.
func Restore(dir, from, why string, before func(Copy) error) (c Copy, aside string, err error) {
	aside, err = boltkv.Restore(dir, from, why, func(path string) error {
		c, err = Verify(path)
		c.Path = from
		if damage := (*kv.DamageError)(nil); errors.As(err, &damage) {
			damage.File, damage.Hint = from, "it is no copy to go on with: take another one"
		}
		if err != nil {
			return err
		}
		return before(c)
	})
	return c, aside, err
}

// Erase removes a queue that nobody has open, with its answers. The directory stays, and
// so does everything else in it.
func Erase(dir string) error {
	return errors.Join(os.RemoveAll(answers.Dir(dir)), boltkv.Erase(dir))
}
