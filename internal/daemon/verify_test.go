package daemon

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that has read for verify goes back to those that download, as it was.
func TestCase_F_TheThreadsPriorityIsRestored(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	priority := func() uintptr {
		p, _, err := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
		if err != 0 {
			t.Skip("missing: ioprio_get in this kernel: ", err)
		}
		return p
	}
	was := priority()
	done := leaveToOthers()
	if p := priority(); p == was || p&7 != 7 {
		t.Errorf("reading: priority %#x, before %#x", p, was)
	}
	done()
	if p := priority(); p != was {
		t.Errorf("afterwards: priority %#x, before %#x", p, was)
	}
}
