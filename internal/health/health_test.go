package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
)

// writer is a queue's writer that may be stuck.
type writer struct{ err error }

func (w writer) Alive(context.Context) error { return w.err }

func TestMonitor_ReadyNamesEveryReasonUntilItIsOver(t *testing.T) {
	s := New(writer{})
	if h := s.Ready(); h.OK || len(h.Reasons) != 1 {
		t.Errorf("before the start: %+v", h)
	}
	s.Started()
	if h := s.Ready(); !h.OK {
		t.Errorf("after it: %+v", h)
	}
	for fault, end := range map[run.EventKind]run.EventKind{
		run.APIRefused: run.APIBack, run.VolumeOffline: run.VolumeBack, run.DiskLow: run.DiskBack, run.DropTrouble: run.DropBack, run.DropHangs: run.DropAnswers,
	} {
		s.Note(run.Event{Kind: fault, Err: errors.New("why"), Hint: "fix it"})
		s.Note(run.Event{Kind: fault, Err: errors.New("why now")})
		if h := s.Ready(); h.OK || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], string(fault)+": why now: fix it (since ") {
			t.Errorf("%s: %+v", fault, h)
		}
		if h := s.Alive(); !h.OK {
			t.Errorf("%s made it dead: %+v", fault, h)
		}
		s.Note(run.Event{Kind: end})
		if h := s.Ready(); !h.OK {
			t.Errorf("%s did not end it: %+v", end, h)
		}
	}
}

func TestMonitor_FaultSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(writer{})
		s.Started()
		began := time.Now().Local().Format(time.DateTime)
		for range 3 {
			s.Note(run.Event{Kind: run.DiskLow, Err: run.ErrNoRoom})
			time.Sleep(time.Minute)
			s.Tick()
		}
		if d := cmp.Diff([]string{"no room, downloads wait: no room (since " + began + ")"}, s.Ready().Reasons); d != "" {
			t.Error(d)
		}
	})
}

func TestMonitor_OpenRunSaysWhatHoldsItUp(t *testing.T) {
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
		s := New(writer{})
		s.Note(run.Event{Kind: c.fault, Err: errors.New("why"), Hint: "fix it"})
		for _, r := range []run.Run{waiting, fetching, settling, settled} {
			want := slices.ContainsFunc(c.holds, func(h run.Run) bool { return h.ID == r.ID })
			if got := s.Held(r); c.holds != nil && (len(got) == 1 && strings.Contains(got[0], "why: fix it")) != want {
				t.Errorf("%s: %s is held up by %q", c.fault, r.ID, got)
			}
		}
		s.Note(run.Event{Kind: c.end})
		for _, r := range []run.Run{waiting, fetching, settling} {
			if got := s.Held(r); strings.Contains(strings.Join(got, ""), string(c.fault)) {
				t.Errorf("after %s: %s is held up by %q", c.end, r.ID, got)
			}
		}
	}
}

func TestMonitor_SingleRunsAndAssetsSayWhatHoldsThemUp(t *testing.T) {
	r := run.Run{ID: "abcd", State: run.Downloading, EndedAt: time.Unix(1, 0), Assets: 2}
	one, two := run.Key{Run: r.ID, Kind: run.Images, ID: "1"}, run.Key{Run: r.ID, Kind: run.Images, ID: "2"}
	s := New(writer{})
	s.Note(run.Event{Kind: run.AssetRetry, Asset: one, Err: errors.New("disk")})
	s.Note(run.Event{Kind: run.AssetRetry, Asset: two, Host: "cdn", Err: errors.New("404")})
	s.Note(run.Event{Kind: run.AssetRetry, Asset: two, Err: &transfer.Failure{Class: transfer.Nothing, Err: errors.New("no URL")}})
	if a, b := s.HeldAsset(one), s.HeldAsset(two); a != "disk" || b != "" {
		t.Errorf("the assets are held up by %q and %q", a, b)
	}
	s.Note(run.Event{Kind: run.AssetStarted, Asset: one})
	s.Note(run.Event{Kind: storage.NameTrouble, Run: r.ID, Asset: two, Err: errors.New("taken"), Hint: "fix it"})
	if a, b := s.HeldAsset(one), s.HeldAsset(two); a != "" || b != string(storage.NameTrouble)+": taken: fix it" {
		t.Errorf("the assets are held up by %q and %q", a, b)
	}
	s.Note(run.Event{Kind: run.ManifestTrouble, Run: r.ID, Err: errors.New("read-only"), Hint: "fix it"})
	s.Note(run.Event{Kind: run.AssetRetry, Asset: one, Err: errors.New("disk")})
	want := []string{string(run.ManifestTrouble) + ": read-only: fix it", "2 assets held up, the first: disk"}
	if d := cmp.Diff(want, s.Held(r)); d != "" {
		t.Error(d)
	}
	s.Note(run.Event{Kind: run.RunSettled, Run: r.ID})
	if s.HeldAsset(two) != "" || len(s.Held(r)) != 0 || s.count != 0 || len(s.held) != 0 {
		t.Errorf("a settled run is remembered: %v", s.held)
	}
}

func TestMonitor_RemembersABoundedNumberOfReasons(t *testing.T) {
	s := New(writer{})
	for i := range maxHeld + 10 {
		for range 2 {
			s.Note(run.Event{Kind: run.AssetRetry, Asset: run.Key{Run: run.ID(fmt.Sprint(i / 3)), ID: fmt.Sprint(i)}, Err: errors.New("disk")})
		}
	}
	if s.count != maxHeld || s.HeldAsset(run.Key{Run: "0", ID: "0"}) == "" {
		t.Errorf("%d are remembered, want %d", s.count, maxHeld)
	}
}

func TestMonitor_VolumeStateIsNewsOnce(t *testing.T) {
	s := New(writer{})
	var news []bool
	for _, k := range []run.EventKind{run.VolumeBack, run.VolumeOffline, run.VolumeOffline, run.VolumeBack, run.VolumeBack, run.RunSettled} {
		news = append(news, s.Note(run.Event{Kind: k}))
	}
	for i, want := range []bool{false, true, false, true, false, true} {
		if news[i] != want {
			t.Errorf("event %d: news %v, want %v", i, news[i], want)
		}
	}
}

func TestMonitor_AliveFailsWhenSchedulerOrWriterIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(writer{})
		time.Sleep(maxTickAge)
		if h := s.Alive(); !h.OK {
			t.Errorf("at %v: %+v", maxTickAge, h)
		}
		time.Sleep(time.Second)
		if h := s.Alive(); h.OK {
			t.Error("no tick for long, and alive")
		}
		s.Tick()
		if h := s.Alive(); !h.OK {
			t.Errorf("after a tick: %+v", h)
		}
	})
	if h := New(writer{errors.New("stuck")}).Alive(); h.OK || h.Reasons[0] != "stuck" {
		t.Errorf("stuck writer: %+v", h)
	}
}
