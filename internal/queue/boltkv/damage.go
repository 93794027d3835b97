package boltkv

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/assetd/assetd/internal/queue/kv"
)

// damaged makes a panic of bbolt, or a fault of the mapped file, an error.
func damaged(file string, fault any) error {
	d := kv.Damaged(fmt.Sprint(fault), nil)
	d.File = file
	if err, ok := fault.(error); ok {
		d.Err = err
	}
	if _, ok := fault.(runtime.Error); ok { // a page was read that is none
		d.Finding = "its pages do not fit together (" + d.Finding + ")"
	}
	return d
}

// inFile names the file in an error that is a *kv.DamageError.
func inFile(path string, err error) error {
	if damage := (*kv.DamageError)(nil); errors.As(err, &damage) {
		damage.File = path
	}
	return err
}

// guard makes a panic of bbolt, or a fault of its mapping, a *kv.DamageError of the
// file: to be deferred as guard(path, &err)().
func guard(path string, err *error) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if fault := recover(); fault != nil {
			*err = damaged(path, fault)
		}
	}
}
