package run

import "time"

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

// Record is one small file that may be replaced.
type Record struct {
	Name string
	Data []byte
}
