package boltkv

import (
	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/queue/kv"
)

// Format is what is in a file.
type Format struct {
	Schema   string // of files whose values have checksums
	Unsealed string // of files of earlier versions, whose values have none
	Buckets  []Bucket

	// Create fills a new file.
	Create func(kv.Tx) error
	// Check sees that what is in a file can be used, as far as depth says. It returns
	// a *kv.DamageError where it cannot.
	Check func(tx kv.Tx, depth Depth) error
	// Migrate copies a file of the unsealed schema: write runs a transaction in the new
	// file, which holds nothing yet.
	Migrate func(old *Tx, write func(func(kv.Tx) error) error) error
}

// Bucket describes one of a format's buckets.
type Bucket struct {
	Name     string
	Appended bool // keys mostly come in their order: pages are filled up
	Late     bool // not in all files of the unsealed schema
}

// Depth is how much of a file is checked.
type Depth int

// The depths.
const (
	Head    Depth = iota // what nobody can do without
	Entries              // every entry, by its checksum
	Records              // every record, by what is in it
)

// The schema is under this key, without a checksum. It is no entry for users of the file.
const (
	schemaBucket = kv.Bucket(0)
	schemaKey    = "schema"
)

// prepare makes the buckets and the schema in an empty file.
func (f *Format) prepare(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error {
		for _, b := range f.Buckets {
			if _, err := tx.CreateBucket([]byte(b.Name)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(f.Buckets[schemaBucket].Name)).Put([]byte(schemaKey), []byte(f.Schema))
	})
}

// writer returns a function that runs transactions in a file that is being made.
func (f *Format) writer(db *bolt.DB) func(func(kv.Tx) error) error {
	return func(change func(kv.Tx) error) error {
		return db.Update(func(tx *bolt.Tx) error {
			t := newTx(tx, f, true)
			return t.sound(change(t))
		})
	}
}
