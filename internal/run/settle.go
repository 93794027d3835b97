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

// Finding is what verify found of one stored file, or of the run's own record
// where the key has no ID.
type Finding struct {
	Key    Key
	Damage string // redacted, for people; empty: it is whole
}

// Record reports whether the finding is about the run's manifest and SHA256SUMS.
func (f Finding) Record() bool { return f.Key.ID == "" && f.Key.Kind == "" }

// Retried is what a retry did.
type Retried struct {
	Run     Run      // as it stands now
	Tried   bool     // it is tried again; false: it is open and tried anyway, or nothing of it is missing
	Lost    int      // assets that were lost and are tried again
	Damaged int      // assets that were marked and are fetched anew
	Aside   []string // where damaged files lie now, below storage.dir
}
