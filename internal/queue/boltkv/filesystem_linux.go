package boltkv

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// Suitable judges the file system that a directory lies on: bbolt needs locks
// that hold and a mapping that shows what was written. An error where it has
// neither for certain, a warning where what is written may not outlive a
// container.
func Suitable(dir string) (warning string, err error) {
	var s unix.Statfs_t
	if err := durable.Uninterrupted(func() error { return unix.Statfs(dir, &s) }); err != nil {
		return "", fmt.Errorf("statfs %s: %w", dir, err)
	}
	return judgeType(dir, int64(s.Type))
}

func judgeType(dir string, magic int64) (warning string, err error) {
	name := ""
	switch uint32(magic) {
	case unix.NFS_SUPER_MAGIC:
		name = "NFS"
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		name = "SMB/CIFS"
	case unix.FUSE_SUPER_MAGIC:
		name = "FUSE"
	case unix.V9FS_MAGIC:
		name = "9p"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return dir + " lies on overlayfs: where that is a container's own layer, the queue is gone with the container; put it on a volume", nil
	default:
		return "", nil
	}
	return "", &FilesystemError{Dir: dir, Type: name}
}
