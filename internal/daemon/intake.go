package daemon

import (
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// A look at the drop directory ends at least every drop.rescan. One that is late by so
// much hangs in its file system: the inbox itself cannot report that.
const passLate = 30 * time.Second

// passes is what watchPasses knows of the inbox.
type passes struct {
	dir    string
	last   func() time.Time     // when a look ended last
	rescan func() time.Duration // drop.rescan
	tell   run.Tell
	late   bool // reported
	said   time.Time
}

// watch reports that no look ends, again every 10 minutes, and once that one did. It is
// called at each tick and reads no disk.
func (p *passes) watch() {
	now, last := time.Now(), p.last()
	age := now.Sub(last)
	if late := age > p.rescan()+passLate; !late {
		if p.late {
			p.late = false
			p.tell(run.Event{Kind: run.DropAnswers, File: p.dir})
		}
		return
	}
	if p.late && now.Sub(p.said) < 10*time.Minute {
		return
	}
	p.late, p.said = true, now
	p.tell(run.Event{
		Kind: run.DropHangs, File: p.dir,
		Err:  fmt.Errorf("the last look at %s ended %v ago", p.dir, age.Round(time.Second)),
		Hint: "its file system, or that of accepted/ or rejected/, hangs: see the mount and its server; no drop file is taken meanwhile",
	})
}
