package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/plan"
)

const mb = 1_000_000

// on1 is a window of one server on a link of 1 MB/s, where nothing takes time but
// bytes.
func on1(s plan.Server, assets ...plan.Near) plan.Window {
	s.Conn, s.Latency = mb, 1
	return plan.Window{Now: time.Hour, Rate: mb, Workers: 4, MaxOpen: 8, Servers: []plan.Server{s}, Assets: assets}
}

// near is an asset of so many MB that dies in so many seconds.
func near(size, dies float64, s plan.Standing) plan.Near {
	death := time.Hour + sec(dies)
	return plan.Near{Bytes: int64(size * mb), Death: death, Deadline: death, Stands: s, Opened: time.Hour}
}

var cuts = plan.Server{Cuts: true}

func expect(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestPlainWhereTheDeadlineOrderDoes(t *testing.T) {
	for name, w := range map[string]plan.Window{
		"time for all in any order":       on1(cuts, near(1, 100, plan.Waiting), near(5, 90, plan.Running)),
		"time for all in their order":     on1(cuts, near(1, 9, plan.Waiting), near(500, 900, plan.Waiting)),
		"nothing there":                   on1(cuts),
		"only what is dead":               on1(cuts, near(1, -1, plan.Waiting)),
		"nothing known of the link":       {Workers: 4, Assets: []plan.Near{near(1, 1, plan.Waiting)}},
		"all that presses may die anyhow": on1(cuts, plan.Near{Bytes: 50 * mb, Unknown: true, Death: 13 * time.Hour}),
	} {
		if d := plan.Decide(w); !d.Plain || d.Finish != nil || d.Again <= 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// Once it was not plain, it takes more than a small change to be so again.
func TestPlainIsNotBelievedAgainAtOnce(t *testing.T) {
	w := on1(cuts, near(4, 5, plan.Waiting), near(4, 10, plan.Waiting))
	w.Workers = 1
	if !plan.Decide(w).Plain {
		t.Error("4 s of work for 5 s not plain")
	}
	w.Scarce = true
	if plan.Decide(w).Plain {
		t.Error("plain again, with a fifth to spare")
	}
}

func TestNearGetsTheLinkOfAFarOne(t *testing.T) {
	d := plan.Decide(on1(cuts, near(400, 600, plan.Running), near(4, 5, plan.Waiting)))
	expect(t, "finished", d.Finish, 1)
	expect(t, "stopped", d.Stop, 0)
	last := near(0.2, 600, plan.Running)
	d = plan.Decide(on1(cuts, last, near(2, 5, plan.Waiting), near(594, 600, plan.Waiting)))
	expect(t, "what is nearly done is not stopped", d.Finish, 0)
	d = plan.Decide(on1(cuts, near(4, 600, plan.Running), near(4, 10, plan.Waiting), near(900, 600, plan.Waiting)))
	expect(t, "no more than half the time to spare is used up", d.Stop, 0)
	whole := near(400, 600, plan.Running)
	whole.Whole = true
	d = plan.Decide(on1(cuts, whole, near(4, 5, plan.Waiting)))
	if slices.Contains(d.Stop, 0) {
		t.Error("stopped although all of it would be lost")
	}
}

// A running transfer is not stopped if its URL will be dead when its turn comes,
// unless it is lost anyway or a fresh one can be had.
func TestStoppedOnlyWhereItCanGoOn(t *testing.T) {
	near4 := near(4, 5, plan.Waiting)
	d := plan.Decide(on1(plan.Server{}, near(20, 6, plan.Running), near4))
	expect(t, "held", d.Hold, 0)
	expect(t, "finished", d.Finish, 1)
	d = plan.Decide(on1(cuts, near(20, 6, plan.Running), near4))
	expect(t, "lost anyway", d.Stop, 0)
	d = plan.Decide(on1(cuts, near(5.2, 6, plan.Running), near4))
	expect(t, "the one that runs goes on", d.Finish, 0)
	expect(t, "and the other waits", d.Last, 1)
	d = plan.Decide(on1(cuts, near(6.5, 6, plan.Running), near(0.5, 3, plan.Waiting)))
	expect(t, "so little too late that the rate may be wrong", d.Finish, 1, 0)
	renews := near(20, 6, plan.Running)
	renews.Renews = true
	d = plan.Decide(on1(cuts, renews, near4))
	expect(t, "renewed", d.Stop, 0)
}

func TestHeldAreNeitherClosedNorNewWhereTransfersAreCut(t *testing.T) {
	assets := []plan.Near{near(5, -1, plan.Held), near(3, -9, plan.Held), near(20, 6, plan.Held), near(4, 6, plan.Waiting), near(9, 8, plan.Waiting)}
	d := plan.Decide(on1(plan.Server{}, assets...))
	expect(t, "held, smallest first to be finished", d.Hold, 1, 0, 2)
	d = plan.Decide(on1(cuts, assets...))
	expect(t, "held", d.Hold, 1, 0, 2)
	expect(t, "opened", d.Open)
	expect(t, "last", d.Last, 4)
	assets[0].Opened -= 6 * time.Minute
	d = plan.Decide(on1(plan.Server{}, assets[:2]...))
	if d.Finish[0] != 0 {
		t.Error("what has been held for long is not finished first")
	}
}

func TestOpenedInTimeSmallestFirstAndSmallOnesReadToTheirEnd(t *testing.T) {
	all := []plan.Near{near(30, 1.1, plan.Waiting), near(20, 1.1, plan.Waiting), near(25, 1.1, plan.Waiting), near(0.5, 1.1, plan.Waiting), near(1.9, 1.1, plan.Waiting)}
	d := plan.Decide(on1(plan.Server{}, all...))
	expect(t, "opened", d.Open, 4, 1, 2, 0)
	expect(t, "finished", d.Finish, 3)
	d = plan.Decide(on1(plan.Server{}, near(0.3, 0.4, plan.Waiting), near(0.7, 1.05, plan.Waiting)))
	expect(t, "opened, although there may be time", d.Open, 1)
	for i := range all {
		all[i].Death += 20 * time.Second
	}
	d = plan.Decide(on1(plan.Server{}, all...))
	expect(t, "too early to open", d.Open)
	if d.Again > 20*time.Second || d.Again <= 0 {
		t.Errorf("decided again in %v", d.Again)
	}
	w := on1(plan.Server{}, near(30, 1.1, plan.Waiting), near(20, 1.1, plan.Waiting), near(25, 1.1, plan.Waiting))
	w.MaxOpen = 1
	d = plan.Decide(w)
	expect(t, "opened", d.Open, 2)
	expect(t, "left", d.Last, 0)
}

func TestTrickleIsGenerousAndLeavesHalfTheLink(t *testing.T) {
	var few, many []plan.Near
	for range 200 {
		many = append(many, near(5, -1, plan.Held))
	}
	few = many[:2]
	for _, c := range []struct {
		assets []plan.Near
		want   int64
	}{{few, 65536}, {many, 50_000}} {
		w := on1(plan.Server{}, c.assets...)
		w.Rate, w.MaxOpen = 20*mb, 256
		if d := plan.Decide(w); d.Trickle != c.want {
			t.Errorf("%d held at %d bytes/s, want %d", len(c.assets), d.Trickle, c.want)
		}
	}
}

// An unknown death counts as soon, but nothing whose death is known is lost for it.
func TestUnknownDeathsComeFirstWhereNothingIsLostByIt(t *testing.T) {
	unknown := plan.Near{Bytes: 2 * mb, Unknown: true, Death: 13 * time.Hour}
	tight := []plan.Near{unknown, near(9.9, 10, plan.Waiting), near(9.95, 10, plan.Waiting)}
	d := plan.Decide(on1(cuts, tight...))
	expect(t, "finished", d.Finish, 1)
	loose := []plan.Near{unknown, near(9.9, 10, plan.Waiting), near(4, 10, plan.Waiting)}
	d = plan.Decide(on1(cuts, loose...))
	expect(t, "finished", d.Finish, 0)
}

func TestSizesAreAskedForAndRisksTold(t *testing.T) {
	unsure := near(5, 30, plan.Waiting)
	unsure.Spread = 5 * mb
	w := on1(cuts, near(4, 5, plan.Waiting), near(3, 5, plan.Waiting), unsure, near(500, 400, plan.Waiting))
	w.Servers = append(w.Servers, plan.Server{Rate: mb / 10, Cuts: true})
	w.Assets = append(w.Assets, plan.Near{Server: 1, Bytes: 2 * mb, Death: time.Hour + 10*time.Second})
	d := plan.Decide(w)
	expect(t, "asked", d.Ask, 2)
	want := []plan.Risk{
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
	unsure := near(5, 10, plan.Waiting)
	unsure.Spread = 5 * mb
	w := on1(cuts, near(4, 5, plan.Waiting), unsure) // 9 s of work for 10, as far as is known
	d := plan.Decide(w)
	want := []plan.Risk{{Server: -1, Rate: mb, Assets: []int{1}, Bytes: 5 * mb, Left: 10 * time.Second, Needed: 9 * time.Second}}
	if diff := cmp.Diff(want, d.Risks); diff != "" {
		t.Errorf("risks (-want +got):\n%s", diff)
	}
	w.Assets[1].Spread, w.Scarce = 0, true
	if d := plan.Decide(w); len(d.Risks) > 0 {
		t.Errorf("at risk with sizes known: %+v", d.Risks)
	}
}

// Where every connection is held, nothing that waits can be started: one that is held
// gets the link, which would be idle until the URLs expire otherwise.
func TestWhatIsHeldGetsTheLinkWhereAllConnectionsAreTaken(t *testing.T) {
	var assets []plan.Near
	for range 12 {
		assets = append(assets, near(1.5, 8, plan.Held))
	}
	for range 20 {
		assets = append(assets, near(1, 8, plan.Waiting))
	}
	w := on1(plan.Server{}, assets...)
	if d := plan.Decide(w); len(d.Finish) == 0 || slices.ContainsFunc(d.Finish, func(i int) bool { return i >= 12 }) {
		t.Errorf("all taken: %v get the link", d.Finish)
	}
	w.MaxOpen++ // one may be started
	if d := plan.Decide(w); !slices.ContainsFunc(d.Finish, func(i int) bool { return i >= 12 }) {
		t.Errorf("one is free: %v get the link", d.Finish)
	}
}
