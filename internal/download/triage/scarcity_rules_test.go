package triage_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/download/triage"
)

const mb = 1_000_000

// on1 is a window of one server on a link of 1 MB/s, where nothing takes time but
// bytes.
func on1(s triage.Server, assets ...triage.Asset) triage.Window {
	s.Conn, s.Latency = mb, 1
	return triage.Window{Now: time.Hour, Rate: mb, Workers: 4, MaxOpen: 8, Servers: []triage.Server{s}, Assets: assets}
}

// near is an asset of so many MB that dies in so many seconds.
func near(size, dies float64, s triage.State) triage.Asset {
	death := time.Hour + sec(dies)
	return triage.Asset{Bytes: int64(size * mb), Expiry: death, Deadline: death, State: s, Opened: time.Hour}
}

var cuts = triage.Server{Cuts: true}

func expect(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestPlainWhereTheDeadlineOrderDoes(t *testing.T) {
	for name, w := range map[string]triage.Window{
		"time for all in any order":       on1(cuts, near(1, 100, triage.Waiting), near(5, 90, triage.Running)),
		"time for all in their order":     on1(cuts, near(1, 9, triage.Waiting), near(500, 900, triage.Waiting)),
		"nothing there":                   on1(cuts),
		"only what is dead":               on1(cuts, near(1, -1, triage.Waiting)),
		"nothing known of the link":       {Workers: 4, Assets: []triage.Asset{near(1, 1, triage.Waiting)}},
		"all that presses may die anyhow": on1(cuts, triage.Asset{Bytes: 50 * mb, Unknown: true, Expiry: 13 * time.Hour}),
	} {
		if d := triage.Decide(w); !d.Plain || d.Finish != nil || d.Again <= 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// Once it was not plain, it takes more than a small change to be so again.
func TestPlainIsNotBelievedAgainAtOnce(t *testing.T) {
	w := on1(cuts, near(4, 5, triage.Waiting), near(4, 10, triage.Waiting))
	w.Workers = 1
	if !triage.Decide(w).Plain {
		t.Error("4 s of work for 5 s not plain")
	}
	w.Scarce = true
	if triage.Decide(w).Plain {
		t.Error("plain again, with a fifth to spare")
	}
}

func TestNearGetsTheLinkOfAFarOne(t *testing.T) {
	d := triage.Decide(on1(cuts, near(400, 600, triage.Running), near(4, 5, triage.Waiting)))
	expect(t, "finished", d.Finish, 1)
	expect(t, "stopped", d.Stop, 0)
	last := near(0.2, 600, triage.Running)
	d = triage.Decide(on1(cuts, last, near(2, 5, triage.Waiting), near(594, 600, triage.Waiting)))
	expect(t, "what is nearly done is not stopped", d.Finish, 0)
	d = triage.Decide(on1(cuts, near(4, 600, triage.Running), near(4, 10, triage.Waiting), near(900, 600, triage.Waiting)))
	expect(t, "no more than half the time to spare is used up", d.Stop, 0)
	whole := near(400, 600, triage.Running)
	whole.Whole = true
	d = triage.Decide(on1(cuts, whole, near(4, 5, triage.Waiting)))
	if slices.Contains(d.Stop, 0) {
		t.Error("stopped although all of it would be lost")
	}
}

// A running transfer is not stopped if its URL will be dead when its turn comes,
// unless it is lost anyway or a fresh one can be had.
func TestStoppedOnlyWhereItCanGoOn(t *testing.T) {
	near4 := near(4, 5, triage.Waiting)
	d := triage.Decide(on1(triage.Server{}, near(20, 6, triage.Running), near4))
	expect(t, "held", d.Hold, 0)
	expect(t, "finished", d.Finish, 1)
	d = triage.Decide(on1(cuts, near(20, 6, triage.Running), near4))
	expect(t, "lost anyway", d.Stop, 0)
	d = triage.Decide(on1(cuts, near(5.2, 6, triage.Running), near4))
	expect(t, "the one that runs goes on", d.Finish, 0)
	expect(t, "and the other waits", d.Last, 1)
	d = triage.Decide(on1(cuts, near(6.5, 6, triage.Running), near(0.5, 3, triage.Waiting)))
	expect(t, "so little too late that the rate may be wrong", d.Finish, 1, 0)
	renews := near(20, 6, triage.Running)
	renews.Renews = true
	d = triage.Decide(on1(cuts, renews, near4))
	expect(t, "renewed", d.Stop, 0)
}

func TestHeldAreNeitherClosedNorNewWhereTransfersAreCut(t *testing.T) {
	assets := []triage.Asset{near(5, -1, triage.Held), near(3, -9, triage.Held), near(20, 6, triage.Held), near(4, 6, triage.Waiting), near(9, 8, triage.Waiting)}
	d := triage.Decide(on1(triage.Server{}, assets...))
	expect(t, "held, smallest first to be finished", d.Hold, 1, 0, 2)
	d = triage.Decide(on1(cuts, assets...))
	expect(t, "held", d.Hold, 1, 0, 2)
	expect(t, "opened", d.Open)
	expect(t, "last", d.Last, 4)
	assets[0].Opened -= 6 * time.Minute
	d = triage.Decide(on1(triage.Server{}, assets[:2]...))
	if d.Finish[0] != 0 {
		t.Error("what has been held for long is not finished first")
	}
}

func TestOpenedInTimeSmallestFirstAndSmallOnesReadToTheirEnd(t *testing.T) {
	all := []triage.Asset{near(30, 1.1, triage.Waiting), near(20, 1.1, triage.Waiting), near(25, 1.1, triage.Waiting), near(0.5, 1.1, triage.Waiting), near(1.9, 1.1, triage.Waiting)}
	d := triage.Decide(on1(triage.Server{}, all...))
	expect(t, "opened", d.Open, 4, 1, 2, 0)
	expect(t, "finished", d.Finish, 3)
	d = triage.Decide(on1(triage.Server{}, near(0.3, 0.4, triage.Waiting), near(0.7, 1.05, triage.Waiting)))
	expect(t, "opened, although there may be time", d.Open, 1)
	for i := range all {
		all[i].Expiry += 20 * time.Second
	}
	d = triage.Decide(on1(triage.Server{}, all...))
	expect(t, "too early to open", d.Open)
	if d.Again > 20*time.Second || d.Again <= 0 {
		t.Errorf("decided again in %v", d.Again)
	}
	w := on1(triage.Server{}, near(30, 1.1, triage.Waiting), near(20, 1.1, triage.Waiting), near(25, 1.1, triage.Waiting))
	w.MaxOpen = 1
	d = triage.Decide(w)
	expect(t, "opened", d.Open, 2)
	expect(t, "left", d.Last, 0)
}

func TestTrickleIsGenerousAndLeavesHalfTheLink(t *testing.T) {
	var few, many []triage.Asset
	for range 200 {
		many = append(many, near(5, -1, triage.Held))
	}
	few = many[:2]
	for _, c := range []struct {
		assets []triage.Asset
		want   int64
	}{{few, 65536}, {many, 50_000}} {
		w := on1(triage.Server{}, c.assets...)
		w.Rate, w.MaxOpen = 20*mb, 256
		if d := triage.Decide(w); d.Trickle != c.want {
			t.Errorf("%d held at %d bytes/s, want %d", len(c.assets), d.Trickle, c.want)
		}
	}
}

// An unknown death counts as soon, but nothing whose death is known is lost for it.
func TestUnknownDeathsComeFirstWhereNothingIsLostByIt(t *testing.T) {
	unknown := triage.Asset{Bytes: 2 * mb, Unknown: true, Expiry: 13 * time.Hour}
	tight := []triage.Asset{unknown, near(9.9, 10, triage.Waiting), near(9.95, 10, triage.Waiting)}
	d := triage.Decide(on1(cuts, tight...))
	expect(t, "finished", d.Finish, 1)
	loose := []triage.Asset{unknown, near(9.9, 10, triage.Waiting), near(4, 10, triage.Waiting)}
	d = triage.Decide(on1(cuts, loose...))
	expect(t, "finished", d.Finish, 0)
}

func TestSizesAreAskedForAndRisksTold(t *testing.T) {
	unsure := near(5, 30, triage.Waiting)
	unsure.Spread = 5 * mb
	w := on1(cuts, near(4, 5, triage.Waiting), near(3, 5, triage.Waiting), unsure, near(500, 400, triage.Waiting))
	w.Servers = append(w.Servers, triage.Server{Rate: mb / 10, Cuts: true})
	w.Assets = append(w.Assets, triage.Asset{Server: 1, Bytes: 2 * mb, Expiry: time.Hour + 10*time.Second})
	d := triage.Decide(w)
	expect(t, "asked", d.Ask, 2)
	want := []triage.Risk{
		{Server: 1, Rate: mb / 10, Assets: []int{4}, Bytes: 2 * mb, Left: 10 * time.Second, Needed: 20 * time.Second},
		{Server: -1, Rate: mb, Assets: []int{0, 3}, Bytes: 504 * mb, Left: 5 * time.Second, Needed: 514 * time.Second},
	}
	if diff := cmp.Diff(want, d.Risks); diff != "" {
		t.Errorf("risks (-want +got):\n%s", diff)
	}
}

// What usual weights say is an estimate. People are told when it may not do, not when
// it turns out that it did not; and no longer once the sizes are known.
func TestWhatOnlyADoubtfulSizePutsAtRiskIsToldOf(t *testing.T) {
	unsure := near(5, 10, triage.Waiting)
	unsure.Spread = 5 * mb
	w := on1(cuts, near(4, 5, triage.Waiting), unsure) // 9 s of work for 10, as far as is known
	d := triage.Decide(w)
	want := []triage.Risk{{Server: -1, Rate: mb, Assets: []int{1}, Bytes: 5 * mb, Left: 10 * time.Second, Needed: 9 * time.Second}}
	if diff := cmp.Diff(want, d.Risks); diff != "" {
		t.Errorf("risks (-want +got):\n%s", diff)
	}
	w.Assets[1].Spread, w.Scarce = 0, true
	if d := triage.Decide(w); len(d.Risks) > 0 {
		t.Errorf("at risk with sizes known: %+v", d.Risks)
	}
}

// Where every connection is held, nothing that waits can be started: one that is held
// gets the link, which would be idle until the URLs expire otherwise.
func TestWhatIsHeldGetsTheLinkWhereAllConnectionsAreTaken(t *testing.T) {
	var assets []triage.Asset
	for range 12 {
		assets = append(assets, near(1.5, 8, triage.Held))
	}
	for range 20 {
		assets = append(assets, near(1, 8, triage.Waiting))
	}
	w := on1(triage.Server{}, assets...)
	if d := triage.Decide(w); len(d.Finish) == 0 || slices.ContainsFunc(d.Finish, func(i int) bool { return i >= 12 }) {
		t.Errorf("all taken: %v get the link", d.Finish)
	}
	w.MaxOpen++ // one may be started
	if d := triage.Decide(w); !slices.ContainsFunc(d.Finish, func(i int) bool { return i >= 12 }) {
		t.Errorf("one is free: %v get the link", d.Finish)
	}
}
