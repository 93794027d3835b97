package admin

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// A run whose volume call hangs for ever holds up no other run, whatever their names.
func TestCase_F_RunLocksHoldUpNoOtherRun(t *testing.T) {
	var locks runLocks
	unlock := locks.lock("hangs")
	for i := range 1000 {
		locks.lock(run.ID(fmt.Sprint("run", i)))()
	}
	second := make(chan struct{})
	go func() {
		defer close(second)
		locks.lock("hangs")()
	}()
	for waits := false; !waits; runtime.Gosched() {
		locks.mu.Lock()
		waits = locks.held["hangs"].users == 2
		locks.mu.Unlock()
	}
	select {
	case <-second:
		t.Error("one run was locked twice")
	default:
	}
	unlock()
	<-second
	if len(locks.held) != 0 {
		t.Errorf("%d locks are left", len(locks.held))
	}
}
