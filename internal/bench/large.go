package main

import (
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// large is one large file from a far server that gives each connection little. The
// distance and the rate are made by the simulator, alike for all who ask it: each
// answer waits for a round trip, and the first on a connection for two.
func large() measurement {
	const trip = 40 * time.Millisecond
	r := race{
		name: "large", work: "1 video of 384 MiB, 6 MB/s a connection, 40 ms away, from drop to the manifest",
		goal:  atMost(1.15, "x aria2c's time"),
		peers: []contender{aria2c("-x16", "-s16")},
	}
	return measurement{
		name: r.name, work: r.work, goal: r.goal, each: 6 * time.Minute, measure: r.measure,
		world: &world{
			options: []simulator.Option{simulator.WithConnRate(6_000_000), simulator.WithLatency(trip, trip)},
			fill:    func(s *simulator.Sim) ([]run.ID, error) { return simulator.Videos(s, 1, 384*mib) },
		},
	}
}
