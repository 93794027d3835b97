package download_test

import (
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func TestFiguresTellWhetherTimeWillDo(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.MaxOpen = 64
		w.narrowed(2 * mb)
		w.many("run1", cliff("a", 40, 2*mb, 20*time.Second)) // 40 s of the line
		w.start()
		if f := w.pool.Figures(); f.Drain.Known || f.Link != 0 {
			t.Errorf("before anything was measured: %+v", f)
		}
		w.pass(10 * time.Second)
		f := w.pool.Figures()
		if !f.Drain.Known || f.Drain.Slack >= 0 || f.Drain.Needs < 10*time.Second || f.Drain.Needs > time.Minute {
			t.Errorf("20 s of the line before the death of 40: %+v", f.Drain)
		}
		if f.Running == 0 || f.AtRisk == 0 || f.Link < mb || f.Received < 5*mb {
			t.Errorf("%+v", f)
		}
		if len(w.told(run.AtRisk)) == 0 {
			t.Error("at risk, and not told")
		}
		w.until(19500 * time.Millisecond)
		if f := w.pool.Figures(); f.Held == 0 {
			t.Errorf("just before the death of all: %+v", f)
		}
		w.pass(2 * time.Minute)
		if f := w.pool.Figures(); f.AtRisk != 0 || f.Drain.Known || f.Running+f.Held != 0 || f.Received < 80*mb {
			t.Errorf("when all are home: %+v", f)
		}
	})
}

func TestTimeThatDoesIsSlack(t *testing.T) {
	live(t, func(w *world) {
		w.narrowed(2 * mb)
		w.many("run1", cliff("a", 20, 2*mb, time.Hour))
		w.start()
		w.pass(5 * time.Second)
		if f := w.pool.Figures(); !f.Drain.Known || f.Drain.Slack < 50*time.Minute || f.Drain.Needs > time.Minute || f.AtRisk != 0 {
			t.Errorf("%+v", f)
		}
	})
}

func TestAnAssetsDeadlineIsCountedFromNow(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Margin = 2 * time.Minute
		w.start()
		a := run.Asset{FirstSeen: time.Now(), Expiry: time.Now().Add(time.Hour), Source: "https://cdn/a"}
		if left := w.pool.Left(a); left != 58*time.Minute {
			t.Errorf("%v", left)
		}
		w.pass(time.Hour)
		if left := w.pool.Left(a); left != -2*time.Minute {
			t.Errorf("%v", left)
		}
	})
}
