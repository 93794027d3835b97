package boltkv_test

import (
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/queue/queuetest"
)

func TestStore_PassesTheSuite(t *testing.T) {
	format := queue.Format() // its buckets, and whatever the suite puts into them
	format.Create = func(kv.Tx) error { return nil }
	format.Check = func(kv.Tx, boltkv.Depth) error { return nil }
	queuetest.Run(t, func(t testing.TB, dir string) kv.Store {
		store, err := boltkv.Open(dir, format, boltkv.Options{LockWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		store.Strict()
		return store
	})
}
