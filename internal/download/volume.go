package download

import (
	"context"
	"errors"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

const (
	// lookAgain is how often volume and free space are looked at while something waits
	// for them, and how long to leave a queue alone that had an error.
	lookAgain = 5 * time.Second
	// unknownNeed is the space that an asset needs whose size is not known: what is
	// reserved at a time for such a one.
	unknownNeed = 64 << 20

	// Why the service clock is stopped.
	pauseVolume  = "volume"  // offline
	pauseStorage = "storage" // there, but what is tried on it fails
)

// volumeState is the state of the volume.
type volumeState struct {
	offline bool                 // nothing starts
	full    bool                 // nothing starts until the next look at the free space
	low     bool                 // an asset waits for free space
	bad     map[run.Key]struct{} // assets whose files could not be used
	looked  time.Duration        // at the volume
	checked time.Duration        // the free space
	scanned bool                 // the parts of an earlier life are known
}

// goneOffline makes everything wait for the volume.
func (p *Pool) goneOffline(err error) {
	p.mu.Lock()
	first := !p.volume.offline
	if first {
		p.volume.offline, p.volume.looked = true, p.now()
		p.Service.Pause(pauseVolume)
	}
	p.mu.Unlock()
	if first {
		p.Tell(run.Event{Kind: run.VolumeOffline, Err: err, Hint: "see `assetd check`"})
		signal(p.nudge)
	}
}

// paused reports whether API or volume cannot be used: nothing is lost then.
func (p *Pool) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volume.offline || len(p.Service.Paused()) > 0
}

// awaitSpace makes the asset wait for free space. Nothing else starts until the next look:
// with a full volume every request would be in vain.
func (p *Pool) awaitSpace(t *backlog.Ticket, a run.Asset, need int64, err error) {
	p.mu.Lock()
	p.notes(a).need = max(need, 1)
	p.backlog.AwaitSpace(t)
	first := !p.volume.low
	p.volume.low, p.volume.full = true, true
	p.mu.Unlock()
	if first {
		p.Tell(run.Event{Kind: run.DiskLow, Asset: a.Key, Err: err, Hint: "free some space or lower storage.min_free"})
	}
	signal(p.nudge)
}

// care looks after what waits for something that no answer tells about: the
// volume, free space, the time of loss.
func (p *Pool) care(ctx context.Context) {
	for ctx.Err() == nil {
		sleep := min(p.reloadAll(ctx), p.lookAtVolume(), p.checkSpace(), p.sweep(ctx))
		rest(ctx, p.nudge, sleep)
	}
}

// lookAtVolume looks whether the volume is back, and says when to look again.
func (p *Pool) lookAtVolume() (sleep time.Duration) {
	p.mu.Lock()
	offline, due := p.volume.offline, p.volume.looked+lookAgain-p.now()
	p.mu.Unlock()
	switch {
	case !offline:
		return longestSleep
	case due > 0:
		return due
	}
	err := p.Volume.Check()
	p.mu.Lock()
	p.volume.looked = p.now()
	if err == nil {
		p.volume.offline = false
		p.Service.Resume(pauseVolume)
	}
	p.mu.Unlock()
	if err != nil {
		return lookAgain
	}
	p.Tell(run.Event{Kind: run.VolumeBack})
	signal(p.wake)
	signal(p.redirect)
	return longestSleep
}

// checkSpace lets start what has space now, and says when to look again.
func (p *Pool) checkSpace() (sleep time.Duration) {
	p.mu.Lock()
	_, waits := p.backlog.NeedsSpace()
	due := p.volume.checked + lookAgain - p.now()
	switch {
	case !waits && !p.volume.low:
		p.mu.Unlock()
		return longestSleep
	case p.volume.checked > 0 && due > 0: // also before what was let start is believed to fit
		p.mu.Unlock()
		return due
	case !waits:
		p.volume.low, p.volume.full = false, false
		p.mu.Unlock()
		p.Tell(run.Event{Kind: run.DiskBack})
		signal(p.wake)
		signal(p.redirect)
		return longestSleep
	}
	p.volume.checked = max(p.now(), 1)
	p.volume.full = true // nothing opens a part while some may be deleted
	p.mu.Unlock()
	free, err := p.Volume.Free()
	switch {
	case err == nil:
		p.share(free)
		signal(p.wake)
		signal(p.redirect)
	case errors.Is(err, run.ErrVolumeOffline):
		p.goneOffline(err)
	}
	return lookAgain
}

// share lets as many start as there is space for, the most urgent first. Where it
// does not fit, the parts of less urgent ones are removed for it.
func (p *Pool) share(free int64) {
	started := false
	for {
		p.mu.Lock()
		key, waits := p.backlog.NeedsSpace()
		if !waits {
			p.mu.Unlock()
			break
		}
		need := int64(1)
		if c := p.cases[key]; c != nil {
			need = c.need
		}
		p.mu.Unlock()
		if free < need && p.evict(key, need, free) {
			left, err := p.Volume.Free() // a file system may give back less than it said
			if err != nil {
				break
			}
			free = left
		}
		if free < need {
			break
		}
		p.mu.Lock()
		p.backlog.HasSpace(key)
		p.mu.Unlock()
		free -= need
		started = true
	}
	p.mu.Lock()
	p.volume.full = !started && free <= 0
	p.mu.Unlock()
}

// evict deletes the least urgent parts so that an asset fits, if it can fit.
func (p *Pool) evict(key run.Key, need, free int64) bool {
	sizes, err := p.Volume.Parts()
	if err != nil || len(sizes) == 0 {
		return false
	}
	p.mu.Lock()
	p.scan(sizes)
	var parted []run.Key
	for k, c := range p.cases {
		if c.parted && sizes[k.Hash()] > 0 {
			parted = append(parted, k)
		}
	}
	parts := make([]backlog.Part, 0, len(parted))
	for _, k := range p.backlog.LessUrgent(key, parted) {
		parts = append(parts, backlog.Part{Key: k, Size: sizes[k.Hash()]})
	}
	p.mu.Unlock()
	keys, ok := backlog.Evict(need, free, parts)
	for _, k := range keys {
		if err := p.Volume.RemovePart(k); err != nil {
			return false
		}
		p.mu.Lock()
		if c := p.cases[k]; c != nil {
			c.had = 0
		}
		p.mu.Unlock()
		p.Tell(run.Event{Kind: run.AssetRetry, Asset: k, Note: "its part was deleted to make room for " + key.String()})
	}
	return ok
}

// scan finds out which assets the parts of an earlier life belong to, once. The
// pool is locked.
func (p *Pool) scan(sizes map[string]int64) {
	if p.volume.scanned {
		return
	}
	p.volume.scanned = p.loaded
	p.backlog.Keys(func(k run.Key) {
		if sizes[k.Hash()] == 0 {
			return
		}
		if p.cases[k] == nil {
			p.cases[k] = &caseNotes{}
		}
		p.cases[k].parted = true
	})
}
