// Package undumpable makes the process that imports it one that others of its user cannot
// look into: neither its environment, its memory nor its open files (PR_SET_DUMPABLE(2const),
// proc(5)), of which the first holds the API key where it came by a variable. It imports
// nothing but syscall, and its path sorts before those of all dependencies, so this happens
// before the rest of the program is initialized. The superuser still can; and no core is
// dumped.
package undumpable

import "syscall"

func init() {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0, 0, 0, 0) // it does not fail with 0
}
