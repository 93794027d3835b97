package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// A daemon that is killed between what a run lists while it goes on and its terminal
// answer stores the results, and of what had not changed it asks for one byte more.
func TestCase_A3_KilledBetweenTheProvisionalAndTheTerminalAnswer(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	r := newRig(t, []string{"poll.max_interval=200ms"})
	const id, size = "early00001", 300_000
	ended := simulator.Phase{Status: run.Running, For: 8 * time.Second, Lists: true}
	err := r.sim.AddRun(id, simulator.FromFirstPoll(), simulator.Timeline(ended),
		simulator.Image("same", size), simulator.Image("preview", size, simulator.EarlyPreview), simulator.Image("moved", size, simulator.EarlyPath),
		simulator.Video("half", size, simulator.EarlyPart), simulator.Image("missing", size, simulator.EarlyMissing),
		simulator.Image("late", size, simulator.Listed(20, 0)))
	if err != nil {
		t.Fatal(err)
	}
	p := r.start().ready()
	r.handIn([]run.ID{id})
	// What is fetched early has no final name; the log says once the queue has it.
	for range 200 {
		if strings.Count(r.log.String(), string(run.AssetEarly)) >= 4 {
			break
		}
		pause(t, 50*time.Millisecond)
	}
	p.kill()
	r.judgeFiles()
	if found, _ := filepath.Glob(filepath.Join(r.dir, "assets", "*", id, "*", "*")); len(found) > 0 {
		t.Errorf("under their final names before the run ended: %q", found)
	}
	p = r.start()
	r.waitSettled(1, time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.judgeEnd([]run.ID{id})
	whole := 0
	for _, d := range r.sim.Downloads(run.Key{Run: id, Kind: run.Images, ID: "same"}) {
		if d.Range != "bytes=0-0" {
			whole++
		}
	}
	if whole != 1 {
		t.Errorf("what had not changed was fetched %d times", whole)
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "assets", ".assetd", "parts", "*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
