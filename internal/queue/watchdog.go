package queue

import (
	"sync/atomic"
	"time"
)

// How long the writer may be at one thing before it counts as hung. A commit is a
// few pages and two syncs, and seconds of it are a disk under load; compaction
// copies up to 64 MiB.
const (
	commitHangs   = 15 * time.Second
	maintainHangs = 2 * time.Minute
)

// deadline is when what is being done counts as hung. The zero value is nothing
// being done. Safe for concurrent use.
type deadline struct {
	work atomic.Pointer[work]
}

type work struct {
	begun time.Time // with its monotonic reading
	most  time.Duration
}

func (d *deadline) set(most time.Duration) { d.work.Store(&work{time.Now(), most}) }

func (d *deadline) clear() { d.work.Store(nil) }

// passed is for how long has been done what hangs; 0: nothing does.
func (d *deadline) passed() time.Duration {
	w := d.work.Load()
	if w == nil {
		return 0
	}
	if took := time.Since(w.begun); took >= w.most {
		return took
	}
	return 0
}
