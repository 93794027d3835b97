package main

import "time"

// million is the queue with a million pending runs.
func million() measurement {
	return figures{
		name: "million", work: "1,000,000 pending runs in the queue",
		pkg: "internal/queue", benchmark: "BenchmarkAMillionPendingRuns", each: 3 * time.Minute,
		rows: []figure{
			{"added/s", "1,000,000 pending runs: added, 100,000 at a time", atLeast(50_000, "a second")},
			{"due-ms", "… the next 100 due found, the slowest of 100 times", atMost(5, "ms")},
			{"anon-MiB", "… anonymous memory, the most there was", atMost(200, "MiB").always()},
			{"open-s", "… opened", atMost(2, "s")},
		},
	}.measurement()
}
