package manifest

import (
	"bytes"
	"fmt"

	"github.com/assetd/assetd/internal/run"
)

// Record is what stands beside a settled run's files; nil where a file is missing.
type Record struct {
	Manifest, Sums []byte
}

// Comparison is a run's record held against the queue.
type Comparison struct {
	Faults []string // in words that begin with the file's name; none: it is as it was written
	// Only are assets that the manifest alone names as stored: a queue that was
	// restored from a backup may know less than the volume.
	Only []run.Adopted
}

// Compare holds the record of a settled run against what the queue has of it. A
// manifest with a later revision than the queue's is no fault: the queue may have
// been restored.
func Compare(r run.Run, assets []run.Asset, rec Record) (c Comparison) {
	if rec.Manifest == nil {
		c.Faults = []string{File + " is missing"}
		return c
	}
	m, err := Parse(rec.Manifest)
	switch {
	case err != nil:
		c.Faults = []string{File + " cannot be read: " + err.Error()}
		return c
	case m.RunID != r.ID:
		c.Faults = []string{fmt.Sprintf("%s is that of run %.70q", File, m.RunID)}
		return c
	case m.Revision < r.Revision:
		c.fault("%s has revision %d, %d was written", File, m.Revision, r.Revision)
	case m.Revision == r.Revision && m.Outcome != r.Outcome && r.Outcome != "":
		c.fault("%s says outcome %.20q, which is %q", File, m.Outcome, r.Outcome)
	}
	named := m.stored()
	for _, a := range inOrder(assets) {
		if a.State != run.AssetStored || a.Stored == nil {
			continue
		}
		is, ok := named[a.Key]
		delete(named, a.Key)
		switch s := a.Stored; {
		case !ok:
			c.fault("%s does not name %s", File, s.File)
		case *is.File != s.File || *is.Size != s.Size || *is.SHA256 != s.SHA256:
			c.fault("%s says of %s what is not so: it was stored as %s, %d bytes, SHA-256 %s", File, a.Key, s.File, s.Size, s.SHA256)
		}
	}
	c.only(m, named)
	var sums bytes.Buffer
	_ = m.WriteSums(&sums) // to a buffer
	switch {
	case sums.Len() > 0 && rec.Sums == nil:
		c.fault("%s is missing", SumsFile)
	case sums.Len() > 0 && !bytes.Equal(sums.Bytes(), rec.Sums):
		c.fault("%s is not what %s says", SumsFile, File)
	}
	return c
}

// mostFaults bounds how many faults of one run are told.
const mostFaults = 10

func (c *Comparison) fault(format string, args ...any) {
	switch n := len(c.Faults); {
	case n < mostFaults:
		c.Faults = append(c.Faults, fmt.Sprintf(format, args...))
	case n == mostFaults:
		c.Faults = append(c.Faults, File+" has further faults")
	}
}

// only takes what the manifest alone names, in its order.
func (c *Comparison) only(m Manifest, named map[run.Key]Asset) {
	for _, a := range m.Assets {
		key := run.Key{Run: m.RunID, Kind: a.Kind, ID: a.ID}
		if _, ok := named[key]; !ok {
			continue
		}
		delete(named, key)
		c.Only = append(c.Only, run.Adopted{Key: key, Stored: run.Stored{File: *a.File, Size: *a.Size, SHA256: *a.SHA256}})
	}
}
