package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
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
	faults map[run.EventKind]fault
	held   map[run.ID]map[run.Key]string // what keeps single assets, and under a key without ID their run
	count  int                           // of what held holds
}

// fault is something that concerns all runs.
type fault struct {
	text, hint string
	since      time.Time
}

func (f fault) String() string {
	text := f.text
	if f.hint != "" {
		text += ": " + f.hint
	}
	return text + f.since.Local().Format(" (since "+time.DateTime+")")
}

// A tick comes every second; none for so long means that the scheduler is stuck.
const (
	tickLate   = 15 * time.Second
	writerLate = 2 * time.Second
)

// mostHeld bounds how many assets' own troubles are remembered: they are for people.
const mostHeld = 10_000

func newStatus(q pinger) *status {
	return &status{queue: q, tick: time.Now(), faults: map[run.EventKind]fault{}, held: map[run.ID]map[run.Key]string{}}
}

// ends is the faults that an event ends.
func ends(k run.EventKind) []run.EventKind {
	switch k {
	case run.APIBack:
		return []run.EventKind{run.APIRefused, run.APIDown}
	case run.APIRefused: // it answers
		return []run.EventKind{run.APIDown}
	case run.VolumeBack:
		return []run.EventKind{run.VolumeOffline}
	case run.DiskBack:
		return []run.EventKind{run.DiskLow}
	case run.DropBack:
		return []run.EventKind{run.DropTrouble}
	case run.DropAnswers:
		return []run.EventKind{run.DropHangs}
	case run.ListenBack:
		return []run.EventKind{run.ListenTrouble}
	case run.RunAccepted, run.RunEnded, run.RunSettled, run.AssetKept: // each was committed
		return []run.EventKind{run.QueueTrouble}
	}
	return nil
}

// note takes what an event says of the daemon's health, and of what keeps runs and
// assets. It reports whether the event is news: several stages find out that the
// volume is offline, or back.
func (s *status) note(e run.Event) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold(e)
	_, offline := s.faults[run.VolumeOffline]
	for _, k := range ends(e.Kind) {
		delete(s.faults, k)
	}
	switch e.Kind {
	case run.APIRefused, run.APIDown, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.DropHangs, run.QueueTrouble, run.ListenTrouble:
		f, known := s.faults[e.Kind]
		if !known {
			f.since = time.Now()
		}
		f.text, f.hint = e.Text(), cmp.Or(e.Hint, f.hint)
		s.faults[e.Kind] = f
		return !known || e.Kind != run.VolumeOffline
	case run.VolumeBack:
		return offline
	}
	return true
}

// hold takes what an event says of a single run or asset: trouble on our side, or
// its end. The lock is held.
func (s *status) hold(e run.Event) {
	switch e.Kind {
	case run.ManifestTrouble:
		s.keep(run.Key{Run: e.Run}, e.Text()+": "+e.Hint)
	case storage.NameTrouble:
		s.keep(e.Asset, e.Text()+": "+e.Hint)
	case run.AssetRetry:
		var f *transfer.Failure
		unlisted := errors.As(e.Err, &f) && f.Class == transfer.Nothing // the API's, and the queue has it
		if e.Host == "" && e.Err != nil && !unlisted {                  // no server had a part in it
			s.keep(e.Asset, e.Err.Error())
		}
	case run.AssetStarted, run.AssetKept, run.AssetGone:
		s.free(e.Asset)
	case run.RunSettled, run.RunRemoved:
		s.count -= len(s.held[e.Run])
		delete(s.held, e.Run)
	}
}

func (s *status) keep(key run.Key, text string) {
	s.free(key)
	if s.count >= mostHeld {
		return
	}
	if s.held[key.Run] == nil {
		s.held[key.Run] = map[run.Key]string{}
	}
	s.held[key.Run][key] = text
	s.count++
}

func (s *status) free(key run.Key) {
	if _, held := s.held[key.Run][key]; !held {
		return
	}
	delete(s.held[key.Run], key)
	s.count--
	if len(s.held[key.Run]) == 0 {
		delete(s.held, key.Run)
	}
}

// Held is what on our side keeps an open run: from being polled, from being
// downloaded, or from its manifest.
func (s *status) Held(r run.Run) (reasons []string) {
	if r.State.Settled() {
		return nil
	}
	kinds := []run.EventKind{run.QueueTrouble}
	if !r.Ended() {
		kinds = append(kinds, run.APIRefused, run.APIDown)
	}
	if r.Ended() || r.Open() > 0 {
		kinds = append(kinds, run.VolumeOffline)
	}
	if r.Open() > 0 {
		kinds = append(kinds, run.DiskLow)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reasons = s.reasons(kinds)
	return append(reasons, s.heldIn(r.ID)...)
}

// heldIn is what keeps this run alone, and one of its assets where some are kept.
// The lock is held.
func (s *status) heldIn(id run.ID) (reasons []string) {
	kept := slices.SortedFunc(maps.Keys(s.held[id]), func(a, b run.Key) int { return strings.Compare(a.String(), b.String()) })
	if len(kept) > 0 && kept[0].ID == "" {
		reasons = append(reasons, s.held[id][kept[0]])
		kept = kept[1:]
	}
	if len(kept) > 0 {
		reasons = append(reasons, fmt.Sprintf("%s held up, the first: %s", english.Plural(len(kept), "asset", ""), s.held[id][kept[0]]))
	}
	return reasons
}

// HeldAsset is what on our side keeps this asset alone, empty where nothing does.
func (s *status) HeldAsset(key run.Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[key.Run][key]
}

// reasons is the faults there are of these kinds. The lock is held.
func (s *status) reasons(kinds []run.EventKind) (reasons []string) {
	for _, k := range kinds {
		if f, bad := s.faults[k]; bad {
			reasons = append(reasons, f.String())
		}
	}
	return reasons
}

// wrong is what concerns all runs and is wrong now.
func (s *status) wrong() map[run.EventKind]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := make(map[run.EventKind]bool, len(s.faults))
	for k := range s.faults {
		wrong[k] = true
	}
	return wrong
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

// Ready says whether the daemon can do its work as well. An API that cannot be
// reached does not make it unready: it waits and goes on by itself.
func (s *status) Ready() server.Health {
	h := s.Alive()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		h.Reasons = append(h.Reasons, "the drop directory has not been looked at since the start")
	}
	kinds := []run.EventKind{run.APIRefused, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.DropHangs, run.QueueTrouble, run.ListenTrouble}
	h.Reasons = append(h.Reasons, s.reasons(kinds)...)
	h.OK = len(h.Reasons) == 0
	return h
}
