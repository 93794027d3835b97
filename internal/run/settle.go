package run

import (
	"io"
	"time"
)

// Settlement ends a run: its manifest is written.
type Settlement struct {
	Run      ID
	Outcome  Outcome
	Revision int       // of the manifest that stands
	At       time.Time // UTC
}

// Adopted is an asset found stored by an older manifest of the same run.
type Adopted struct {
	Key    Key
	Stored Stored
}

// Records are the files that make a run's record, in the order in which they
// must become visible.
type Records struct {
	Dir   string // below storage.dir, slashes
	Files []Record
}

// Record is one file that may be replaced. Write writes what stands in it, in any
// number of pieces, and may be called anew; its error is w's, or why there is
// nothing whole to write.
type Record struct {
	Name  string
	Write func(w io.Writer) error
}

// Finding is what verify found of one stored file.
type Finding struct {
	Key    Key    `json:"key"`
	Damage string `json:"damage,omitempty"` // redacted, for people; empty: it is whole
}
