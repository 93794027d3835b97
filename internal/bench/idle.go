package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

const (
	idleRuns = 10_000
	idleCalm = 5 * time.Second  // from the last poll to the first look
	idleTime = 60 * time.Second // between the two looks
)

// idle is a daemon that has many runs and nothing to do: all were polled, none is
// due before the measurement is over.
func idle() measurement {
	m := measurement{
		name: "idle", work: "10,000 pending runs, nothing to do", goal: atMost(0.5, "% of a core"), each: 2 * time.Minute,
		world: &world{fill: pendingRuns},
	}
	m.measure = func(ctx context.Context, b *bench) ([]row, error) {
		var shares []float64
		for n := range b.rounds {
			share, err := b.idleShare(ctx, m.name)
			if err != nil {
				return nil, err
			}
			b.say("  round %d  %.3f %% of a core", n+1, share)
			shares = append(shares, share)
		}
		return []row{rowOf(m.name, m.work, m.goal, shares)}, nil
	}
	return m
}

func pendingRuns(s *simulator.Sim) (ids []run.ID, err error) {
	for i := range idleRuns {
		id := run.ID(fmt.Sprintf("pending%05d", i))
		ids = append(ids, id)
		err = errors.Join(err, s.AddRun(id, simulator.Ends(run.Pending)))
	}
	return ids, err
}

// idleShare is the share of a core, in percent, that a daemon at rest takes.
func (b *bench) idleShare(ctx context.Context, name string) (float64, error) {
	s, err := startServer(ctx, name)
	if err != nil {
		return 0, err
	}
	defer s.close()
	dir, leave, err := b.scratch()
	if err != nil {
		return 0, err
	}
	defer leave()
	d, err := b.startDaemon(ctx, dir, s, "poll.min_interval=12h", "poll.max_interval=24h")
	if err != nil {
		return 0, err
	}
	share, err := d.idleShare(ctx, s)
	return share, errors.Join(err, d.stop())
}

func (d *daemon) idleShare(ctx context.Context, s *server) (float64, error) {
	if err := d.drop("runs.txt", s.Runs...); err != nil {
		return 0, err
	}
	err := d.until(ctx, 200*time.Millisecond, "all runs are polled", func() (bool, error) {
		p, err := s.polls()
		return p.Count >= len(s.Runs), err
	})
	if err != nil {
		return 0, err
	}
	if err := d.rest(ctx, idleCalm); err != nil {
		return 0, err
	}
	used, polls, begin, err := d.sofar(s)
	if err != nil {
		return 0, err
	}
	if err := d.rest(ctx, idleTime); err != nil {
		return 0, err
	}
	usedThen, pollsThen, end, err := d.sofar(s)
	if err == nil && pollsThen > polls {
		err = fmt.Errorf("%d polls while there was nothing to do", pollsThen-polls)
	}
	return 100 * (usedThen - used).Seconds() / end.Sub(begin).Seconds(), err
}

// sofar is what the daemon has used, and asked for, at this moment.
func (d *daemon) sofar(s *server) (used time.Duration, polls int, at time.Time, err error) {
	p, err := s.polls()
	if err != nil {
		return 0, 0, at, err
	}
	used, err = cpuTime(d.cmd.Process.Pid)
	return used, p.Count, time.Now(), err
}

// rest lets time pass, in which the daemon must not end.
func (d *daemon) rest(ctx context.Context, long time.Duration) error {
	over := time.Now().Add(long)
	return d.until(ctx, long, "the time is over", func() (bool, error) { return !time.Now().Before(over), nil })
}
