//go:build !linux

package inbox

import "golang.org/x/sys/unix"

// renameNoReplace is not there: the caller links and unlinks.
func renameNoReplace(int, string, int, string) error { return unix.ENOSYS }
