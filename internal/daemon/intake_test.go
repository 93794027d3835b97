package daemon

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/run"
)

// writer is a queue's writer that answers.
type writer struct{}

func (writer) Alive(context.Context) error { return nil }

// The inbox is stuck in a call to a file system that hangs: only others can see that.
func TestCase_G4_ADropDirectoryThatHangsIsReportedAndMakesUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := health.New(writer{})
		s.Started()
		var told []run.Event
		last, rescan := time.Now(), 10*time.Second
		p := &passes{
			dir: "/srv/drop", last: func() time.Time { return last }, rescan: func() time.Duration { return rescan },
			tell: func(e run.Event) { told = append(told, e); s.Note(e) },
		}
		tick := func(d time.Duration, passing bool) {
			for range int(d / time.Second) {
				time.Sleep(time.Second)
				if passing && time.Since(last) >= rescan {
					last = time.Now()
				}
				s.Tick()
				p.watch()
			}
		}
		tick(time.Hour, true)
		if h := s.Ready(); !h.OK || len(told) != 0 {
			t.Fatalf("%+v, told %v", h, told)
		}
		tick(rescan+passLate+time.Second, false)
		h := s.Ready()
		if h.OK || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "/srv/drop") || !strings.Contains(h.Reasons[0], "41s ago") || !strings.Contains(h.Reasons[0], "hangs") {
			t.Errorf("%+v", h)
		}
		if h := s.Alive(); !h.OK {
			t.Errorf("a restart would not help: %+v", h)
		}
		tick(25*time.Minute, false)
		if len(told) != 3 || told[2].Kind != run.DropHangs {
			t.Errorf("told %v", told)
		}
		tick(time.Minute, true)
		if h := s.Ready(); !h.OK || len(told) != 4 || told[3].Kind != run.DropAnswers {
			t.Errorf("%+v, told %v", h, told)
		}
		// A rare look is no hang.
		rescan, told = time.Hour, nil
		tick(5*time.Hour, true)
		if len(told) != 0 {
			t.Errorf("told %v", told)
		}
	})
}
