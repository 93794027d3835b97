package download_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// A thousand hosts that bring nothing, all of whose assets are more urgent.
func TestCase_G2_HostsThatBringNothingHoldUpNoOther(t *testing.T) {
	mute := broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Awaiting}, 30*time.Second)
	for _, c := range []struct {
		name                 string
		do                   fetchFunc
		hosts, workers, each int // assets of each host
	}{
		{"mute", mute, 1000, 16, 1},
		{"mute, several assets", mute, 200, 16, 3},
		{"mute, few workers", mute, 200, 2, 1},
		{"no connection", broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Connecting}, 10*time.Second), 200, 16, 1},
		{"headers that stop", broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Header}, 30*time.Second), 200, 16, 1},
		{"trickling", trickles(2 * time.Minute), 1000, 16, 3},
		{"trickling, few workers", trickles(2 * time.Minute), 200, 2, 1},
		{"resetting, few workers", broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Awaiting}, 100*time.Millisecond), 200, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			live(t, func(w *world) {
				w.cfg.Workers = c.workers
				w.s.rule("https://bad", c.do)
				for i := range c.hosts {
					w.addMany(run.ID(fmt.Sprintf("bad%04d", i)), "b", fmt.Sprintf("https://bad%04d/", i), c.each, time.Hour)
				}
				early := w.add("early", "good", "https://good1/early", 12*hour)
				w.start()
				w.pass(10 * time.Second)
				w.expect(early, run.AssetStored)
				w.pass(25 * time.Second) // what can be held is
				late := w.add("late", "good", "https://good2/late", 12*hour)
				w.pass(10 * time.Second)
				w.expect(late, run.AssetStored)
				if most := 64 + 2*c.workers; w.s.max > most {
					t.Errorf("%d requests at a time, want %d at most", w.s.max, most)
				}
			})
		})
	}
}
