package queue

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
)

// BenchmarkAMillionRunsGone measures what a queue's file comes to that held a
// million runs: its room on the disk while it holds them, when they are removed,
// and after it was opened again; and how long that takes, which makes it anew.
func BenchmarkAMillionRunsGone(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		addMillion(b, dir)
		b.ReportMetric(roomOf(b, dir), "full-MiB")
		removeMillion(b, dir)
		b.ReportMetric(roomOf(b, dir), "freed-MiB")
		begin := time.Now()
		q := openReal(b, dir)
		b.ReportMetric(time.Since(begin).Seconds(), "shrink-s")
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(roomOf(b, dir), "file-MiB")
	}
}

func removeMillion(b *testing.B, dir string) {
	b.Helper()
	q := openReal(b, dir)
	for after := run.ID(""); ; {
		runs, err := q.List(b.Context(), run.Waiting, after, 20_000)
		if err != nil {
			b.Fatal(err)
		}
		if len(runs) == 0 {
			break
		}
		var removed errgroup.Group // at once, so that they share commits
		for some := range slices.Chunk(runs, 20) {
			removed.Go(func() (err error) {
				for _, r := range some {
					err = errors.Join(err, q.Remove(b.Context(), r.ID, true))
				}
				return err
			})
		}
		if err := removed.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}

// roomOf is what the queue's file takes on the disk, in MiB.
func roomOf(b *testing.B, dir string) float64 {
	b.Helper()
	info, err := os.Stat(boltkv.Path(dir))
	if err != nil {
		b.Fatal(err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		b.Fatalf("%T says nothing of blocks", info.Sys())
	}
	return float64(s.Blocks) * 512 / (1 << 20)
}
