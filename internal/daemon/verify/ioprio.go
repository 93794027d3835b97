package verify

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowerIOPriority makes the disk serve others first (ioprio_set(2), best effort, lowest
// level) until restore is called on the same goroutine. Where the kernel refuses, reading
// goes on at the normal priority.
func lowerIOPriority() (restore func()) {
	const (
		whoProcess = 1 // this thread
		bestEffort = 2 << 13
		lowest     = 7
	)
	runtime.LockOSThread()
	was, _, failed := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0)
	if failed == 0 {
		_, _, failed = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, bestEffort|lowest)
	}
	return func() {
		if failed == 0 { // the thread is used by downloads next
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, was)
		}
		runtime.UnlockOSThread()
	}
}
