// Package kv is the seam between the rules of the queue and the engine that keeps its
// records: ordered maps of bytes, called buckets, under transactions.
//
// An engine guarantees that a transaction is all or nothing, that what Update reports as
// done is durable, and that View sees the state between two transactions. Reads return
// no errors: a value that cannot be read makes the transaction fail at its end, whatever
// the caller did without the value. So the rules need no error path at every read, and
// an engine behind a network fits as well as a local file.
package kv

import "context"

// Bucket is one of the ordered maps of a store, by its place in the engine's list.
type Bucket uint8

// Store is an engine's open store. It is safe for concurrent use.
type Store interface {
	// View runs read in a transaction that changes nothing. It should be short: an
	// engine keeps what it sees.
	View(ctx context.Context, read func(Tx) error) error

	// Update runs change in a transaction and commits what it changed. One that changes
	// nothing costs no commit. With an error nothing is changed, and the transaction may
	// be tried again where the error is ErrFull; where the outcome is not known, the
	// store fails (Err). Transactions that change something run one after another.
	Update(ctx context.Context, change func(Tx) error) error

	// Maintain does what the engine wants done from time to time between transactions,
	// which wait for it.
	Maintain()

	// Stats returns figures of this moment.
	Stats(ctx context.Context) (Stats, error)

	// Name is what messages call the store: the path of its file.
	Name() string

	// Warnings are what opening the store found that a person should know.
	Warnings() []string

	// Err returns why the store has failed: the outcome of a commit is unknown, or a
	// *DamageError. Nothing works any more then. It is nil before that.
	Err() error

	// Failed is closed when the store fails.
	Failed() <-chan struct{}

	// Close waits for the transactions at hand and closes the store. Later ones fail
	// with ErrClosed.
	Close() error
}

// Stats are figures about a store.
type Stats struct {
	Size    int64 // bytes in use, free ones among them
	Free    int64 // bytes of Size that hold nothing
	Commits int64 // since it was opened
}

// Tx is a transaction. It is used by one goroutine. The slices that it returns are valid
// until it ends and must not be changed; a value returned before a change of the same
// key may be gone with that change.
type Tx interface {
	// Get returns the value of a key; nil where there is none.
	Get(b Bucket, key []byte) []byte

	// Put sets the value of a key, and reports whether the key is new. The store keeps
	// both slices, with their capacity. The value that is there already changes nothing.
	Put(b Bucket, key, value []byte) (added bool, err error)

	// Delete removes a key, and reports whether it was there. The store keeps the slice.
	Delete(b Bucket, key []byte) (deleted bool, err error)

	// Cursor returns a cursor over a bucket. What the transaction changes in the bucket
	// leaves the cursor in an undefined place: collect first, then change.
	Cursor(b Bucket) Cursor

	// Try runs a part of the transaction, and takes back all that this part changed
	// where it returns an error, which is also Try's.
	Try(part func() error) error
}

// Cursor moves through a bucket in the order of its keys. Each method returns the key
// and value it moved to, and a nil key where there is none.
type Cursor interface {
	First() (key, value []byte)
	Last() (key, value []byte)
	Next() (key, value []byte)
	Prev() (key, value []byte)
	Seek(from []byte) (key, value []byte) // the first key that is not less than from
}
