package plan_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/plan"
	"github.com/assetd/assetd/internal/run"
)

// modelAsset and modelHost are the backlog done the slow and plain way: every
// question is answered by looking at everything.
type modelAsset struct {
	run      plan.Run
	a        plan.Asset
	seq      int
	at       time.Duration
	room     bool
	ticket   *plan.Ticket // in somebody's hands
	fetching string       // from this host
	fresh    bool
}

type modelHost struct {
	open     bool
	strikes  int
	until    time.Duration
	closedAt int // picks so far when it was closed
	answered time.Duration
	probe    *plan.Ticket
	turn     time.Duration // when there may be a request again
	extra    bool          // the last one began no transfer
}

type model struct {
	workers int
	every   time.Duration // from one request to a host to the next; 0: none
	assets  []*modelAsset
	hosts   map[string]*modelHost
	pickOf  map[*plan.Ticket]int
	start   map[*plan.Ticket]time.Duration
	picks   int
	seq     int
	now     time.Duration
}

func (m *model) host(name string) *modelHost {
	if m.hosts[name] == nil {
		m.hosts[name] = &modelHost{answered: -1}
	}
	return m.hosts[name]
}

func (m *model) find(k run.Key) *modelAsset {
	for _, a := range m.assets {
		if a.a.Key == k {
			return a
		}
	}
	return nil
}

// How an asset is put in.
const (
	add = iota
	update
	put
)

func (m *model) put(r plan.Run, a plan.Asset, how int) {
	for _, other := range m.assets { // what is known of a run is known for all its assets
		switch {
		case other.a.Key.Run != a.Key.Run:
		case how == add:
			r = other.run
		default:
			other.run = r
		}
	}
	x := m.find(a.Key)
	switch {
	case x == nil:
		m.assets = append(m.assets, &modelAsset{run: r, a: a, seq: m.seq})
		m.seq++
	case how == add:
	case how == update:
		x.a = a
	default:
		x.a, x.fresh = a, x.ticket != nil
		if x.ticket == nil {
			x.at, x.room = 0, false
		}
	}
}

func (m *model) running(host string) (n int) {
	for _, a := range m.assets {
		if a.fetching == host {
			n++
		}
	}
	return n
}

func (m *model) probes() (n int) {
	for _, h := range m.hosts {
		if h.probe != nil {
			n++
		}
	}
	return n
}

func before(a, b *modelAsset) bool {
	if !a.a.Deadline.Equal(b.a.Deadline) {
		return a.a.Deadline.Before(b.a.Deadline)
	}
	if !a.run.HandedIn.Equal(b.run.HandedIn) {
		return a.run.HandedIn.Before(b.run.HandedIn)
	}
	return a.seq < b.seq
}

// next is what has to start now.
func (m *model) next() *modelAsset {
	var free, rest *modelAsset
	for _, a := range m.assets {
		h := m.host(a.a.Host)
		if a.ticket != nil || a.room || a.at > m.now || h.until > m.now || h.turn > m.now || !h.open && h.probe != nil {
			continue
		}
		better := func(than *modelAsset) bool { return than == nil || before(a, than) }
		spare := h.open && (m.workers == 1 || m.running(a.a.Host) < m.workers-1) ||
			!h.open && m.probes() < max(m.workers/2, 1)
		if spare && better(free) {
			free = a
		}
		if better(rest) {
			rest = a
		}
	}
	if free != nil {
		return free
	}
	return rest
}

func (m *model) started(a *modelAsset, t *plan.Ticket) {
	h := m.host(a.a.Host)
	if h.open && m.running(a.a.Host) == 0 && m.now-h.answered > time.Minute {
		h.open = false
	}
	a.ticket, a.fetching = t, a.a.Host
	h.turn, h.extra = m.now+m.every, false
	m.picks++
	m.pickOf[t], m.start[t] = m.picks, m.now
	if !h.open && h.probe == nil {
		h.probe = t
	}
}

func (m *model) release(a *modelAsset) {
	if h := m.hosts[a.fetching]; h != nil && h.probe == a.ticket {
		h.probe = nil
	}
	a.ticket, a.fetching = nil, ""
}

func (m *model) slow(a *modelAsset, least time.Duration) {
	h := m.host(a.fetching)
	wait := least
	if m.pickOf[a.ticket] > h.closedAt {
		h.open, h.closedAt = false, m.picks
		h.strikes++
		if h.probe == a.ticket {
			h.probe = nil
		}
		wait = max(wait, plan.Wait(h.strikes, 0, 1))
	}
	h.until = max(h.until, m.now+wait)
}

func (m *model) answered(a *modelAsset) {
	h := m.host(a.fetching)
	h.answered = m.now
	if !h.open && m.pickOf[a.ticket] > h.closedAt {
		*h = modelHost{open: true, answered: m.now, closedAt: h.closedAt, turn: h.turn, extra: h.extra}
	}
}

// machine runs the backlog and the model side by side.
type machine struct {
	model
	b *plan.Backlog
}

func (m *machine) draw(t *rapid.T, from func(*modelAsset) bool) *modelAsset {
	var some []*modelAsset
	for _, a := range m.assets {
		if from(a) {
			some = append(some, a)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return rapid.SampledFrom(some).Draw(t, "asset")
}

func (m *machine) fetched(t *rapid.T) *modelAsset {
	return m.draw(t, func(a *modelAsset) bool { return a.fetching != "" })
}

func (m *machine) put(t *rapid.T) {
	n := rapid.IntRange(0, 5).Draw(t, "run")
	id := run.ID("run" + strconv.Itoa(n))
	r := plan.Run{HandedIn: day.Add(time.Duration(n%2) * time.Hour), Ended: rapid.Bool().Draw(t, "ended"), EndedAt: time.Duration(n) * time.Second}
	a := plan.Asset{
		Key:      key(id, rapid.IntRange(0, 40).Draw(t, "id")),
		Host:     rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host"),
		Deadline: day.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "deadline")) * time.Second),
	}
	how := rapid.SampledFrom([]int{add, update, put}).Draw(t, "how")
	m.model.put(r, a, how)
	switch how {
	case add:
		m.b.Add(r, a)
	case update:
		m.b.Update(r, a)
	default:
		m.b.Put(r, a)
	}
}

func (m *machine) next(t *rapid.T) {
	want := m.model.next()
	ticket, ok := m.b.Next(m.now)
	switch {
	case ok != (want != nil):
		t.Fatalf("started %v, want %v", ok, want)
	case !ok:
		if at, ok := m.b.NextAt(); ok && at <= m.now {
			t.Fatalf("at %v nothing starts, but is to at %v", m.now, at)
		}
	case ticket.Key() != want.a.Key:
		t.Fatalf("started %v, want %v", ticket.Key(), want.a.Key)
	default:
		m.started(want, ticket)
	}
}

func (m *machine) overdue(t *rapid.T) {
	limit := time.Duration(rapid.IntRange(-1, 3).Draw(t, "limit")) * time.Second
	got := map[run.Key]*plan.Ticket{}
	for _, ticket := range m.b.Overdue(limit, 1000) {
		got[ticket.Key()] = ticket
	}
	for _, a := range m.assets {
		late := a.ticket == nil && a.run.Ended && a.run.EndedAt <= limit
		if (got[a.a.Key] != nil) != late {
			t.Fatalf("%v overdue: %v, want %v", a.a.Key, !late, late)
		}
		if late {
			a.ticket, a.room = got[a.a.Key], false
		}
	}
}

func (m *machine) back(t *rapid.T) {
	a := m.draw(t, func(a *modelAsset) bool { return a.ticket != nil })
	if a == nil {
		return
	}
	ticket := a.ticket
	m.release(a)
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0:
		m.b.Drop(ticket)
		m.assets = slices.DeleteFunc(m.assets, func(x *modelAsset) bool { return x == a })
	case 1:
		m.b.Room(ticket)
		a.room, a.fresh = true, false
	default:
		a.at = m.now + time.Duration(rapid.IntRange(0, 5).Draw(t, "wait"))*time.Second
		m.b.Back(ticket, a.at)
		if a.fresh {
			a.at, a.fresh = 0, false
		}
	}
}

func (m *machine) check(t *rapid.T) {
	if m.b.Len() != len(m.assets) {
		t.Fatalf("%d assets, want %d", m.b.Len(), len(m.assets))
	}
	var first *modelAsset
	for _, a := range m.assets {
		if a.room && a.ticket == nil && (first == nil || before(a, first)) {
			first = a
		}
	}
	var ended []time.Duration
	for _, a := range m.assets {
		if a.run.Ended {
			ended = append(ended, a.run.EndedAt)
		}
	}
	if at, ok := m.b.Ended(); ok != (len(ended) > 0) || ok && at != slices.Min(ended) {
		t.Fatalf("the first run ended at %v, %v; want the first of %v", at, ok, ended)
	}
	if k, ok := m.b.NeedsRoom(); ok != (first != nil) || ok && k != first.a.Key {
		t.Fatalf("%v, %v needs room, want %v", k, ok, first)
	}
}

func (m *machine) hold(t *rapid.T) {
	if a := m.fetched(t); a != nil {
		ticket := a.ticket
		m.b.Hold(ticket)
		m.release(a)
		a.ticket = ticket
	}
}

func (m *machine) answer(t *rapid.T) {
	if a := m.fetched(t); a != nil {
		m.answered(a)
		m.b.Answered(a.ticket, m.now)
	}
}

func (m *machine) slowed(t *rapid.T) {
	if a := m.fetched(t); a != nil {
		least := time.Duration(rapid.IntRange(0, 9).Draw(t, "least")) * time.Second
		m.slow(a, least)
		m.b.Slow(a.ticket, m.now, plan.Pause{Least: least, Random: 1})
	}
}

func (m *machine) silent(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	silent := m.host(a.fetching).answered < m.start[a.ticket]
	if silent {
		m.slow(a, 0)
	}
	if _, closed := m.b.Silent(a.ticket, m.now, plan.Pause{Random: 1}); closed != silent {
		t.Fatalf("closed %v, want %v", closed, silent)
	}
}

func (m *machine) spoke(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	if h := m.host(a.fetching); h.strikes > 0 && !h.open {
		m.slow(a, 0)
	} else {
		m.answered(a)
	}
	m.b.Spoke(a.ticket, m.now, plan.Pause{Random: 1})
}

func (m *machine) undecided(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	h := m.host(a.fetching)
	switch wait := time.Duration(0); {
	case h.open || h.strikes == 0:
		m.answered(a)
	default:
		if m.pickOf[a.ticket] > h.closedAt {
			wait = time.Second
			if h.probe == a.ticket {
				h.probe = nil
			}
		}
		h.until = max(h.until, m.now+wait)
	}
	m.b.Undecided(a.ticket, m.now, plan.Pause{Random: 1})
}

func (m *machine) further(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host")
	h := m.host(name)
	turn := h.turn
	if h.extra {
		turn += m.every
	}
	at, ok := m.b.Further(name, m.now)
	if ok != (turn <= m.now) || !ok && at != turn {
		t.Fatalf("one more request to %s: %v at %v, its turn is at %v", name, ok, at, turn)
	}
	if ok {
		h.turn, h.extra = m.now+m.every, true
	}
}

func (m *machine) room(*rapid.T) {
	if k, ok := m.b.NeedsRoom(); ok {
		m.find(k).room, m.find(k).at = false, 0
		m.b.HasRoom(k)
	}
}

func (m *machine) dropRun(t *rapid.T) {
	id := run.ID("run" + strconv.Itoa(rapid.IntRange(0, 5).Draw(t, "run")))
	m.b.DropRun(id)
	m.assets = slices.DeleteFunc(m.assets, func(a *modelAsset) bool { return a.a.Key.Run == id && a.ticket == nil })
}

func (m *machine) pass(t *rapid.T) {
	m.now += time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second
}

func TestBacklogDoesWhatThePlainModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 5).Draw(t, "workers")
		every := rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Second}).Draw(t, "every")
		m := &machine{b: plan.New(workers), model: model{
			workers: workers, every: every, hosts: map[string]*modelHost{},
			pickOf: map[*plan.Ticket]int{}, start: map[*plan.Ticket]time.Duration{},
		}}
		if m.b.SetPace(1e9); every > 0 { // so many that it is none, or that one
			m.b.SetPace(1 / every.Seconds())
		}
		steps := []func(*rapid.T){
			m.put, m.put, m.put, m.put, m.put, m.put, m.next, m.next, m.next, m.next, m.back, m.back,
			m.overdue, m.hold, m.answer, m.answer, m.slowed, m.silent, m.spoke, m.undecided, m.further, m.room, m.dropRun, m.pass,
		}
		for range rapid.SampledFrom([]int{10, 100, 1000}).Draw(t, "length") {
			rapid.SampledFrom(steps).Draw(t, "step")(t)
			m.check(t)
		}
	})
}
