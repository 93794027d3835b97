package pipeline

import (
	"syscall"
	"testing"
)

func TestAffordable_IsBoundedByOpenFiles(t *testing.T) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) //nolint:errcheck // it was so
	now := was
	now.Cur = otherFiles + 69 + 10*filesPerTransfer // an eighth of it is the server's clients'
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	for open, want := range map[int]int{0: 0, 3: 3, 10: 10, 11: 10, 100_000: 10} {
		if got := affordable(open); got != want {
			t.Errorf("%d of %d", got, open)
		}
	}
	now.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	if got := affordable(256); got != 0 {
		t.Errorf("%d with 64 open files", got)
	}
}
