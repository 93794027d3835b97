package backlog_test

import (
	"cmp"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

// modelAsset and modelHost are the backlog done the slow and plain way: every
// question is answered by looking at everything.
type modelAsset struct {
	run      backlog.Run
	a        backlog.Asset
	seq      int
	at       time.Duration
	room     bool
	ticket   *backlog.Ticket // in somebody's hands
	fetching string          // from this host
	fresh    bool
	tried    bool
	own      bool // its failures are
	came     bool
	failed   int // picks so far when it last failed; 0: it did not since it was answered
	idle     backlog.Idle
	later    bool // it waits for its time, as far as the backlog knows
}

type modelHost struct {
	open      bool
	strikes   int
	until     time.Duration
	closedAt  int // picks so far when it was closed
	answered  time.Duration
	probe     *backlog.Ticket
	turn      time.Duration // when there may be a request again
	extra     bool          // the last one began no transfer
	since     int           // picks so far when it was throttled
	success   int           // the last pick that was answered as it should
	suspected bool          // what was started last fails for its own sake
	left      int           // probes of the sweep
	end       time.Duration
	due       time.Duration // when what was never asked for should have been; 0: not set
}

func (h *modelHost) throttled() bool { return !h.open && h.strikes > 0 }

type model struct {
	byLate  bool
	workers int
	every   time.Duration // from one request to a host to the next; 0: none
	assets  []*modelAsset
	hosts   map[string]*modelHost
	pickOf  map[*backlog.Ticket]int
	start   map[*backlog.Ticket]time.Duration
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

func (m *model) put(r backlog.Run, a backlog.Asset, how int) {
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
		m.assets = append(m.assets, &modelAsset{run: r, a: a, seq: m.seq, came: true})
		m.seq++
		return
	case how == add:
		return
	}
	if x.a.Host != a.Host {
		x.tried, x.own, x.failed, x.came = false, false, 0, true
	}
	if x.a = a; how == update {
		return
	}
	if x.fresh = x.ticket != nil; !x.fresh {
		x.at, x.room, x.later = 0, false, false
		x.anew()
	}
}

func (a *modelAsset) anew() {
	a.came = a.came || a.tried
	a.tried, a.failed = false, 0
}

// count is how many assets are fetched from the host of which that is true; empty: of
// all hosts.
func (m *model) count(host string, is func(*modelAsset) bool) (n int) {
	for _, a := range m.assets {
		if a.fetching != "" && (host == "" || a.fetching == host) && is(a) {
			n++
		}
	}
	return n
}

func (m *model) running(host string) int {
	return m.count(host, func(a *modelAsset) bool { return a.idle == 0 })
}

func (m *model) trickling(host string) int {
	return m.count(host, func(a *modelAsset) bool { return a.idle == backlog.Trickling })
}

// closed reports whether any host is to be left alone.
func (m *model) closed() bool {
	for _, h := range m.hosts {
		if h.until > m.now {
			return true
		}
	}
	return false
}

func (m *model) parked() int { return m.count("", func(a *modelAsset) bool { return a.idle > 0 }) }

func (m *model) probes() int {
	return m.count("", func(a *modelAsset) bool { return m.host(a.fetching).probe == a.ticket && a.idle == 0 })
}

func (m *model) share() bool { return m.probes() < max(m.workers/2, 1) }

func before(a, b *modelAsset) bool {
	if !a.a.Deadline.Equal(b.a.Deadline) {
		return a.a.Deadline.Before(b.a.Deadline)
	}
	if !a.run.HandedIn.Equal(b.run.HandedIn) {
		return a.run.HandedIn.Before(b.run.HandedIn)
	}
	return a.seq < b.seq
}

func (m *model) ready(a *modelAsset) bool {
	return a.ticket == nil && !a.room && a.at <= m.now
}

// turn is the asset's place among those of its host while that is throttled.
func (m *model) turn(a *modelAsset) int {
	h := m.host(a.a.Host)
	switch {
	case a.own:
		return 3
	case a.failed > 0 && a.failed >= h.since && h.throttled():
		return 2
	case a.tried:
		return 1
	}
	return 0
}

// head is what is next of the host, nil where nothing is.
func (m *model) head(name string) (first *modelAsset) {
	h := m.host(name)
	if h.until > m.now || h.turn > m.now || !h.open && h.probe != nil {
		return nil
	}
	better := func(a, b *modelAsset) bool {
		x, y := m.turn(a), m.turn(b)
		switch {
		case !h.throttled() && h.suspected && a.own != b.own:
			return b.own
		case !h.throttled():
			return before(a, b)
		case x != y:
			return x < y
		case x == 2 && a.failed != b.failed:
			return a.failed < b.failed
		}
		return before(a, b)
	}
	for _, a := range m.assets {
		if a.a.Host == name && m.ready(a) && (first == nil || better(a, first)) {
			first = a
		}
	}
	return first
}

// next is what has to start now.
func (m *model) next() *modelAsset {
	var free, full, slow, probe, late *modelAsset
	earliest := func(at **modelAsset, a *modelAsset) {
		if *at == nil || before(a, *at) {
			*at = a
		}
	}
	failed := func(a *modelAsset) bool { return m.host(a.a.Host).strikes > 0 }
	for _, name := range []string{"a", "b", "c"} {
		h, a := m.host(name), m.head(name)
		switch {
		case a == nil:
		case !h.open:
			if probe == nil || failed(a) != failed(probe) && failed(probe) || failed(a) == failed(probe) && before(a, probe) {
				probe = a
			}
			if late == nil || failed(a) != failed(late) && failed(late) || failed(a) == failed(late) && before(late, a) {
				late = a
			}
		case m.running(name) >= m.workers:
		case m.trickling(name) > 0:
			earliest(&slow, a)
		case m.workers > 1 && m.running(name) >= m.workers-1:
			earliest(&full, a)
		default:
			earliest(&free, a)
		}
	}
	if !m.share() {
		probe = nil
	}
	if probe != nil && (m.parked() > 0 || m.closed()) {
		if m.byLate = !m.byLate; m.byLate {
			return late
		}
	}
	if probe != nil {
		earliest(&free, probe)
	}
	for _, a := range []*modelAsset{free, full, slow} {
		if a != nil {
			return a
		}
	}
	return nil
}

func (m *model) started(a *modelAsset, t *backlog.Ticket) {
	h := m.host(a.a.Host)
	if !h.open && h.left > 0 {
		h.left--
	}
	defer func() {
		if m.untried(a.fetching) == 0 {
			h.due = 0
		}
	}()
	if h.open && m.running(a.a.Host) == 0 && m.now-h.answered > time.Minute {
		h.open = false
	}
	a.ticket, a.fetching, a.tried, a.came = t, a.a.Host, true, false
	h.suspected = a.own
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
	a.ticket, a.fetching, a.idle = nil, "", 0
}

// bounded is how long the host waits if it has to wait so long.
func (m *model) bounded(name string, wait time.Duration) time.Duration {
	h, n := m.host(name), 0
	for _, a := range m.assets {
		if a.a.Host == name && m.isReady(a) && m.turn(a) < 2 {
			n++
		}
	}
	wait = min(wait, time.Minute)
	if n = min(n, h.left); n <= 0 || m.now >= h.end+20*time.Second {
		return wait
	}
	return min(wait, max((h.end-m.now)/time.Duration(n+1), 40*time.Second/65))
}

// grant allows so many probes; what was never asked for keeps the time of the first ones.
func (m *model) grant(name string, probes int) {
	h, n := m.host(name), m.untried(name)
	end := m.now + 40*time.Second
	switch {
	case n == 0:
		h.due = 0
	case h.due == 0:
		h.due = end
	default:
		end = min(end, max(h.due, m.now+40*time.Second/65*time.Duration(n+1)))
	}
	h.left, h.end = min(h.left+probes, 64), end
}

func (m *model) untried(name string) (n int) {
	for _, a := range m.assets {
		if a.a.Host == name && m.isReady(a) && m.turn(a) == 0 {
			n++
		}
	}
	return n
}

// isReady reports whether it may start as far as the backlog knows, which takes note of
// the time when it is asked for the next.
func (m *model) isReady(a *modelAsset) bool { return a.ticket == nil && !a.room && !a.later }

func (m *model) wait(name string, wait time.Duration) {
	h := m.host(name)
	h.until = max(h.until, m.now+m.bounded(name, wait))
}

func (m *model) blame(a *modelAsset) (own bool) {
	h := m.host(a.fetching)
	if a.a.Host != a.fetching {
		return false
	}
	if a.failed > 0 && h.success > a.failed && !h.throttled() {
		a.own = true
	}
	a.failed = m.picks
	return a.own
}

func (m *model) slow(a *modelAsset, least time.Duration) {
	h := m.host(a.fetching)
	wait := least
	if m.pickOf[a.ticket] > h.closedAt {
		if !h.throttled() {
			h.since = m.picks
			m.grant(a.fetching, 64)
		}
		h.open, h.closedAt = false, m.picks
		h.strikes++
		if h.probe == a.ticket {
			h.probe = nil
		}
		wait = max(wait, backlog.RetryDelay(h.strikes, 0, 1))
	}
	m.wait(a.fetching, wait)
}

// goOn is a failure that says nothing of a throttled host.
func (m *model) goOn(a *modelAsset) {
	h := m.host(a.fetching)
	if !h.throttled() {
		return
	}
	wait := time.Duration(0)
	if m.pickOf[a.ticket] > h.closedAt {
		wait = time.Second
		if h.probe == a.ticket {
			h.probe = nil
		}
	}
	m.wait(a.fetching, wait)
}

func (m *model) alive(a *modelAsset) {
	h := m.host(a.fetching)
	h.answered = m.now
	if a.idle < backlog.Trickling {
		a.idle = 0
	}
	if !h.open && m.pickOf[a.ticket] > h.closedAt {
		*h = modelHost{open: true, answered: m.now, closedAt: h.closedAt, turn: h.turn, extra: h.extra, since: h.since, due: h.due, success: h.success, suspected: h.suspected}
	}
}

func (m *model) answered(a *modelAsset) {
	h := m.host(a.fetching)
	h.success = max(h.success, m.pickOf[a.ticket])
	if a.a.Host == a.fetching {
		a.failed, a.own = 0, false
	}
	m.alive(a)
}

// machine runs the backlog and the model side by side.
type machine struct {
	model
	b *backlog.Backlog
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
	r := backlog.Run{HandedIn: day.Add(time.Duration(n%2) * time.Hour), Ended: rapid.Bool().Draw(t, "ended"), EndedAt: time.Duration(n) * time.Second}
	a := backlog.Asset{
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
	m.promote()
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
	got := map[run.Key]*backlog.Ticket{}
	for _, ticket := range m.b.Overdue(limit, 1000) {
		got[ticket.Key()] = ticket
	}
	for _, a := range m.assets {
		late := a.ticket == nil && a.run.Ended && a.run.EndedAt <= limit
		if (got[a.a.Key] != nil) != late {
			t.Fatalf("%v overdue: %v, want %v", a.a.Key, !late, late)
		}
		if late {
			a.ticket, a.room, a.later = got[a.a.Key], false, false
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
		m.b.AwaitSpace(ticket)
		a.room, a.fresh = true, false
	default:
		a.at = m.now + time.Duration(rapid.IntRange(0, 5).Draw(t, "wait"))*time.Second
		m.b.Back(ticket, a.at)
		if a.fresh {
			a.at, a.fresh = 0, false
			a.anew()
		}
		a.later = a.at > 0
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
	if k, ok := m.b.NeedsSpace(); ok != (first != nil) || ok && k != first.a.Key {
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
		least := time.Duration(rapid.IntRange(0, 90).Draw(t, "least")) * time.Second
		switch {
		case !m.blame(a):
			m.slow(a, least)
		case m.host(a.fetching).throttled():
			m.goOn(a)
		default:
			m.alive(a)
		}
		m.b.Slow(a.ticket, m.now, backlog.Pause{Least: least, Random: 1})
	}
}

func (m *machine) silent(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	own := m.blame(a)
	silent := m.host(a.fetching).answered < m.start[a.ticket]
	switch {
	case silent && own:
		m.goOn(a)
	case silent:
		m.slow(a, 0)
	}
	silent = silent && !own
	if _, closed := m.b.Silent(a.ticket, m.now, backlog.Pause{Random: 1}); closed != silent {
		t.Fatalf("closed %v, want %v", closed, silent)
	}
}

func (m *machine) spoke(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	switch {
	case !m.host(a.fetching).throttled():
		m.alive(a)
	case m.blame(a):
		m.goOn(a)
	default:
		m.slow(a, 0)
	}
	m.b.Spoke(a.ticket, m.now, backlog.Pause{Random: 1})
}

func (m *machine) undecided(t *rapid.T) {
	a := m.fetched(t)
	if a == nil {
		return
	}
	switch {
	case !m.host(a.fetching).throttled():
		m.alive(a)
	default:
		if a.a.Host == a.fetching {
			a.failed = m.picks
		}
		m.goOn(a)
	}
	m.b.Undecided(a.ticket, m.now, backlog.Pause{Random: 1})
}

func (m *machine) park(t *rapid.T) {
	a := m.fetched(t)
	why := rapid.SampledFrom([]backlog.Idle{backlog.Dialing, backlog.Mute, backlog.Trickling}).Draw(t, "why")
	if a == nil {
		return
	}
	m.b.Park(a.ticket, m.now, why)
	if why <= a.idle {
		return
	}
	h := m.host(a.fetching)
	a.idle = why
	if why == backlog.Mute && h.probe == a.ticket {
		if h.strikes == 0 && h.end == 0 {
			m.grant(a.fetching, 64)
		}
		if h.left > 0 && m.now < h.end+20*time.Second {
			h.probe, h.until = nil, 0
		}
	}
	if got := m.b.Parked(); got != m.parked() {
		t.Fatalf("%d parked, want %d", got, m.parked())
	}
}

func (m *machine) unpark(t *rapid.T) {
	if a := m.fetched(t); a != nil {
		m.b.Unpark(a.ticket)
		a.idle = 0
	}
}

func (m *machine) hurry(t *rapid.T) {
	a := m.draw(t, func(a *modelAsset) bool { return a.came })
	if a == nil {
		return
	}
	a.came = false
	m.model.hurry(a)
	m.b.Hurry(a.a.Key, m.now)
}

// hurry has the host asked in time for an asset that can start.
func (m *model) hurry(a *modelAsset) {
	h := m.host(a.a.Host)
	if !m.isReady(a) || m.turn(a) >= 2 || !h.throttled() {
		return
	}
	m.grant(a.a.Host, 1)
	if h.until > m.now {
		h.until = m.now + m.bounded(a.a.Host, h.until-m.now)
	}
}

// promote takes note of whose time has come, in that order.
func (m *model) promote() {
	var due []*modelAsset
	for _, a := range m.assets {
		if a.later && a.at <= m.now {
			due = append(due, a)
		}
	}
	slices.SortStableFunc(due, func(a, b *modelAsset) int { return cmp.Compare(a.at, b.at) })
	for _, a := range due {
		a.later = false
		m.hurry(a)
	}
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
	if k, ok := m.b.NeedsSpace(); ok {
		m.find(k).room, m.find(k).at = false, 0
		m.b.HasSpace(k)
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
		m := &machine{b: backlog.New(workers), model: model{
			workers: workers, every: every, hosts: map[string]*modelHost{},
			pickOf: map[*backlog.Ticket]int{}, start: map[*backlog.Ticket]time.Duration{},
		}}
		if m.b.SetRateLimit(1e9); every > 0 { // so many that it is none, or that one
			m.b.SetRateLimit(1 / every.Seconds())
		}
		steps := []func(*rapid.T){
			m.put, m.put, m.put, m.put, m.put, m.put, m.next, m.next, m.next, m.next, m.back, m.back,
			m.overdue, m.hold, m.answer, m.answer, m.slowed, m.silent, m.spoke, m.undecided, m.park, m.unpark, m.hurry, m.further, m.room, m.dropRun, m.pass,
		}
		for range rapid.SampledFrom([]int{10, 100, 1000}).Draw(t, "length") {
			rapid.SampledFrom(steps).Draw(t, "step")(t)
			m.check(t)
		}
	})
}
