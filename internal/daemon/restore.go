package daemon

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
	"github.com/assetd/assetd/internal/storage"
)

// openQueue opens the queue. Where that is damaged, or gone though there are copies
// of it, the newest good copy takes its place first, and all of it is said loudly;
// where there is none the error says so: an empty queue is never begun in silence.
func openQueue(c *config.Config, o queue.Options, log *zap.Logger) (*queue.Queue, error) {
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
		return nil, fmt.Errorf("the queue was restored from a copy, and yet: %w", err)
	}
	return q, nil
}

// missingQueue is damage where the queue's file is not there though there are copies
// of it.
func missingQueue(stateDir string) (*queue.DamageError, error) {
	copies, err := queue.Copies(queue.BackupDir(stateDir), time.Now())
	if err != nil || len(copies) == 0 {
		return nil, err
	}
	return queue.Missing(stateDir)
}

// restoreNewest puts the newest good copy in the place of a damaged queue, and the
// drop files that were taken since it was made back into the drop directory.
func restoreNewest(c *config.Config, damage *queue.DamageError, log *zap.Logger) error {
	dir := queue.BackupDir(c.State.Dir)
	log.Error("the queue is damaged, its newest good copy is put in its place",
		zap.String(logging.KeyFile, damage.File), zap.String("finding", damage.Finding))
	copies, err := queue.Copies(dir, time.Now())
	if err != nil {
		return errors.Join(damage, err)
	}
	for _, stored := range copies {
		var back inbox.PutBack
		var failed error
		restored, aside, err := queue.Restore(c.State.Dir, stored.Path, queue.AsideDamaged, func(q queue.Copy) error {
			back, failed = inbox.Back(c.Drop.Dir, q.At)
			return failed
		})
		switch {
		case err == nil:
			log.Error("the queue was restored from a copy", zap.String(logging.KeyFile, restored.Path), zap.Time("from", restored.At),
				zap.Int("runs", restored.Runs), zap.String("damaged_file", aside), zap.Int("drop_files_put_back", back.Files),
				zap.String(logging.KeyNote, Missing), zap.String(logging.KeyHint, "nothing need be done; keep the damaged file for those who look into it, or remove it"))
			for _, path := range back.Left {
				log.Error(LeftText, zap.String(logging.KeyFile, path), zap.String(logging.KeyHint, LeftHint))
			}
			return nil
		case failed != nil: // its runs would be lost
			return fmt.Errorf("%w: nothing was restored, since drop files that came after the copy cannot be taken once more: %w", damage, failed)
		case errors.As(err, new(*queue.DamageError)) || errors.Is(err, fs.ErrNotExist):
			log.Error("this copy of the queue is damaged, too", zap.String(logging.KeyFile, stored.Path), zap.Error(err))
		default:
			return errors.Join(damage, fmt.Errorf("restoring %s: %w", stored.Path, err))
		}
	}
	return fmt.Errorf("%w (there is no good copy in %s)", damage, dir)
}

// What is said of a restored queue, and of what stays behind.
const (
	Missing = "runs handed in since then are taken again from their drop files, runs settled since then are settled again from their manifests; " +
		"retries, removals and the attempts of since then are forgotten"
	LeftText = "this empty drop file was not put back, since its name may not be the run ID it was handed in as"
	LeftHint = "if the name is a run ID of its own, hand it in again: assetd add"
)

// Restored is what RestoreQueue did.
type Restored struct {
	queue.Copy
	Aside   string // where the queue that was there is now; empty: none was there
	Back    inbox.PutBack
	Foreign string // the queue that the volume, or else the queue that was there, says it is; empty: the same, or unknown
}

// RestoreQueue puts a copy in the place of this configuration's queue, and the drop
// files that were taken since it was made back into the drop directory. No daemon may
// run. Whatever fails before the copy has its place leaves the queue as it is. A copy of
// another queue is refused before anything is changed, unless force is true.
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
	r.Copy, r.Aside, err = queue.Restore(c.State.Dir, file, queue.AsideReplaced, func(q queue.Copy) error {
		r.Back, err = inbox.Back(c.Drop.Dir, q.At)
		return err
	})
	if errors.Is(err, queue.ErrLocked) {
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

// otherCopy has the error of a damaged copy say what to do about the copy: by itself it
// speaks of the queue in use, which may be whole.
func otherCopy(c *config.Config, file string, err error) error {
	if damage := (*queue.DamageError)(nil); errors.As(err, &damage) && damage.File == file {
		damage.Mend = "name another copy: those of the daemon are in " + queue.BackupDir(c.State.Dir)
	}
	return err
}

// ownCopy refuses a copy of another queue than the one that is used here.
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

// presentID is the ID of the queue that the volume belongs to, or else of the one in
// the state directory; empty where neither says.
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

// BackupQueue writes a copy of a queue that no daemon uses to path.
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
