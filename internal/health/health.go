// Package health gathers from the events of the stages what is wrong now: faults that
// concern all runs, and what holds up single runs and assets.
//
// It answers from memory and from the queue's writer alone. No volume and no network is
// asked, since they may hang.
package health

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

// Queue reports whether the queue's writer answers.
type Queue interface {
	Alive(ctx context.Context) error
}

// Monitor is the state of health. It is safe for concurrent use.
type Monitor struct {
	queue Queue

	mu      sync.Mutex
	started bool
	tick    time.Time // of the scheduler; monotonic
	faults  map[run.EventKind]fault
	held    map[run.ID]map[run.Key]string // what holds up assets, and under a key without ID their run
	count   int                           // entries of held
}

// fault is trouble that concerns all runs.
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

const (
	// maxTickAge is the age of the last tick after which the scheduler counts as stuck.
	// Ticks come every second.
	maxTickAge = 15 * time.Second
	// writerTimeout is how long the queue's writer may take to answer.
	writerTimeout = 2 * time.Second
	// maxHeld bounds how many reasons are remembered of single assets: people read them.
	maxHeld = 10_000
)

// New returns a Monitor that has just had a tick and knows of no fault.
func New(q Queue) *Monitor {
	return &Monitor{queue: q, tick: time.Now(), faults: map[run.EventKind]fault{}, held: map[run.ID]map[run.Key]string{}}
}

// ends returns the faults that an event ends.
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

// Note applies an event. It reports whether the event is news: several stages find out
// that the volume is offline, or back.
func (m *Monitor) Note(e run.Event) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold(e)
	_, offline := m.faults[run.VolumeOffline]
	for _, k := range ends(e.Kind) {
		delete(m.faults, k)
	}
	switch e.Kind {
	case run.APIRefused, run.APIDown, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.DropHangs, run.QueueTrouble, run.ListenTrouble:
		f, known := m.faults[e.Kind]
		if !known {
			f.since = time.Now()
		}
		f.text, f.hint = e.Text(), cmp.Or(e.Hint, f.hint)
		m.faults[e.Kind] = f
		return !known || e.Kind != run.VolumeOffline
	case run.VolumeBack:
		return offline
	}
	return true
}

// hold applies what an event says about a single run or asset: trouble on our side, or its
// end. The lock is held.
func (m *Monitor) hold(e run.Event) {
	switch e.Kind {
	case run.ManifestTrouble:
		m.remember(run.Key{Run: e.Run}, e.Text()+": "+e.Hint)
	case storage.NameTrouble:
		m.remember(e.Asset, e.Text()+": "+e.Hint)
	case run.AssetRetry:
		var f *transfer.Failure
		unlisted := errors.As(e.Err, &f) && f.Class == transfer.Nothing // the API's, and the queue has it
		if e.Host == "" && e.Err != nil && !unlisted {                  // no server is involved
			m.remember(e.Asset, e.Err.Error())
		}
	case run.AssetStarted, run.AssetKept, run.AssetGone:
		m.drop(e.Asset)
	case run.RunSettled, run.RunRemoved:
		m.count -= len(m.held[e.Run])
		delete(m.held, e.Run)
	}
}

func (m *Monitor) remember(key run.Key, text string) {
	m.drop(key)
	if m.count >= maxHeld {
		return
	}
	if m.held[key.Run] == nil {
		m.held[key.Run] = map[run.Key]string{}
	}
	m.held[key.Run][key] = text
	m.count++
}

func (m *Monitor) drop(key run.Key) {
	if _, held := m.held[key.Run][key]; !held {
		return
	}
	delete(m.held[key.Run], key)
	m.count--
	if len(m.held[key.Run]) == 0 {
		delete(m.held, key.Run)
	}
}

// Held returns what on our side holds up an open run: its polls, its downloads or its
// manifest.
func (m *Monitor) Held(r run.Run) (reasons []string) {
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
	m.mu.Lock()
	defer m.mu.Unlock()
	reasons = m.reasons(kinds)
	return append(reasons, m.heldIn(r.ID)...)
}

// heldIn returns what holds up this run alone, and the first of its assets that is held
// up. The lock is held.
func (m *Monitor) heldIn(id run.ID) (reasons []string) {
	kept := slices.SortedFunc(maps.Keys(m.held[id]), func(a, b run.Key) int { return strings.Compare(a.String(), b.String()) })
	if len(kept) > 0 && kept[0].ID == "" {
		reasons = append(reasons, m.held[id][kept[0]])
		kept = kept[1:]
	}
	if len(kept) > 0 {
		reasons = append(reasons, fmt.Sprintf("%s held up, the first: %s", english.Plural(len(kept), "asset", ""), m.held[id][kept[0]]))
	}
	return reasons
}

// HeldAsset returns what on our side holds up this asset alone, or "".
func (m *Monitor) HeldAsset(key run.Key) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[key.Run][key]
}

// reasons returns the present faults of these kinds. The lock is held.
func (m *Monitor) reasons(kinds []run.EventKind) (reasons []string) {
	for _, k := range kinds {
		if f, bad := m.faults[k]; bad {
			reasons = append(reasons, f.String())
		}
	}
	return reasons
}

// Faults returns the kinds of the present faults.
func (m *Monitor) Faults() map[run.EventKind]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	kinds := make(map[run.EventKind]bool, len(m.faults))
	for k := range m.faults {
		kinds[k] = true
	}
	return kinds
}

// Tick notes that the scheduler works.
func (m *Monitor) Tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tick = time.Now()
}

// Started notes that the daemon has finished its start.
func (m *Monitor) Started() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started = true
}

// Alive reports whether the scheduler and the queue's writer work.
func (m *Monitor) Alive() server.Health {
	m.mu.Lock()
	since := time.Since(m.tick)
	m.mu.Unlock()
	var h server.Health
	if since > maxTickAge {
		h.Reasons = append(h.Reasons, fmt.Sprintf("no tick of the scheduler for %v", since.Round(time.Second)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), writerTimeout)
	defer cancel()
	if err := m.queue.Alive(ctx); err != nil {
		h.Reasons = append(h.Reasons, err.Error())
	}
	h.OK = len(h.Reasons) == 0
	return h
}

// Ready reports whether the daemon can do its work as well. An API that cannot be reached
// does not make it unready: it waits and resumes by itself.
func (m *Monitor) Ready() server.Health {
	h := m.Alive()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started {
		h.Reasons = append(h.Reasons, "the drop directory has not been scanned since the start")
	}
	kinds := []run.EventKind{run.APIRefused, run.VolumeOffline, run.DiskLow, run.DropTrouble, run.DropHangs, run.QueueTrouble, run.ListenTrouble}
	h.Reasons = append(h.Reasons, m.reasons(kinds)...)
	h.OK = len(h.Reasons) == 0
	return h
}
