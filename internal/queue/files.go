package queue

import (
	"errors"
	"fmt"
	"os"

	"github.com/assetd/assetd/internal/queue/answers"
)

// FilesystemError is a state directory where no queue can live: on a file system
// of this type neither locks nor mapped files can be trusted.
type FilesystemError struct {
	Dir  string
	Type string // NFS, SMB/CIFS, FUSE, 9p
}

// Error names the directory, why, and the mend.
func (e *FilesystemError) Error() string {
	return fmt.Sprintf("%s lies on %s, where neither locks nor mapped files can be trusted: set state.dir to a directory on a local disk (storage.dir may stay there)", e.Dir, e.Type)
}

// Erase removes a queue that nobody has open, with its answers. The directory
// stays, and so does what is not the queue's.
func Erase(dir string) error {
	return errors.Join(os.RemoveAll(answers.Dir(dir)), os.RemoveAll(halfPath(dir)), os.RemoveAll(suspectPath(dir)), os.RemoveAll(dbPath(dir)))
}
