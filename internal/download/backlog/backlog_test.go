package backlog_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

var day = time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)

func key(id run.ID, n int) run.Key {
	return run.Key{Run: id, Kind: run.Images, ID: "a" + strconv.Itoa(n)}
}

// asset is asset n of run r001, on a host, due so many seconds into the day.
func asset(n int, host string, due int) backlog.Asset {
	return backlog.Asset{Key: key("r001", n), Host: host, Deadline: day.Add(time.Duration(due) * time.Second)}
}

var one = backlog.Run{HandedIn: day}

// next is the number of the asset that starts next, "" for none.
func next(t *testing.T, b *backlog.Backlog, now time.Duration) (*backlog.Ticket, string) {
	t.Helper()
	ticket, ok := b.Next(now)
	if !ok {
		return nil, ""
	}
	return ticket, ticket.Key().ID
}

// opened is a backlog whose host is known to answer: one asset of it was fetched.
func opened(t *testing.T, workers int, hosts ...string) *backlog.Backlog {
	t.Helper()
	b := backlog.New(workers)
	open(t, b, hosts...)
	return b
}

func open(t *testing.T, b *backlog.Backlog, hosts ...string) {
	t.Helper()
	for _, h := range hosts {
		b.Put(backlog.Run{}, backlog.Asset{Key: run.Key{Run: "open", ID: h}, Host: h})
		ticket, ok := b.Next(0)
		if !ok {
			t.Fatalf("no first asset of %s", h)
		}
		b.Answered(ticket, 0)
		b.Drop(ticket)
	}
}

func expectOrder(t *testing.T, b *backlog.Backlog, now time.Duration, want ...string) {
	t.Helper()
	var got []string
	for {
		_, id := next(t, b, now)
		if id == "" {
			break
		}
		got = append(got, id)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestMostUrgentStartsFirstAndTiesGoByHandIn(t *testing.T) {
	b := opened(t, 9, "cdn", "cdn2")
	late, early := backlog.Run{HandedIn: day.Add(time.Hour)}, backlog.Run{HandedIn: day}
	b.Put(late, backlog.Asset{Key: key("late", 1), Host: "cdn", Deadline: day.Add(2 * time.Second)})
	b.Put(late, backlog.Asset{Key: key("late", 2), Host: "cdn", Deadline: day.Add(2 * time.Second)})
	b.Put(early, backlog.Asset{Key: key("earl", 3), Host: "cdn2", Deadline: day.Add(2 * time.Second)})
	b.Put(early, backlog.Asset{Key: key("earl", 4), Host: "cdn", Deadline: day.Add(3 * time.Second)})
	b.Put(late, backlog.Asset{Key: key("late", 5), Host: "cdn2", Deadline: day.Add(time.Second)})
	expectOrder(t, b, 0, "a5", "a3", "a1", "a2", "a4")
}

func TestLateUrgentArrivalOvertakes(t *testing.T) {
	b := opened(t, 9, "cdn")
	for n := range 3 {
		b.Put(one, asset(n, "cdn", 100+n))
	}
	if _, id := next(t, b, 0); id != "a0" {
		t.Fatalf("%q first", id)
	}
	b.Put(one, asset(9, "cdn", 1))
	b.Put(one, asset(2, "cdn", 2)) // known, and more urgent than thought
	expectOrder(t, b, 0, "a9", "a2", "a1")
}

func TestAddLeavesAKnownAssetAsItIs(t *testing.T) {
	b := opened(t, 9, "cdn")
	b.Put(one, asset(1, "cdn", 5))
	b.Put(one, asset(2, "cdn", 6))
	b.Add(one, asset(2, "cdn", 1))
	b.Add(one, asset(3, "cdn", 7))
	expectOrder(t, b, 0, "a1", "a2", "a3")
}

func TestBackoffHoldsUntilItsTime(t *testing.T) {
	b := opened(t, 9, "cdn")
	b.Put(one, asset(1, "cdn", 1))
	b.Put(one, asset(2, "cdn", 2))
	ticket, _ := next(t, b, 0)
	b.Back(ticket, 10*time.Second)
	expectOrder(t, b, 9*time.Second, "a2")
	if at, ok := b.NextAt(); !ok || at != 10*time.Second {
		t.Errorf("next at %v, %v; want 10s", at, ok)
	}
	expectOrder(t, b, 10*time.Second, "a1")
	if at, ok := b.NextAt(); ok {
		t.Errorf("next at %v, but nothing waits", at)
	}
}

func TestPutEndsTheWaitAlsoOfATakenAsset(t *testing.T) {
	b := opened(t, 9, "cdn")
	b.Put(one, asset(1, "cdn", 1))
	ticket, _ := next(t, b, 0)
	b.Back(ticket, time.Hour)
	b.Put(one, asset(1, "cdn", 1))
	ticket, id := next(t, b, 0)
	if id != "a1" {
		t.Fatal("a change did not end the wait")
	}
	b.Put(one, asset(1, "cdn", 1)) // comes while it is being fetched
	b.Back(ticket, time.Hour)
	ticket, id = next(t, b, 0)
	if id != "a1" {
		t.Fatal("a change that came in the meantime was missed")
	}
	b.Back(ticket, time.Hour)
	if _, id = next(t, b, 0); id != "" {
		t.Error("the change was taken for news twice")
	}
}

func TestRoomIsWaitedForByUrgency(t *testing.T) {
	b := opened(t, 9, "cdn")
	var tickets []*backlog.Ticket
	for n := range 3 {
		b.Put(one, asset(n, "cdn", n))
		ticket, _ := next(t, b, 0)
		tickets = append(tickets, ticket)
	}
	b.Put(one, asset(2, "cdn", 2)) // no news can make room
	b.AwaitSpace(tickets[2])
	b.AwaitSpace(tickets[1])
	expectOrder(t, b, time.Hour)
	if k, ok := b.NeedsSpace(); !ok || k != key("r001", 1) {
		t.Errorf("%v needs room first", k)
	}
	keys := []run.Key{key("r001", 0), key("r001", 2), key("none", 1)}
	if d := cmp.Diff([]run.Key{key("r001", 2)}, b.LessUrgent(key("r001", 1), keys)); d != "" {
		t.Errorf("less urgent and idle (-want +got):\n%s", d)
	}
	b.HasSpace(key("r001", 1))
	b.HasSpace(key("r001", 1)) // it does not wait for it any more
	b.HasSpace(key("none", 1))
	expectOrder(t, b, 0, "a1")
}

func TestOverdueTakesWhateverAnAssetWaitsFor(t *testing.T) {
	b := opened(t, 9, "cdn")
	ended := backlog.Run{Ended: true, EndedAt: time.Hour}
	for n := range 4 {
		b.Put(ended, asset(n, "cdn", n))
	}
	waits, _ := next(t, b, 0)
	b.Back(waits, time.Hour)
	full, _ := next(t, b, 0)
	b.AwaitSpace(full)
	busy, _ := next(t, b, 0)
	b.Put(backlog.Run{Ended: true, EndedAt: 2 * time.Hour}, backlog.Asset{Key: key("r002", 7), Host: "cdn"})
	b.Put(backlog.Run{}, backlog.Asset{Key: key("r003", 8), Host: "cdn"})
	if at, ok := b.Ended(); !ok || at != time.Hour {
		t.Errorf("the first ended at %v, %v", at, ok)
	}
	if late := b.Overdue(time.Hour-1, 9); len(late) != 0 {
		t.Fatalf("%d overdue before their time", len(late))
	}
	late := b.Overdue(time.Hour, 2)
	late = append(late, b.Overdue(time.Hour, 9)...)
	if len(late) != 3 || busy.Key() == late[0].Key() {
		t.Fatalf("%d overdue, want those three that nobody fetches", len(late))
	}
	b.First(late[2])
	first, id := next(t, b, 0)
	if first != late[2] {
		t.Errorf("%s started before the one that has its last try", id)
	}
	for _, l := range late {
		b.Drop(l)
	}
	b.Drop(busy)
	if at, _ := b.Ended(); at != 2*time.Hour || b.Waits("r001") || b.Len() != 2 {
		t.Errorf("left: %v, %d", at, b.Len())
	}
}

func TestDropRunLeavesTakenAssetsToTheirHolders(t *testing.T) {
	b := opened(t, 9, "cdn")
	for n := range 50 { // enough for an index
		b.Put(one, asset(n, "cdn", n))
	}
	ticket, _ := next(t, b, 0)
	dropped := b.DropRun("r001")
	if len(dropped) != 49 || slices.Contains(dropped, ticket.Key()) {
		t.Errorf("%d dropped: %v", len(dropped), dropped)
	}
	b.DropRun("none")
	if b.Len() != 1 || !b.Waits("r001") {
		t.Errorf("%d left", b.Len())
	}
	expectOrder(t, b, 0)
	b.Drop(ticket)
	if b.Len() != 0 || b.Waits("r001") {
		t.Errorf("%d left", b.Len())
	}
}

func TestHostsWithoutAssetsAreForgotten(t *testing.T) {
	b := backlog.New(4)
	grown := func(prefix string) uint64 {
		for n := range 20_000 {
			b.Put(one, asset(1, prefix+strconv.Itoa(n), 1))
		}
		return heapInUse()
	}
	before := grown("a")
	if after := grown("b"); after > before+1<<20 {
		t.Errorf("%d bytes after 20,000 hosts, %d after as many more", before, after)
	}
	runtime.KeepAlive(b)
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionAssetsFitInMemory(t *testing.T) {
	testenv.Long(t)
	const runs, each = 100_000, 10
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := backlog.New(16)
	for r := range runs {
		id := run.ID(fmt.Sprintf("run%07d", r))
		for n := range each {
			a := backlog.Asset{Key: run.Key{Run: id, Kind: run.Images, ID: "abc" + strconv.Itoa(r*each+n)}, Host: "cdn"}
			a.Deadline = day.Add(time.Duration(r*7919%runs) * time.Second)
			b.Add(backlog.Run{HandedIn: day, Ended: true, EndedAt: time.Duration(r)}, a)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := (after.HeapAlloc - before.HeapAlloc) / (runs * each); got > 200 {
		t.Errorf("%d bytes an asset", got)
	}
	if b.Len() != runs*each {
		t.Fatalf("%d assets", b.Len())
	}
	ticket, ok := b.Next(0)
	if !ok {
		t.Fatal("none starts")
	}
	b.Drop(ticket)
}

func TestKeysNamesEveryAsset(t *testing.T) {
	b := opened(t, 9, "cdn")
	b.Put(one, asset(1, "cdn", 1))
	b.Put(one, asset(2, "cdn", 2))
	next(t, b, 0)
	got := map[run.Key]bool{}
	b.Keys(func(k run.Key) { got[k] = true })
	if d := cmp.Diff(map[run.Key]bool{key("r001", 1): true, key("r001", 2): true}, got); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
}
