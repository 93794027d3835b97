package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
)

// AdoptVolume makes the volume at storage.dir the one of this configuration's queue,
// whatever it was before. No daemon may run. tell takes what was done.
func AdoptVolume(ctx context.Context, c *config.Config, tell run.Tell) error {
	if err := pipeline.MakeStateDir(c.State.Dir); err != nil {
		return err
	}
	q, err := queue.Open(c.State.Dir, queue.Options{LockWait: time.Second})
	if errors.Is(err, boltkv.ErrLocked) {
		return fmt.Errorf("%w: stop the daemon first, it takes the volume at its next start", err)
	}
	if err != nil {
		return err
	}
	v, err := storage.New(pipeline.StorageConfig(c), storage.Deps{Ledger: q, Tell: tell})
	if err == nil {
		err = v.Adopt(ctx)
	}
	return errors.Join(err, q.Close())
}
