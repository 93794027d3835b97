package backlog_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/download/backlog"
	"github.com/assetd/assetd/internal/run"
)

func TestNearestIsInTheOrderOfStartingAndTakesNothing(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	b := opened(t, 500, hosts...)
	for n := range 300 {
		a := asset(n, hosts[rand.IntN(3)], rand.IntN(100))
		a.Expiry = a.Deadline.Add(time.Minute)
		b.Put(backlog.Run{HandedIn: day, App: "app"}, a)
	}
	near := b.Nearest(200)
	if len(near) != 200 {
		t.Fatalf("%d candidates", len(near))
	}
	for i, c := range near {
		ticket, ok := b.Next(0)
		if !ok || ticket.Key() != c.Key {
			t.Fatalf("candidate %d is %v, but %v starts", i, c.Key, ticket.Key())
		}
		if c.App != "app" || !c.Expiry.Equal(c.Deadline.Add(time.Minute)) || ticket.Candidate() != c {
			t.Fatalf("%+v, taken as %+v", c, ticket.Candidate())
		}
	}
	if more := b.Nearest(500); len(more) != 100 {
		t.Errorf("%d left", len(more))
	}
}

func TestCase_F_TakeTakesWhatMayStartAndLookingChangesNothing(t *testing.T) {
	b := opened(t, 9, "cdn")
	for n := range 4 {
		b.Put(one, asset(n, "cdn", n))
	}
	if _, ok := b.Take(run.Key{Run: "none"}, 0); ok {
		t.Error("took what it does not know")
	}
	third, ok := b.Take(key("r001", 3), 0)
	if !ok || third.Key() != key("r001", 3) {
		t.Fatal("the least urgent could not be taken")
	}
	if _, ok := b.Take(key("r001", 3), 0); ok {
		t.Error("taken twice")
	}
	b.Back(third, time.Hour)
	if _, ok := b.Take(key("r001", 3), 0); ok {
		t.Error("taken before its time")
	}
	first, _ := b.Take(key("r001", 0), 0)
	b.Slow(first, 0, backlog.Pause{Least: time.Minute})
	if _, ok := b.Take(key("r001", 1), time.Second); ok {
		t.Error("taken from a host that is closed")
	}
	if near := b.Nearest(9); len(near) != 0 {
		t.Errorf("%d candidates on a closed host", len(near))
	}
	if _, ok := b.Take(key("r001", 2), time.Minute); ok {
		t.Error("looking let the host's time come")
	}
	b.Promote(time.Minute)
	probe, ok := b.Take(key("r001", 2), time.Minute)
	if !ok {
		t.Fatal("no probe")
	}
	if _, ok := b.Take(key("r001", 1), time.Minute); ok {
		t.Error("two probes")
	}
	b.Answered(probe, time.Minute)
	if _, ok := b.Take(key("r001", 1), time.Minute); !ok {
		t.Error("the host answered, and nothing of it may start")
	}
}
