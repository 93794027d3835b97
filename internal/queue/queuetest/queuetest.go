// Package queuetest is the suite that every engine of the queue passes: the contract of
// package kv, and the rules of the queue on that engine, held against a model.
package queuetest

import (
	"os"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
)

// Engine opens the store of a directory: an empty one the first time, later what was
// committed before. The store before it was closed.
type Engine func(t testing.TB, dir string) kv.Store

// Run runs the suite.
func Run(t *testing.T, engine Engine) {
	for name, test := range map[string]func(*testing.T, Engine){
		"a cursor is ordered and sees own writes":   cursors,
		"a part of a transaction is taken back":     parts,
		"a transaction is all or nothing":           transactions,
		"a view sees one state":                     snapshots,
		"what is committed is found again":          durability,
		"damage ends the store":                     failures,
		"a closed store says so":                    closing,
		"the queue does what its model does":        modelled,
		"operations that wait share a commit":       groupCommits,
		"a refused operation disturbs no other":     refusals,
		"no value has the query of a URL":           secrets,
		"an operation that changes nothing is free": nothingNew,
	} {
		t.Run(name, func(t *testing.T) { test(t, engine) })
	}
}

// Noon is when the queues of the suite begin.
func Noon() time.Time { return time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC) }

// directory is in memory where that is possible: the suite is about what is recorded, not
// about disks.
func directory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "queue")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
