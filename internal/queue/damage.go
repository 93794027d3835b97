package queue

import (
	"errors"
	"fmt"
	"runtime"
)

// DamageError is a queue file that cannot be used as it is. The file was not
// changed.
type DamageError struct {
	File    string
	Finding string // what is wrong with it
	Mend    string // what a person can do
	Err     error  // the cause, if there is one
}

// Error names file, finding and mend.
func (d *DamageError) Error() string {
	return fmt.Sprintf("the queue %s is damaged: %s; %s", d.File, d.Finding, d.Mend)
}

// Unwrap is the cause.
func (d *DamageError) Unwrap() error { return d.Err }

const mend = "`assetd run` restores the newest good copy by itself, `assetd restore FILE` one of yours; where there is none, " +
	"move it aside, take the volume for a new one with `assetd check --adopt-volume`, " +
	"move the drop files of accepted/ and rejected/ into the drop directory again and start: what is stored is not fetched twice"

// damaged makes a panic of bbolt, or a fault of the mapped file, an error.
func damaged(file string, fault any) error {
	d := &DamageError{File: file, Finding: fmt.Sprint(fault), Mend: mend}
	if err, ok := fault.(error); ok {
		d.Err = err
	}
	if _, ok := fault.(runtime.Error); ok { // a page was read that is none
		d.Finding = "its pages do not fit together (" + d.Finding + ")"
	}
	return d
}

// inFile names the file in an error that is a *DamageError.
func inFile(path string, err error) error {
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		damage.File = path
	}
	return err
}
