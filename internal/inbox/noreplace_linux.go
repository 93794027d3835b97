package inbox

import "golang.org/x/sys/unix"

// renameNoReplace is renameat2 with RENAME_NOREPLACE: rename(2), since Linux 3.15.
func renameNoReplace(from int, name string, to int, as string) error {
	return unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE)
}
