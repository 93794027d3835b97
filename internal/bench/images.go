package main

import (
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// images is many small files.
func images() measurement {
	r := race{
		name: "images", work: "5,000 images of 64 KiB in 500 runs, 16 workers, from drop to the last manifest",
		goal:  atMost(1, "x curl's time for the URLs alone"),
		peers: []contender{curl(16), aria2c("-j16")},
	}
	return measurement{
		name: r.name, work: r.work, goal: r.goal, each: 4 * time.Minute, measure: r.measure,
		world: &world{fill: func(s *simulator.Sim) ([]run.ID, error) { return simulator.Images(s, 500, 10, 64<<10) }},
	}
}
