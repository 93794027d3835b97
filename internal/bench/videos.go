package main

import (
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// videos is a few large files from a server that is as fast as this machine.
func videos() measurement {
	r := race{
		name: "videos", work: "6 videos of 256 MiB, from drop to the last manifest",
		goal:  atMost(1, "x curl's time"),
		peers: []contender{curl(16), aria2c("-j16")},
	}
	return measurement{
		name: r.name, work: r.work, goal: r.goal, each: 8 * time.Minute, measure: r.measure,
		world: &world{fill: func(s *simulator.Sim) ([]run.ID, error) { return simulator.Videos(s, 6, 256*mib) }},
	}
}
