package verify

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/testenv"
)

// A thread that has read files for verify is used by downloads next.
func TestCase_F_TheThreadsPriorityIsRestored(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	priority := func() uintptr {
		p, _, err := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
		if err != 0 {
			testenv.Missing(t, "ioprio_get in this kernel: "+err.Error())
		}
		return p
	}
	was := priority()
	done := lowerIOPriority()
	if p := priority(); p == was || p&7 != 7 {
		t.Errorf("reading: priority %#x, before %#x", p, was)
	}
	done()
	if p := priority(); p != was {
		t.Errorf("afterwards: priority %#x, before %#x", p, was)
	}
}
