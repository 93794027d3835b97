package get

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
)

// openQueue opens the queue of an output directory, and returns the directory that it is
// in. A volume that belongs to a daemon has a marker, but no queue of assetd get.
func openQueue(c *config.Config, output string) (string, *queue.Queue, error) {
	meta := filepath.Join(output, ".assetd")
	states := queueDirs(c, output)
	state := states[0]
	q, err := openUnlessOwned(meta, state)
	var unfit *boltkv.FilesystemError
	if errors.As(err, &unfit) { // bbolt does not work on this kind of mount
		state = states[1]
		q, err = openUnlessOwned(meta, state)
	}
	if errors.Is(err, boltkv.ErrLocked) {
		return "", nil, fmt.Errorf("another assetd get works in %s: wait for it, or choose another --output", output)
	}
	return state, q, err
}

// queueDirs returns where the queue of an output directory can be: in it, or, if bbolt does
// not work on its mount, next to the data directory.
func queueDirs(c *config.Config, output string) []string {
	return []string{filepath.Join(output, ".assetd"), filepath.Join(filepath.Dir(c.DataDir), "assetd-get", run.Key{ID: output}.Hash())}
}

// openUnlessOwned opens the queue in state, unless the output directory is, or is in, the
// volume of a daemon.
func openUnlessOwned(meta, state string) (*queue.Queue, error) {
	_, queueErr := os.Lstat(filepath.Join(state, "queue.db"))
	fresh := errors.Is(queueErr, os.ErrNotExist)
	mine := filepath.Join(meta, markerName)
	if _, err := os.Lstat(mine); err == nil && fresh {
		os.Remove(filepath.Join(meta, "volume")) //nolint:errcheck // an earlier call was killed while it removed its own; else the next step reports it
	}
	for dir := filepath.Dir(meta); ; dir = filepath.Dir(dir) {
		_, err := os.Lstat(filepath.Join(dir, ".assetd", "volume"))
		if err == nil && (fresh || dir != filepath.Dir(meta)) {
			return nil, fmt.Errorf("%s is the volume of an assetd daemon: use assetd add, or choose another --output", dir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, err := durable.MkdirAll(meta, 0o755); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	if err := os.WriteFile(mine, []byte("assetd get works here\n"), 0o600); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	return queue.Open(state, queue.Options{})
}

// markerName is a file next to the volume's marker that says the marker is not a daemon's,
// also where the queue is gone: a call can be killed between removing the two.
const markerName = "get"

// removeQueue removes the queue and everything else that is not a fetched file, except for
// the quarantine: somebody may want to look at it.
func removeQueue(output, state string) error {
	meta := filepath.Join(output, ".assetd")
	errs := []error{queue.Erase(state), os.RemoveAll(filepath.Join(meta, "parts")), os.RemoveAll(filepath.Join(meta, "volume")), os.RemoveAll(filepath.Join(meta, markerName))}
	for _, dir := range []string{state, meta} {
		if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}
