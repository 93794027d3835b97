package kv

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Errors of every engine.
var (
	ErrFull     = errors.New("no room for the queue") // nothing was changed; try again later
	ErrClosed   = errors.New("the queue is closed")
	ErrReadOnly = errors.New("the queue is open for reading only")
)

// DamageError is a store that cannot be used as it is. Nothing in it was changed.
type DamageError struct {
	File    string // or whatever the store is called; the engine sets it
	Finding string // what is wrong
	Hint    string // what a person can do
	Err     error  // the cause, if there is one
}

// Damaged returns a damage with the usual hint. A damage that a transaction returns
// makes its store fail.
func Damaged(finding string, cause error) *DamageError {
	return &DamageError{Finding: finding, Hint: hint, Err: cause}
}

const hint = "`assetd run` restores the newest good copy by itself, `assetd restore FILE` one of yours; where there is none, " +
	"move it aside, take the volume for a new one with `assetd check --adopt-volume`, " +
	"move the drop files of accepted/ and rejected/ into the drop directory again and start: what is stored is not fetched twice"

// Error names file, finding and hint.
func (d *DamageError) Error() string {
	return fmt.Sprintf("the queue %s is damaged: %s; %s", d.File, d.Finding, d.Hint)
}

// Unwrap returns the cause.
func (d *DamageError) Unwrap() error { return d.Err }

// Failure is why an engine's store has failed, if it has. It is safe for concurrent use.
type Failure struct {
	cause atomic.Pointer[error]
	done  chan struct{}
}

// NewFailure returns the failure of a store that works.
func NewFailure() *Failure { return &Failure{done: make(chan struct{})} }

// Set makes the store fail. It reports whether this cause is the first one, which is the
// one that counts.
func (f *Failure) Set(cause error) bool {
	first := f.cause.CompareAndSwap(nil, &cause)
	if first {
		close(f.done)
	}
	return first
}

// Err returns the cause; nil while the store works.
func (f *Failure) Err() error {
	if cause := f.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// Failed is closed when the store fails.
func (f *Failure) Failed() <-chan struct{} { return f.done }
