package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/run"
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
		run.APIRefused: run.APIBack, run.VolumeOffline: run.VolumeBack, run.DiskLow: run.DiskBack, run.DropTrouble: run.DropBack,
	} {
		s.note(run.Event{Kind: fault, Err: errors.New("why")})
		if h := s.Ready(); h.OK || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "why") {
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
