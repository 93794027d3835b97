package boltkv

import (
	"errors"
	"fmt"
	"os"
)

// FilesystemError is a state directory where no file can be kept: on a file system of
// this type neither locks nor mapped files can be trusted.
type FilesystemError struct {
	Dir  string
	Type string // NFS, SMB/CIFS, FUSE, 9p
}

// Error names the directory, the reason and what to do.
func (e *FilesystemError) Error() string {
	return fmt.Sprintf("%s lies on %s, where neither locks nor mapped files can be trusted: set state.dir to a directory on a local disk (storage.dir may stay there)", e.Dir, e.Type)
}

// Erase removes a file that nobody has open. The directory stays, and so does everything
// else in it.
func Erase(dir string) error {
	return errors.Join(os.RemoveAll(halfPath(dir)), os.RemoveAll(suspectPath(dir)), os.RemoveAll(Path(dir)))
}
