package boltkv

import (
	"errors"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// What tests reach for inside.
const (
	CompactFrom  = compactFrom
	CompactAgain = compactAgain
	PageHeader   = pageHeader
	FlagBranch   = flagBranch
	FlagLeaf     = flagLeaf
	FlagFreelist = flagFreelist
)

var (
	HalfPath    = halfPath
	SuspectPath = suspectPath
	JudgeType   = judgeType
	Seal        = seal
	Unseal      = unseal
)

// Strict has bbolt check all of the file after every commit.
func (s *Store) Strict() { s.db.StrictMode = true }

// Lax is for tests that write more than can be checked.
func (s *Store) Lax() { s.db.StrictMode = false }

// Fail makes the store fail of damage.
func (s *Store) Fail(fault any) { _ = s.fail(damaged(s.path, fault)) }

// Failed judges a commit.
func (s *Store) Judge(err error, id int) error { return s.failed(err, id) }

// File is bbolt's own.
func (s *Store) File() *os.File { return s.file }

// LastID is the number of the last commit.
func (s *Store) LastID() (id int) {
	_ = s.db.View(func(tx *bolt.Tx) error {
		id = tx.ID()
		return nil
	})
	return id
}

// UsedPages reports which pages of a file are in use, and their size in bytes.
func UsedPages(r io.ReaderAt) (used []int, size int, err error) {
	meta, _ := readMetas(r)
	i := inspection{r: r, meta: meta, seen: make([]uint64, meta.pages/64+1)}
	err = errors.Join(i.freelist(), i.tree(meta.root))
	for id := range int(meta.pages) {
		if i.seen[id/64]&(1<<(id%64)) != 0 {
			used = append(used, id)
		}
	}
	return used, int(meta.pageSize), err
}
