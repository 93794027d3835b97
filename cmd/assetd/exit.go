package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// The exit codes of the contract (design 3.1).
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitLost        = 3  // an asset was lost or is damaged
	exitRunFailed   = 4  // a run ended `failed`
	exitTimeout     = 5  // not finished within --timeout
	exitConfig      = 78 // EX_CONFIG of sysexits.h
	exitInterrupted = 130
)

// codedError carries the code that a command ends with. An empty text prints nothing.
type codedError struct {
	code int
	err  error
}

func (e codedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e codedError) Unwrap() error { return e.err }

func withCode(code int, format string, args ...any) error {
	return codedError{code, fmt.Errorf(format, args...)}
}

// exitCode is the code for a command's error, given the context it ran in.
func exitCode(ctx context.Context, err error) int {
	var coded codedError
	var sig interrupted
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.code
	case errors.As(context.Cause(ctx), &sig) && sig.sig == syscall.SIGINT:
		return exitInterrupted
	default:
		return exitError
	}
}
