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
		var emitted []run.Event
		last, rescan := time.Now(), 10*time.Second
		p := &scanWatch{
			dir: "/srv/drop", last: func() time.Time { return last }, rescan: func() time.Duration { return rescan },
			emit: func(e run.Event) { emitted = append(emitted, e); s.Note(e) },
		}
		tick := func(d time.Duration, passing bool) {
			for range int(d / time.Second) {
				time.Sleep(time.Second)
				if passing && time.Since(last) >= rescan {
					last = time.Now()
				}
				s.Tick()
				p.check()
			}
		}
		tick(time.Hour, true)
		if h := s.Ready(); !h.OK || len(emitted) != 0 {
			t.Fatalf("%+v, emitted %v", h, emitted)
		}
		tick(rescan+scanDelay+time.Second, false)
		h := s.Ready()
		if h.OK || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "/srv/drop") || !strings.Contains(h.Reasons[0], "41s ago") || !strings.Contains(h.Reasons[0], "hangs") {
			t.Errorf("%+v", h)
		}
		if h := s.Alive(); !h.OK {
			t.Errorf("a restart would not help: %+v", h)
		}
		tick(25*time.Minute, false)
		if len(emitted) != 3 || emitted[2].Kind != run.DropHangs {
			t.Errorf("emitted %v", emitted)
		}
		tick(time.Minute, true)
		if h := s.Ready(); !h.OK || len(emitted) != 4 || emitted[3].Kind != run.DropAnswers {
			t.Errorf("%+v, emitted %v", h, emitted)
		}
		// A rare look is no hang.
		rescan, emitted = time.Hour, nil
		tick(5*time.Hour, true)
		if len(emitted) != 0 {
			t.Errorf("emitted %v", emitted)
		}
	})
}
