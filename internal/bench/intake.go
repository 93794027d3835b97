package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

const (
	intakeFiles = 10
	intakeEach  = 100_000 // the most IDs that a drop file may have
)

// intake is a million runs handed in to the daemon, and the daemon with them.
func intake() measurement {
	m := measurement{
		name: "intake", work: "1,000,000 pending runs in the daemon", goal: atLeast(50_000, "a second"), each: 4 * time.Minute,
		world: &world{fill: func(*simulator.Sim) ([]run.ID, error) { return nil, nil }},
	}
	m.measure = func(ctx context.Context, b *bench) ([]row, error) {
		var rate, anon, open []float64
		for n := range b.rounds {
			t, err := b.takeIn(ctx, m.name)
			if err != nil {
				return nil, err
			}
			b.say("  round %d  taken in %.2f s, ready after %.2f s, %s MiB", n+1, t.taken.Seconds(), t.ready.Seconds(), number(float64(t.anonymous)/mib))
			rate = append(rate, intakeFiles*intakeEach/t.taken.Seconds())
			anon = append(anon, float64(t.anonymous)/mib)
			open = append(open, t.ready.Seconds())
		}
		return []row{
			rowOf(m.name, "1,000,000 runs handed in to the daemon, 100,000 a drop file, until the last is accepted", m.goal, rate),
			rowOf(m.name, "… anonymous memory of the daemon, the most there was", atMost(200, "MiB").always(), anon),
			rowOf(m.name, "… ready after a restart", atMost(2, "s"), open),
		}, nil
	}
	return m
}

// takings is what a daemon made of a million runs.
type takings struct {
	taken     time.Duration // from the first drop to the last acceptance
	ready     time.Duration // from a new start to readiness
	anonymous int64         // bytes
}

func (b *bench) takeIn(ctx context.Context, name string) (t takings, err error) {
	s, err := startServer(ctx, name)
	if err != nil {
		return t, err
	}
	defer s.close()
	dir, leave, err := b.scratch()
	if err != nil {
		return t, err
	}
	defer leave()
	// The API's budget is such that polls are rare: what is measured is the queue.
	for _, life := range []func(*daemon, context.Context, *takings) error{(*daemon).takeMillion, (*daemon).stayMillion} {
		begin := time.Now()
		d, err := b.startDaemon(ctx, dir, s, "api.rate=1", "api.burst=1")
		if err != nil {
			return t, err
		}
		t.ready = time.Since(begin)
		stop := watch(d.cmd.Process.Pid, anonymous)
		err = life(d, ctx, &t)
		t.anonymous = max(t.anonymous, stop())
		if err := errors.Join(err, d.stop()); err != nil {
			return t, err
		}
	}
	return t, nil
}

// takeMillion hands a million runs in.
func (d *daemon) takeMillion(ctx context.Context, t *takings) error {
	begin := time.Now()
	for n := range intakeFiles {
		ids := make([]run.ID, intakeEach)
		for i := range ids {
			// In no order, as the API's are.
			ids[i] = run.ID(fmt.Sprintf("%08x", uint32(n*intakeEach+i)*2654435761))
		}
		if err := d.drop(fmt.Sprintf("runs%d.txt", n), ids...); err != nil {
			return err
		}
	}
	err := d.until(ctx, 10*time.Millisecond, "all drop files are accepted", func() (bool, error) {
		accepted, err := os.ReadDir(filepath.Join(d.dir, "drop", "accepted"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return len(accepted) == intakeFiles, err
	})
	t.taken = time.Since(begin)
	return err
}

// stayMillion lets a daemon be that has a million runs.
func (d *daemon) stayMillion(ctx context.Context, _ *takings) error { return d.rest(ctx, idleCalm) }
