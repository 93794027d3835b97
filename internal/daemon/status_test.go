package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
)

// writer is a queue's writer that may be stuck.
type writer struct{ err error }

func (w writer) Alive(context.Context) error { return w.err }

func TestReadyNamesEveryReasonUntilItIsOver(t *testing.T) {
	s := newStatus(writer{})
	if h := s.Ready(); h.OK || len(h.Reasons) != 1 {
		t.Errorf("before the start: %+v", h)
	}
	s.started()
	if h := s.Ready(); !h.OK {
		t.Errorf("after it: %+v", h)
	}
	for fault, end := range map[run.EventKind]run.EventKind{
		run.APIRefused: run.APIBack, run.VolumeOffline: run.VolumeBack, run.DiskLow: run.DiskBack, run.DropTrouble: run.DropBack, run.DropHangs: run.DropAnswers,
	} {
		s.note(run.Event{Kind: fault, Err: errors.New("why"), Hint: "mend it"})
		s.note(run.Event{Kind: fault, Err: errors.New("why now")})
		if h := s.Ready(); h.OK || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], string(fault)+": why now: mend it (since ") {
			t.Errorf("%s: %+v", fault, h)
		}
		if h := s.Alive(); !h.OK {
			t.Errorf("%s made it dead: %+v", fault, h)
		}
		s.note(run.Event{Kind: end})
		if h := s.Ready(); !h.OK {
			t.Errorf("%s did not end it: %+v", end, h)
		}
	}
}

func TestAFaultSaysSinceWhenItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatus(writer{})
		s.started()
		began := time.Now().Local().Format(time.DateTime)
		for range 3 {
			s.note(run.Event{Kind: run.DiskLow, Err: run.ErrNoRoom})
			time.Sleep(time.Minute)
			s.ticked()
		}
		if d := cmp.Diff([]string{"no room, downloads wait: no room (since " + began + ")"}, s.Ready().Reasons); d != "" {
			t.Error(d)
		}
	})
}

func TestAnOpenRunSaysWhatOnOurSideHoldsItUp(t *testing.T) {
	waiting := run.Run{ID: "wait", State: run.Waiting}
	fetching := run.Run{ID: "busy", State: run.Downloading, EndedAt: time.Unix(1, 0), Assets: 1}
	settling := run.Run{ID: "done", State: run.Downloading, EndedAt: time.Unix(1, 0), Assets: 1, Stored: 1}
	settled := run.Run{ID: "past", State: run.StoredRun, EndedAt: time.Unix(1, 0), Assets: 1, Stored: 1}
	for _, c := range []struct {
		fault, end run.EventKind
		holds      []run.Run
	}{
		{run.APIRefused, run.APIBack, []run.Run{waiting}},
		{run.APIDown, run.APIBack, []run.Run{waiting}},
		{run.APIDown, run.APIRefused, nil}, // then that is why
		{run.VolumeOffline, run.VolumeBack, []run.Run{fetching, settling}},
		{run.DiskLow, run.DiskBack, []run.Run{fetching}},
		{run.QueueTrouble, run.AssetKept, []run.Run{waiting, fetching, settling}},
	} {
		s := newStatus(writer{})
		s.note(run.Event{Kind: c.fault, Err: errors.New("why"), Hint: "mend it"})
		for _, r := range []run.Run{waiting, fetching, settling, settled} {
			want := slices.ContainsFunc(c.holds, func(h run.Run) bool { return h.ID == r.ID })
			if got := s.Held(r); c.holds != nil && (len(got) == 1 && strings.Contains(got[0], "why: mend it")) != want {
				t.Errorf("%s: %s is held up by %q", c.fault, r.ID, got)
			}
		}
		s.note(run.Event{Kind: c.end})
		for _, r := range []run.Run{waiting, fetching, settling} {
			if got := s.Held(r); strings.Contains(strings.Join(got, ""), string(c.fault)) {
				t.Errorf("after %s: %s is held up by %q", c.end, r.ID, got)
			}
		}
	}
}

func TestSingleRunsAndAssetsSayWhatHoldsThemUpUntilItIsOver(t *testing.T) {
	r := run.Run{ID: "abcd", State: run.Downloading, EndedAt: time.Unix(1, 0), Assets: 2}
	one, two := run.Key{Run: r.ID, Kind: run.Images, ID: "1"}, run.Key{Run: r.ID, Kind: run.Images, ID: "2"}
	s := newStatus(writer{})
	s.note(run.Event{Kind: run.AssetRetry, Asset: one, Err: errors.New("disk")})
	s.note(run.Event{Kind: run.AssetRetry, Asset: two, Host: "cdn", Err: errors.New("404")})
	s.note(run.Event{Kind: run.AssetRetry, Asset: two, Err: &transfer.Failure{Class: transfer.Nothing, Err: errors.New("no URL")}})
	if a, b := s.HeldAsset(one), s.HeldAsset(two); a != "disk" || b != "" {
		t.Errorf("the assets are held up by %q and %q", a, b)
	}
	s.note(run.Event{Kind: run.AssetStarted, Asset: one})
	s.note(run.Event{Kind: storage.NameTrouble, Run: r.ID, Asset: two, Err: errors.New("taken"), Hint: "mend it"})
	if a, b := s.HeldAsset(one), s.HeldAsset(two); a != "" || b != string(storage.NameTrouble)+": taken: mend it" {
		t.Errorf("the assets are held up by %q and %q", a, b)
	}
	s.note(run.Event{Kind: run.ManifestTrouble, Run: r.ID, Err: errors.New("read-only"), Hint: "mend it"})
	s.note(run.Event{Kind: run.AssetRetry, Asset: one, Err: errors.New("disk")})
	want := []string{string(run.ManifestTrouble) + ": read-only: mend it", "2 assets held up, the first: disk"}
	if d := cmp.Diff(want, s.Held(r)); d != "" {
		t.Error(d)
	}
	s.note(run.Event{Kind: run.RunSettled, Run: r.ID})
	if s.HeldAsset(two) != "" || len(s.Held(r)) != 0 || s.count != 0 || len(s.held) != 0 {
		t.Errorf("a settled run is remembered: %v", s.held)
	}
}

func TestOnlySoManyTroublesAreRemembered(t *testing.T) {
	s := newStatus(writer{})
	for i := range mostHeld + 10 {
		for range 2 {
			s.note(run.Event{Kind: run.AssetRetry, Asset: run.Key{Run: run.ID(fmt.Sprint(i / 3)), ID: fmt.Sprint(i)}, Err: errors.New("disk")})
		}
	}
	if s.count != mostHeld || s.HeldAsset(run.Key{Run: "0", ID: "0"}) == "" {
		t.Errorf("%d are remembered, %d are agreed", s.count, mostHeld)
	}
}

func TestTheVolumesStateIsNewsOnce(t *testing.T) {
	s := newStatus(writer{})
	var news []bool
	for _, k := range []run.EventKind{run.VolumeBack, run.VolumeOffline, run.VolumeOffline, run.VolumeBack, run.VolumeBack, run.RunSettled} {
		news = append(news, s.note(run.Event{Kind: k}))
	}
	for i, want := range []bool{false, true, false, true, false, true} {
		if news[i] != want {
			t.Errorf("event %d: news %v, want %v", i, news[i], want)
		}
	}
}

func TestAliveFailsWhenTheSchedulerOrTheWriterIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatus(writer{})
		time.Sleep(tickLate)
		if h := s.Alive(); !h.OK {
			t.Errorf("at %v: %+v", tickLate, h)
		}
		time.Sleep(time.Second)
		if h := s.Alive(); h.OK {
			t.Error("no tick for long, and alive")
		}
		s.ticked()
		if h := s.Alive(); !h.OK {
			t.Errorf("after a tick: %+v", h)
		}
	})
	if h := newStatus(writer{errors.New("stuck")}).Alive(); h.OK || h.Reasons[0] != "stuck" {
		t.Errorf("stuck writer: %+v", h)
	}
}

func TestJobsNeverOverlapAndAPanicEndsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, runs, panics atomic.Int32
		s, err := newSchedule([]job{
			{"slow", time.Second, func(ctx context.Context) {
				if running.Add(1) > 1 {
					t.Error("overlap")
				}
				select {
				case <-time.After(2500 * time.Millisecond):
				case <-ctx.Done():
				}
				running.Add(-1)
				runs.Add(1)
			}},
			{"panics", time.Second, func(context.Context) { panics.Add(1); panic("oops") }},
		}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if n := runs.Load(); n < 15 || n > 18 {
			t.Errorf("a job of 2.5 s every second after the last ran %d times in a minute", n)
		}
		if n := panics.Load(); n < 50 {
			t.Errorf("a panicking job ran %d times in a minute", n)
		}
	})
}
