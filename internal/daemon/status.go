package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// pinger is the queue's writer, as health asks it.
type pinger interface {
	Alive(ctx context.Context) error
}

// status is how the daemon is, gathered from its events. Safe for concurrent use.
type status struct {
	queue pinger

	mu     sync.Mutex
	up     bool
	tick   time.Time // monotonic
	faults map[run.EventKind]string
}

// A tick comes every second; none for so long means that the scheduler is stuck.
const (
	tickLate   = 15 * time.Second
	writerLate = 2 * time.Second
)

func newStatus(q pinger) *status {
	return &status{queue: q, tick: time.Now(), faults: map[run.EventKind]string{}}
}

// ends is the events that end a fault, with the fault's.
func ends(k run.EventKind) run.EventKind {
	switch k {
	case run.APIBack:
		return run.APIRefused
	case run.VolumeBack:
		return run.VolumeOffline
	case run.DiskBack:
		return run.DiskLow
	case run.DropBack:
		return run.DropTrouble
	case run.RunAccepted, run.RunEnded, run.RunSettled, run.AssetKept: // each was committed
		return run.QueueTrouble
	}
	return ""
}

// note takes what an event says of the daemon's health. A dead API makes it
// neither dead nor unready: it waits and goes on by itself. It reports whether the
// event is news: several stages find out that the volume is offline, or back.
func (s *status) note(e run.Event) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case run.APIRefused, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.QueueTrouble:
		_, known := s.faults[e.Kind]
		s.faults[e.Kind] = reason(e)
		return !known || e.Kind != run.VolumeOffline
	}
	_, known := s.faults[ends(e.Kind)]
	delete(s.faults, ends(e.Kind))
	return known || e.Kind != run.VolumeBack
}

func reason(e run.Event) string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Kind, e.Err)
	}
	return string(e.Kind)
}

func (s *status) ticked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick = time.Now()
}

func (s *status) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = true
}

// Alive says whether the scheduler's tick and the queue's writer answered lately.
// No volume and no network is asked: they may hang.
func (s *status) Alive() server.Health {
	s.mu.Lock()
	since := time.Since(s.tick)
	s.mu.Unlock()
	var h server.Health
	if since > tickLate {
		h.Reasons = append(h.Reasons, fmt.Sprintf("no tick of the scheduler for %v", since.Round(time.Second)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), writerLate)
	defer cancel()
	if err := s.queue.Alive(ctx); err != nil {
		h.Reasons = append(h.Reasons, err.Error())
	}
	h.OK = len(h.Reasons) == 0
	return h
}

// Ready says whether the daemon can do its work as well.
func (s *status) Ready() server.Health {
	h := s.Alive()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		h.Reasons = append(h.Reasons, "the drop directory has not been looked at since the start")
	}
	for _, kind := range []run.EventKind{run.APIRefused, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.QueueTrouble} {
		if why, bad := s.faults[kind]; bad {
			h.Reasons = append(h.Reasons, why)
		}
	}
	h.OK = len(h.Reasons) == 0
	return h
}
