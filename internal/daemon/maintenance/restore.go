package maintenance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/logging"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/storage"
)

// OpenQueue opens the queue of the daemon. A queue that is damaged, or missing although
// there are copies of it, is first replaced by the newest good copy, and every step is
// logged as an error. Without a good copy OpenQueue fails: it never starts an empty queue
// in the place of one with runs.
func OpenQueue(c *config.Config, o queue.Options, log *zap.Logger) (*queue.Queue, error) {
	damage, err := missingQueue(c.State.Dir)
	if err != nil {
		return nil, err
	}
	if damage == nil {
		q, err := queue.Open(c.State.Dir, o)
		if !errors.As(err, &damage) {
			return q, err
		}
	}
	if err := restoreNewest(c, damage, log); err != nil {
		return nil, err
	}
	q, err := queue.Open(c.State.Dir, o)
	if err != nil {
		return nil, fmt.Errorf("the queue was restored from a copy, but cannot be opened: %w", err)
	}
	return q, nil
}

// missingQueue returns a damage if the queue's file does not exist although there are
// copies of it.
func missingQueue(stateDir string) (*kv.DamageError, error) {
	copies, err := boltkv.Copies(boltkv.BackupDir(stateDir), time.Now())
	if err != nil || len(copies) == 0 {
		return nil, err
	}
	return boltkv.Missing(stateDir)
}

// restoreNewest replaces a damaged queue by its newest good copy, and puts the drop files
// that were taken since back into the drop directory.
func restoreNewest(c *config.Config, damage *kv.DamageError, log *zap.Logger) error {
	dir := boltkv.BackupDir(c.State.Dir)
	log.Error("the queue is damaged, its newest good copy is put in its place",
		zap.String(logging.KeyFile, damage.File), zap.String("finding", damage.Finding))
	copies, err := boltkv.Copies(dir, time.Now())
	if err != nil {
		return errors.Join(damage, err)
	}
	for _, stored := range copies {
		var back inbox.PutBack
		var failed error
		restored, aside, err := queue.Restore(c.State.Dir, stored.Path, boltkv.AsideDamaged, func(q queue.Copy) error {
			back, failed = inbox.Back(c.Drop.Dir, q.At)
			return failed
		})
		switch {
		case err == nil:
			log.Error("the queue was restored from a copy", zap.String(logging.KeyFile, restored.Path), zap.Time("from", restored.At),
				zap.Int("runs", restored.Runs), zap.String("damaged_file", aside), zap.Int("drop_files_put_back", back.Files),
				zap.String(logging.KeyNote, RestoreNote), zap.String(logging.KeyHint, "nothing need be done; keep the damaged file for those who look into it, or remove it"))
			for _, path := range back.Left {
				log.Error(NotPutBack, zap.String(logging.KeyFile, path), zap.String(logging.KeyHint, NotPutBackHint))
			}
			return nil
		case failed != nil: // a restored queue would lose their runs
			return fmt.Errorf("%w: nothing was restored, since drop files that came after the copy cannot be taken once more: %w", damage, failed)
		case errors.As(err, new(*kv.DamageError)) || errors.Is(err, fs.ErrNotExist):
			log.Error("this copy of the queue is damaged, too", zap.String(logging.KeyFile, stored.Path), zap.Error(err))
		default:
			return errors.Join(damage, fmt.Errorf("restoring %s: %w", stored.Path, err))
		}
	}
	return fmt.Errorf("%w (there is no good copy in %s)", damage, dir)
}

// Texts about a restored queue, for the log and for people.
const (
	// RestoreNote says what the restored queue does not have.
	RestoreNote = "runs added since then are taken again from their drop files, runs settled since then are settled again from their manifests; " +
		"later retries, removals and attempts are lost"
	// NotPutBack is said of a drop file that stays where it is, with NotPutBackHint.
	NotPutBack     = "this empty drop file was not put back, since its name may not be the run ID it was added as"
	NotPutBackHint = "if the name is the ID of another run, add it again: assetd add"
)

// Restored is the result of RestoreQueue.
type Restored struct {
	queue.Copy
	Aside   string // where the queue that was there is now; empty: none was there
	Back    inbox.PutBack
	Foreign string // the queue that the volume, or else the queue that was there, says it is; empty: the same, or unknown
}

// RestoreQueue replaces this configuration's queue by a copy, and puts the drop files that
// were taken since the copy was made back into the drop directory. No daemon may run. A
// failure leaves the queue as it is. A copy of another queue is refused before anything is
// changed, unless force is true.
func RestoreQueue(c *config.Config, file string, force bool) (r Restored, err error) {
	if file, err = filepath.Abs(file); err != nil {
		return r, err
	}
	if !force {
		if err := ownCopy(c, file); err != nil {
			return r, fmt.Errorf("nothing was restored: %w", otherCopy(c, file, err))
		}
	}
	if _, err := inbox.Prepare(c.Drop.Dir); err != nil {
		return r, err
	}
	present := presentID(c)
	r.Copy, r.Aside, err = queue.Restore(c.State.Dir, file, boltkv.AsideReplaced, func(q queue.Copy) error {
		r.Back, err = inbox.Back(c.Drop.Dir, q.At)
		return err
	})
	if errors.Is(err, boltkv.ErrLocked) {
		return r, fmt.Errorf("%w: stop the daemon first, and start it afterwards", err)
	}
	if err != nil {
		return r, fmt.Errorf("nothing was restored: %w", otherCopy(c, file, err))
	}
	if present != "" && present != r.ID {
		r.Foreign = present
	}
	return r, nil
}

// otherCopy gives the error of a damaged copy a hint about the copy: its own hint is about
// the queue in use, which may be intact.
func otherCopy(c *config.Config, file string, err error) error {
	if damage := (*kv.DamageError)(nil); errors.As(err, &damage) && damage.File == file {
		damage.Hint = "name another copy: those of the daemon are in " + boltkv.BackupDir(c.State.Dir)
	}
	return err
}

// ownCopy refuses a copy of another queue than this configuration's.
func ownCopy(c *config.Config, file string) error {
	found, err := queue.Verify(file)
	if err != nil {
		return err
	}
	if present := presentID(c); present != "" && present != found.ID {
		return fmt.Errorf("%s is a copy of queue %s, and the volume %s or the queue in %s is of queue %s: restore a copy of that one, or this one on purpose with --force (downloads wait then until assetd check --adopt-volume)",
			file, found.ID, c.Storage.Dir, c.State.Dir, present)
	}
	return nil
}

// presentID returns the ID of the queue that the volume belongs to, or else of the one in
// the state directory, or "".
func presentID(c *config.Config) string {
	if v, err := storage.New(pipeline.StorageConfig(c), storage.Deps{}); err == nil {
		if sight, err := v.Look(); err == nil && sight.Queue != "" {
			return sight.Queue
		}
	}
	q, err := queue.Open(c.State.Dir, queue.Options{ReadOnly: true, LockWait: time.Second})
	if err != nil {
		return ""
	}
	defer q.Close()
	return q.ID()
}

// BackupQueue copies a queue that no daemon uses to path.
func BackupQueue(ctx context.Context, c *config.Config, path string) (queue.Copy, error) {
	q, err := queue.Open(c.State.Dir, queue.Options{ReadOnly: true, LockWait: time.Second})
	if errors.Is(err, fs.ErrNotExist) {
		return queue.Copy{}, fmt.Errorf("there is no queue in %s yet, nothing to copy", c.State.Dir)
	}
	if err != nil {
		return queue.Copy{}, err
	}
	defer q.Close()
	return q.Backup(ctx, path)
}
