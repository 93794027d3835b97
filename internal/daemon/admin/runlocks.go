package admin

import (
	"sync"

	"github.com/assetd/assetd/internal/run"
)

// runLocks is a mutex per run. A run's lock is held across calls to the volume, which can
// hang for ever on a dead server: that must not hold up other runs. The zero value is
// ready. It is safe for concurrent use.
type runLocks struct {
	mu   sync.Mutex
	held map[run.ID]*runLock
}

type runLock struct {
	sync.Mutex
	users int // those that hold it or wait for it; guarded by runLocks.mu
}

// lock waits for the run's mutex and returns the function that unlocks it.
func (l *runLocks) lock(id run.ID) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[run.ID]*runLock{}
	}
	own := l.held[id]
	if own == nil {
		own = &runLock{}
		l.held[id] = own
	}
	own.users++
	l.mu.Unlock()
	own.Lock()
	return func() {
		own.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(l.held, id)
		}
	}
}
