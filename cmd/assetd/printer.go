package main

import (
	"fmt"
	"io"
)

// printer writes to w and remembers the first error, so that a command whose
// output went nowhere does not end with 0.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
