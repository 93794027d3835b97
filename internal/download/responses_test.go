package download

import (
	"errors"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// cell is what one kind of failure means before the expiry, past it and where it is
// not known.
type cell struct{ before, past, unknown meaning }

func same(a forAsset, h forHost) cell { return cell{meaning{a, h}, meaning{a, h}, meaning{a, h}} }

var (
	likeForbidden = cell{meaning{denied, slows}, meaning{expired, undecided}, meaning{expired, errs}}
	likeNotFound  = cell{meaning{last, answers}, meaning{expired, undecided}, meaning{last, answers}}
	likeConflict  = cell{meaning{again, errs}, meaning{expired, undecided}, meaning{again, errs}}
)

func TestCase_A6_EachStatusMeansItsOwnBeforeAndAfterExpiry(t *testing.T) {
	want := map[int]cell{}
	for s := 400; s < 500; s++ {
		want[s] = likeConflict
	}
	for s := 500; s < 600; s++ {
		want[s] = same(again, errs)
	}
	for _, s := range []int{400, 401, 403} {
		want[s] = likeForbidden
	}
	for _, s := range []int{404, 410, 451} {
		want[s] = likeNotFound
	}
	want[408] = same(again, errs)
	want[429], want[503] = same(again, slows), same(again, slows)
	for _, s := range []int{201, 202, 205, 300, 304, 600, 999} {
		want[s] = same(again, errs)
	}
	for status, cell := range want {
		f := &transfer.Failure{Class: classOf(status), Status: status, Err: errors.New("no")}
		expect(t, f, cell)
	}
}

// classOf is the class that transfer gives a status.
func classOf(status int) transfer.Class {
	switch status {
	case 401, 403:
		return transfer.Refused
	case 429, 503:
		return transfer.Throttled
	case 404, 410, 451:
		return transfer.Gone
	}
	return transfer.Server
}

func expect(t *testing.T, f *transfer.Failure, want cell) {
	t.Helper()
	alive, known := moment{server: noon.Add(-1), known: true}, run.Asset{Expiry: noon, FirstSeen: noon.Add(-time.Hour)}
	past := moment{server: noon.Add(1), known: true}
	got := cell{means(f, known, alive), means(f, known, past), means(f, run.Asset{FirstSeen: noon}, alive)}
	if got != want {
		t.Errorf("%s, status %d, phase %d: %+v, want %+v", f.Class, f.Status, f.Phase, got, want)
	}
}

func TestCase_A20_EachFailureWithoutAStatusMeansItsOwn(t *testing.T) {
	for _, c := range []struct {
		f    transfer.Failure
		want cell
	}{
		{transfer.Failure{Class: transfer.Network, Phase: transfer.Header}, same(again, answers)},
		{transfer.Failure{Class: transfer.Stall, Phase: transfer.Header}, same(again, answers)},
		{transfer.Failure{Class: transfer.Network, Phase: transfer.Awaiting}, same(again, silent)},
		{transfer.Failure{Class: transfer.Stall, Phase: transfer.Awaiting}, same(again, silent)},
		{transfer.Failure{Class: transfer.Network}, same(again, silent)},
		{transfer.Failure{Class: transfer.Stall}, same(again, silent)},
		{transfer.Failure{Class: transfer.Network, Phase: transfer.Connecting}, same(again, unreachable)},
		{transfer.Failure{Class: transfer.Stall, Phase: transfer.Connecting}, same(again, unreachable)},
		{transfer.Failure{Class: transfer.Network, Status: 200}, same(again, answers)},
		{transfer.Failure{Class: transfer.Network, Status: 416}, same(again, answers)},
		{transfer.Failure{Class: transfer.Stall, Status: 206}, same(again, answers)},
		{transfer.Failure{Class: transfer.NotMedia, Status: 200}, same(last, answers)},
		{transfer.Failure{Class: transfer.RedirectLoop, Status: 302}, same(last, answers)},
		{transfer.Failure{Class: unproven, Status: 200}, same(last, answers)},
		{transfer.Failure{Class: transfer.Nothing}, same(last, nothing)},
		{transfer.Failure{Class: transfer.Rule}, same(ruled, nothing)},
		{transfer.Failure{Class: transfer.Rule, Status: 302}, same(ruled, answers)},
		{transfer.Failure{Class: transfer.Disk, Status: 200}, same(again, nothing)},
		{transfer.Failure{Class: transfer.NoRoom, Status: 200}, same(again, nothing)},
		{transfer.Failure{Class: transfer.Canceled}, same(again, nothing)},
	} {
		expect(t, &c.f, c.want)
	}
}

// Every class has a row, and every row is some failure's.
func TestTableOfResponsesHasNoGapAndNoRowThatNeverCounts(t *testing.T) {
	seen := map[string]bool{}
	for _, class := range append(classes(), transfer.Disk, transfer.NoRoom, transfer.Canceled) {
		for status := 0; status < 600; status++ {
			for p := transfer.NoPhase; p <= transfer.Header; p++ {
				seen[rowOf(&transfer.Failure{Class: class, Status: status, Phase: p}).name] = true
			}
		}
	}
	for _, r := range responses {
		if !seen[r.name] {
			t.Errorf("%q never counts", r.name)
		}
		delete(seen, r.name)
	}
	for name := range seen {
		t.Errorf("a failure is in no row: %s", name)
	}
}
