package main

import "time"

// lateness is how soon a run's end is seen, and what that costs. Waiting for runs of up
// to ten minutes would measure the clock: the poller's own benchmark lets the time
// pass by itself.
func lateness() measurement {
	return figures{
		name: "polls", work: "runs of 10 s to 10 min, of 14 apps",
		pkg: "internal/poller", benchmark: "BenchmarkPolls", each: 3 * time.Minute,
		rows: []figure{
			{"s-median-delay", "runs of 10 s to 10 min, of 14 apps, first ones included: from a run's end to the poll that sees it, median", atMost(2, "s")},
			{"polls/run", "… polls a run, average", atMost(12, "polls")},
		},
	}.measurement()
}
