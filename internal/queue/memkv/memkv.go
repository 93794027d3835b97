// Package memkv is an engine of package kv that keeps everything in memory: for tests,
// which get real transactions without a disk.
//
// Each bucket is an immutable tree, of which a change copies the path to its root. So a
// transaction reads the trees as they were when it began, whatever is committed
// meanwhile, and taking changes back means going on with the trees from before. Waiting
// for one's turn is waiting on a channel, which counts as blocked in testing/synctest.
package memkv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/assetd/assetd/internal/queue/kv"
)

// Store is a kv.Store. It is safe for concurrent use.
type Store struct {
	turn    chan struct{} // has one element while nobody updates
	buckets atomic.Pointer[[]*node]
	commits atomic.Int64
	closed  atomic.Bool
	full    atomic.Bool
	failure *kv.Failure
	breaks  atomic.Pointer[error]
}

// New returns an empty store.
func New() *Store {
	s := &Store{turn: make(chan struct{}, 1), failure: kv.NewFailure()}
	s.turn <- struct{}{}
	s.buckets.Store(&[]*node{})
	return s
}

// Reopen returns a store with all that was committed, as after a crash.
func (s *Store) Reopen() *Store {
	again := New()
	again.buckets.Store(s.buckets.Load())
	return again
}

// SetFull has all commits fail with kv.ErrFull from now on, or no longer.
func (s *Store) SetFull(full bool) { s.full.Store(full) }

// Break has the next commit fail with this error, so that its outcome is unknown.
func (s *Store) Break(err error) { s.breaks.Store(&err) }

// View reads what was committed before.
func (s *Store) View(ctx context.Context, read func(kv.Tx) error) error {
	if err := errors.Join(ctx.Err(), s.usable()); err != nil {
		return err
	}
	return s.judge(read(&tx{buckets: *s.buckets.Load()}))
}

// Update commits what change does.
func (s *Store) Update(ctx context.Context, change func(kv.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.turn:
	}
	defer func() { s.turn <- struct{}{} }()
	if err := s.usable(); err != nil {
		return err
	}
	t := &tx{buckets: slices.Clone(*s.buckets.Load()), writes: true}
	if err := change(t); err != nil {
		return s.judge(err)
	}
	if !t.changed {
		return nil
	}
	if broken := s.breaks.Load(); broken != nil {
		return s.fail(fmt.Errorf("%s: outcome of a commit unknown: %w", s.Name(), *broken))
	}
	if s.full.Load() {
		return kv.ErrFull
	}
	s.buckets.Store(&t.buckets)
	s.commits.Add(1)
	return nil
}

// judge makes damage the end of the store.
func (s *Store) judge(err error) error {
	if damage := (*kv.DamageError)(nil); errors.As(err, &damage) {
		damage.File = s.Name()
		return s.fail(err)
	}
	return err
}

func (s *Store) fail(err error) error {
	s.failure.Set(err)
	return s.Err()
}

func (s *Store) usable() error {
	switch {
	case s.Err() != nil:
		return s.Err()
	case s.closed.Load():
		return kv.ErrClosed
	}
	return nil
}

// Maintain does nothing: nothing is to be done.
func (s *Store) Maintain() {}

// Stats returns the number of commits, and no sizes.
func (s *Store) Stats(ctx context.Context) (kv.Stats, error) {
	return kv.Stats{Commits: s.commits.Load()}, errors.Join(ctx.Err(), s.usable())
}

// Name says that the store is in memory.
func (s *Store) Name() string { return "in memory" }

// Warnings returns none.
func (s *Store) Warnings() []string { return nil }

// Err returns why the store has failed.
func (s *Store) Err() error { return s.failure.Err() }

// Failed is closed when the store fails.
func (s *Store) Failed() <-chan struct{} { return s.failure.Failed() }

// Close waits for the update at hand.
func (s *Store) Close() error {
	<-s.turn
	s.closed.Store(true)
	s.turn <- struct{}{}
	return nil
}

// tx is a kv.Tx.
type tx struct {
	buckets []*node
	writes  bool
	changed bool
}

func (t *tx) root(b kv.Bucket) *node {
	if int(b) >= len(t.buckets) {
		return nil
	}
	return t.buckets[b]
}

func (t *tx) setRoot(b kv.Bucket, root *node) error {
	if !t.writes {
		return kv.ErrReadOnly
	}
	for int(b) >= len(t.buckets) {
		t.buckets = append(t.buckets, nil)
	}
	t.buckets[b], t.changed = root, true
	return nil
}

// Get returns the value of a key.
func (t *tx) Get(b kv.Bucket, key []byte) []byte {
	if n := t.root(b).find(string(key)); n != nil {
		return n.value
	}
	return nil
}

// Put sets the value of a key.
func (t *tx) Put(b kv.Bucket, key, value []byte) (added bool, err error) {
	was := t.root(b).find(string(key))
	if was != nil && bytes.Equal(was.value, value) {
		return false, nil
	}
	if value == nil {
		value = []byte{}
	}
	return was == nil, t.setRoot(b, t.root(b).put(string(key), value))
}

// Delete removes a key.
func (t *tx) Delete(b kv.Bucket, key []byte) (deleted bool, err error) {
	if t.root(b).find(string(key)) == nil {
		return false, nil
	}
	return true, t.setRoot(b, t.root(b).remove(string(key)))
}

// Try runs a part of the transaction, all or nothing.
func (t *tx) Try(part func() error) error {
	before := tx{slices.Clone(t.buckets), t.writes, t.changed}
	err := part()
	if err != nil {
		*t = before
	}
	return err
}

// Cursor returns a cursor over a bucket.
func (t *tx) Cursor(b kv.Bucket) kv.Cursor { return &cursor{t: t, b: b} }

// cursor remembers a key, and looks up its neighbour at each move.
type cursor struct {
	t  *tx
	b  kv.Bucket
	at string
}

func (c *cursor) root() *node { return c.t.root(c.b) }

func (c *cursor) move(n *node) (key, value []byte) {
	if n == nil {
		return nil, nil
	}
	c.at = n.key
	return []byte(n.key), n.value
}

func (c *cursor) First() (key, value []byte) { return c.move(c.root().above("", true)) }
func (c *cursor) Last() (key, value []byte)  { return c.move(c.root().last()) }
func (c *cursor) Next() (key, value []byte)  { return c.move(c.root().above(c.at, false)) }
func (c *cursor) Prev() (key, value []byte)  { return c.move(c.root().below(c.at)) }
func (c *cursor) Seek(from []byte) (key, value []byte) {
	return c.move(c.root().above(string(from), true))
}
