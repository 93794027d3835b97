package pipeline

import (
	"fmt"
	"os"

	"github.com/assetd/assetd/internal/durable"
)

// MakeStateDir makes the state directory with mode 0750, whatever the umask, such that it
// survives power loss: drop files are removed once their runs are in it.
func MakeStateDir(dir string) error {
	made, err := durable.MkdirAll(dir, 0o750)
	if err != nil {
		return fmt.Errorf("state.dir %s: uid %d cannot make it: %w: set data_dir or state.dir to a directory of yours", dir, os.Getuid(), err)
	}
	if !made {
		return nil
	}
	if err := os.Chmod(dir, 0o750); err != nil { //nolint:gosec // the group uses the socket in it
		return fmt.Errorf("state.dir %s: %w", dir, err)
	}
	return nil
}
