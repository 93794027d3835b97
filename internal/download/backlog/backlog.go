// Package backlog keeps the assets that wait and says which one a free worker starts next:
// the most urgent one that may start now. For each host it has a circuit breaker with
// probes and a rate limit.
//
// It guarantees that the order is by deadline, then by the time the run was added; that
// nothing starts before its time, on a host whose breaker is open, or twice at once; that a
// host that has not answered lately or was throttled gets one probe at a time, first for
// assets that were not refused since; that a host that throttles is asked less often; and
// that no host, slow or unreachable, takes all workers while an asset of another one may
// start. Every step costs O(log n), and an asset about 200 bytes.
//
// It is pure: no lock, no clock, no connection. Deadlines are wall times that are only
// compared; all other times are on the caller's monotonic clock, so that a step of the wall
// clock starts nothing early or late. What a response means, and what is lost, is for the
// caller to decide.
package backlog

import (
	"cmp"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/download/heap"
	"github.com/assetd/assetd/internal/run"
)

// Run is what the backlog needs to know of an asset's run.
type Run struct {
	HandedIn time.Time
	App      string        // that it is a run of; empty: not known
	Ended    bool          // the run had its terminal answer or was given up
	EndedAt  time.Duration // when, on the service clock
}

// Asset is an asset that waits.
type Asset struct {
	Key      run.Key
	Host     string    // that its URL leads to; empty: none
	Deadline time.Time // when it should be there
	Expiry   time.Time // of its URL, by its server's clock; zero: not known
}

// state is what an item does.
type state uint8

const (
	ready   state = iota // may start as soon as its host may
	later                // not before its time
	blocked              // until there is free space
	taken                // by a Ticket
)

// item is an asset in the backlog. A million of them must fit: what can be read
// again from the queue is not kept.
type item struct {
	id       string
	kind     run.Kind
	run      *group
	host     *host
	deadline int64         // Unix ms
	expiry   int64         // the same; 0: not known
	at       time.Duration // not before; state later
	pos      int32         // in the heap of its state
	seq      uint32        // order of arrival
	failed   uint64        // the last pick before its host last failed it; 0: it did not since it answered
	state    state
	turn     turn // state ready: which of its host's
	fresh    bool // changed while taken: it waits for nothing when it comes back
	tried    bool // a request was made for it
	own      bool // it failed while others of its host were answered
	came     bool // it is new, or has another URL
}

func (it *item) key() run.Key { return run.Key{Run: it.run.id, Kind: it.kind, ID: it.id} }

func itemPos(it *item) *int32 { return &it.pos }

// urgent is the order of starting.
func urgent(a, b *item) bool { return compare(a, b) < 0 }

func compare(a, b *item) int {
	return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.run.handedIn, b.run.handedIn), cmp.Compare(a.seq, b.seq))
}

// Backlog is every asset that is neither stored nor lost, nor with the committer for
// good. It is not safe for concurrent use.
type Backlog struct {
	workers int
	seq     uint32
	picks   uint64
	probes  int // hosts that are being probed, but for those whose probe is parked
	parked  int
	byLate  bool // the last probe, where they take turns, went to the least urgent host
	count   int

	runs    map[run.ID]*group
	ended   heap.Heap[*group] // runs that ended, first first
	later   heap.Heap[*item]  // by time
	blocked heap.Heap[*item]  // by urgency
	first   []*Ticket         // to be started before all others

	hosts
}

// New is an empty backlog for so many workers.
func New(workers int) *Backlog {
	return &Backlog{
		workers: workers,
		runs:    map[run.ID]*group{},
		ended:   heap.Heap[*group]{Less: func(a, b *group) bool { return a.ended < b.ended }, Index: func(g *group) *int32 { return &g.pos }},
		later:   heap.Heap[*item]{Less: func(a, b *item) bool { return a.at < b.at }, Index: itemPos},
		blocked: heap.Heap[*item]{Less: urgent, Index: itemPos},
		hosts:   newHosts(),
	}
}

// Len is the number of assets in the backlog, those taken included.
func (b *Backlog) Len() int { return b.count }

// Waits reports whether any asset of the run is in the backlog.
func (b *Backlog) Waits(id run.ID) bool { return b.runs[id] != nil }

// Add takes an asset in unless it is known. What is known of its run stays, too.
func (b *Backlog) Add(r Run, a Asset) {
	g := b.group(a.Key.Run, r)
	if g.find(a.Key) == nil {
		b.insert(g, a)
	}
}

// Put takes an asset in, or what has changed about one that is known and about
// its run: it may start at once, whatever it waited for. One that is taken waits
// for nothing when it comes back.
func (b *Backlog) Put(r Run, a Asset) {
	g := b.group(a.Key.Run, r)
	b.update(g, r)
	it := g.find(a.Key)
	if it == nil {
		b.insert(g, a)
		return
	}
	if it.state == taken {
		b.assign(it, a)
		it.fresh = true
		return
	}
	b.detach(it)
	b.assign(it, a)
	b.untry(it)
	b.wait(it, 0)
}

// untry makes an asset that was tried and may have another URL count as not tried. That
// its failures are its own is kept.
func (b *Backlog) untry(it *item) {
	it.came = it.came || it.tried
	it.tried, it.failed = false, 0
}

// Update takes an asset in, or what has changed about one that is known and about
// its run: what it waits for stays.
func (b *Backlog) Update(r Run, a Asset) {
	g := b.group(a.Key.Run, r)
	b.update(g, r)
	it := g.find(a.Key)
	if it == nil {
		b.insert(g, a)
		return
	}
	b.detach(it)
	b.assign(it, a)
	switch it.state {
	case ready:
		b.wait(it, 0)
	case later:
		b.later.Push(it)
	case blocked:
		b.blocked.Push(it)
	case taken:
	}
}

func (b *Backlog) insert(g *group, a Asset) {
	it := &item{id: a.Key.ID, kind: a.Key.Kind, run: g, seq: b.seq, came: true}
	b.seq++
	b.count++
	g.add(it)
	b.assign(it, a)
	b.wait(it, 0)
}

func (b *Backlog) assign(it *item, a Asset) {
	it.deadline, it.expiry = a.Deadline.UnixMilli(), 0
	if !a.Expiry.IsZero() {
		it.expiry = a.Expiry.UnixMilli()
	}
	was := it.host
	if was != nil {
		was.items--
	}
	it.host = b.host(a.Host)
	it.host.items++
	if was != nil && was != it.host {
		it.tried, it.own, it.failed, it.came = false, false, 0, true
	}
}

// wait lets the item wait until at.
func (b *Backlog) wait(it *item, at time.Duration) {
	if at > 0 {
		it.state, it.at = later, at
		b.later.Push(it)
		return
	}
	it.state, it.turn = ready, it.host.turnOf(it)
	it.host.ready.push(it)
	b.place(it.host)
}

// detach takes the item out of whatever it waits in.
func (b *Backlog) detach(it *item) {
	switch it.state {
	case ready:
		it.host.ready.remove(it)
		b.place(it.host)
	case later:
		b.later.Remove(it)
	case blocked:
		b.blocked.Remove(it)
	case taken:
	}
}

// Ticket is an asset that is taken, from Next or Overdue until it is given
// back by Back, AwaitSpace or Drop.
type Ticket struct {
	item  *item
	host  *host         // that the asset is or was fetched from; nil: it was not started
	held  bool          // it is not being fetched any more
	idle  Idle          // why it is parked; 0: it is not
	pick  uint64        // which start this is
	start time.Duration // when
}

// Key names the asset.
func (t *Ticket) Key() run.Key { return t.item.key() }

// Next takes the most urgent asset that may start now; false: none may.
func (b *Backlog) Next(now time.Duration) (*Ticket, bool) {
	if t, ok := b.NextFirst(now); ok {
		return t, true
	}
	b.Promote(now)
	h := b.pick()
	if h == nil {
		return nil, false
	}
	it := h.head()
	h.ready.remove(it)
	it.state = taken
	t := &Ticket{item: it}
	b.start(t, now)
	return t, true
}

// NextAt is when Next can have something it has not now. False: not before
// something changes.
func (b *Backlog) NextAt() (at time.Duration, ok bool) {
	if !b.later.Empty() {
		at, ok = b.later.First().at, true
	}
	if !b.closed.Empty() && (!ok || b.closed.First().until < at) {
		at, ok = b.closed.First().until, true
	}
	if !b.paced.Empty() && (!ok || b.paced.First().rest < at) {
		at, ok = b.paced.First().rest, true
	}
	return at, ok
}

// Promote makes ready whose time has come, as Next does, and reports whether there
// was any.
func (b *Backlog) Promote(now time.Duration) (some bool) {
	for !b.later.Empty() && b.later.First().at <= now {
		it := b.later.Pop()
		b.wait(it, 0)
		b.hurry(it, now)
		some = true
	}
	return b.reopen(now) || some
}

// Back gives the asset back: it may start again at that time; 0: at once.
func (b *Backlog) Back(t *Ticket, at time.Duration) {
	b.Hold(t)
	if t.item.fresh {
		at = 0
		b.untry(t.item)
	}
	t.item.fresh = false
	b.wait(t.item, at)
}

// AwaitSpace gives the asset back: it may start again once HasSpace says so.
func (b *Backlog) AwaitSpace(t *Ticket) {
	b.Hold(t)
	t.item.fresh, t.item.state = false, blocked
	b.blocked.Push(t.item)
}

// Changed reports whether Put was called for the asset since it was taken.
func (b *Backlog) Changed(t *Ticket) bool { return t.item.fresh }

// Drop takes the asset out of the backlog for good.
func (b *Backlog) Drop(t *Ticket) {
	b.Hold(t)
	b.forget(t.item)
}

func (b *Backlog) forget(it *item) {
	it.host.items--
	b.count--
	g := it.run
	if g.take(it); len(g.items) > 0 {
		return
	}
	delete(b.runs, g.id)
	if g.ended >= 0 {
		b.ended.Remove(g)
	}
}

// DropRun takes all assets of the run out but those taken, which
// are their holders' to drop, and returns what it took out.
func (b *Backlog) DropRun(id run.ID) (dropped []run.Key) {
	g := b.runs[id]
	if g == nil {
		return nil
	}
	for _, it := range slices.Clone(g.items) {
		if it.state != taken {
			dropped = append(dropped, it.key())
			b.detach(it)
			b.forget(it)
		}
	}
	return dropped
}

// NeedsSpace is the most urgent asset that waits for free space.
func (b *Backlog) NeedsSpace() (run.Key, bool) {
	if b.blocked.Empty() {
		return run.Key{}, false
	}
	return b.blocked.First().key(), true
}

// HasSpace lets an asset start, if it waits for free space.
func (b *Backlog) HasSpace(key run.Key) {
	if it := b.find(key); it != nil && it.state == blocked {
		b.detach(it)
		b.wait(it, 0)
	}
}

// LessUrgent is those of the keys that are less urgent than that one and not
// taken, the least urgent first.
func (b *Backlog) LessUrgent(than run.Key, keys []run.Key) []run.Key {
	limit := b.find(than)
	if limit == nil {
		return nil
	}
	var items []*item
	for _, k := range keys {
		if it := b.find(k); it != nil && it.state != taken && urgent(limit, it) {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b *item) int { return compare(b, a) })
	less := make([]run.Key, len(items))
	for i, it := range items {
		less[i] = it.key()
	}
	return less
}
