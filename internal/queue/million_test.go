package queue

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/run"
)

const million = 1_000_000

// BenchmarkAMillionPendingRuns measures a queue that holds a million runs: how fast
// they are added, as many at a time as a drop file may have; how long the next
// hundred that are due take to find, the slowest of a hundred times, each of which
// moves them on as the poller does; how long it takes to open; and the most anonymous
// memory that the process had meanwhile. internal/bench runs it and reads the metrics.
func BenchmarkAMillionPendingRuns(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		anonymous := watchAnonymous(b)
		begin := time.Now()
		addMillion(b, dir)
		b.ReportMetric(million/time.Since(begin).Seconds(), "added/s")

		begin = time.Now()
		q := openReal(b, dir)
		b.ReportMetric(time.Since(begin).Seconds(), "open-s")
		b.ReportMetric(float64(slowestDue(b, q).Microseconds())/1000, "due-ms")
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(anonymous())/(1<<20), "anon-MiB")
	}
}

// BenchmarkFiguresOfAMillionRuns measures what a scrape of the metrics reads of a queue
// that holds a million runs, and the longest step of the search for the oldest.
func BenchmarkFiguresOfAMillionRuns(b *testing.B) {
	dir := b.TempDir()
	addMillion(b, dir)
	q := openReal(b, dir)
	defer q.Close()
	var longest time.Duration
	for range million/oldestStep + 1 {
		begin := time.Now()
		if err := q.SeekOldest(b.Context()); err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(begin))
	}
	for b.Loop() {
		if f, err := q.Figures(b.Context()); err != nil || f.Runs[run.Waiting] != million || f.Oldest.IsZero() {
			b.Fatalf("%+v, %v", f, err)
		}
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "seek-ms")
}

// openReal opens a queue as the daemon does: without the checks that the tests add.
func openReal(b *testing.B, dir string) *Queue {
	b.Helper()
	q, err := Open(dir, Options{Tell: func(run.Event) {}})
	if err != nil {
		b.Fatal(err)
	}
	return q
}

func addMillion(b *testing.B, dir string) {
	b.Helper()
	const file = 100_000
	q := openReal(b, dir)
	for first := 0; first < million; first += file {
		handIns := make([]run.HandIn, file)
		for i := range handIns {
			// IDs in no order, as the API's are.
			handIns[i].ID = run.ID(fmt.Sprintf("%08x", uint32(first+i)*2654435761))
		}
		taken, err := q.Add(b.Context(), handIns)
		if err != nil || taken.New != file {
			b.Fatalf("%+v, %v", taken, err)
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}

func slowestDue(b *testing.B, q *Queue) time.Duration {
	b.Helper()
	var slowest time.Duration
	for range 100 {
		begin := time.Now()
		due, _, err := q.Due(b.Context(), begin, run.Turns{}, 100)
		slowest = max(slowest, time.Since(begin))
		if err != nil || len(due) < 100 { // of each class
			b.Fatalf("%d due, %v", len(due), err)
		}
		var moved errgroup.Group // at once, so that they share commits
		for _, r := range due {
			moved.Go(func() error { return q.Reschedule(b.Context(), r.ID, begin.Add(time.Hour)) })
		}
		if err := moved.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	return slowest
}

// watchAnonymous follows this process's anonymous memory until the function is
// called, which returns the most there was, in bytes.
func watchAnonymous(b *testing.B) func() int64 {
	ctx, stop := context.WithCancel(b.Context())
	most := make(chan int64)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		seen := anonymousNow(b)
		for {
			select {
			case <-tick.C:
				seen = max(seen, anonymousNow(b))
			case <-ctx.Done():
				most <- seen
				return
			}
		}
	}()
	return func() int64 {
		stop()
		return <-most
	}
}

// anonymousNow reads RssAnon (proc_pid_status(5)), in bytes.
func anonymousNow(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Error(err)
		return 0
	}
	fields := strings.Fields(string(text))
	at := slices.Index(fields, "RssAnon:")
	var kib int64
	if _, err := fmt.Sscan(fields[at+1], &kib); at < 0 || err != nil {
		b.Errorf("no RssAnon in the process's status: %v", err)
	}
	return kib << 10
}
