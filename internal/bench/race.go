package main

import (
	"context"
	"fmt"
	"slices"
)

// mib is a mebibyte, in bytes.
const mib = 1 << 20

// race is work that assetd and others do side by side. Its goal is against the
// first of the peers.
type race struct {
	name, work string
	goal       goal
	peers      []contender
	settings   []string // of assetd
}

// measure lets all contenders who are there do the work in each round, and gives
// two rows: how much longer assetd took, and how much memory.
func (r race) measure(ctx context.Context, b *bench) ([]row, error) {
	s, err := startServer(ctx, r.name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	assets, err := s.assets()
	if err != nil {
		return nil, err
	}
	field := append([]contender{ours(r.settings...)}, r.peers...)
	outcomes, err := b.turns(field, func(c contender) (outcome, error) {
		return b.once(ctx, c, s, func(o outcome) error { return complete(o, assets) })
	})
	if err != nil {
		return nil, err
	}
	return r.rows(field, outcomes), nil
}

// complete tells whether a contender did all of the work: only then its time counts.
func complete(o outcome, assets []asset) error {
	n, err := saved(o.files, assets)
	if err == nil && n < len(assets) {
		err = fmt.Errorf("stored %d of %d files as they are at the server", n, len(assets))
	}
	return err
}

func (r race) rows(field []contender, outcomes map[string][]outcome) []row {
	speed := row{Name: r.name, Work: r.work, Goal: r.goal, Verdict: unpaired, Note: r.peers[0].name + " is not installed", Contenders: results(field, outcomes)}
	mine, theirs := seconds(outcomes["assetd"]), seconds(outcomes[r.peers[0].name])
	if len(theirs) > 0 {
		s := spreadOf(ratios(mine, theirs))
		speed.Figure, speed.Verdict, speed.Note = &s, r.goal.judge(s), ""
	}
	var memory []float64
	for _, o := range outcomes["assetd"] {
		memory = append(memory, float64(o.peak)/mib)
	}
	return []row{speed, rowOf(r.name+" memory", "peak memory meanwhile", atMost(64, "MiB").always(), memory)}
}

// turns lets each contender that is installed have its turn in every round, one
// round in this order and the next in the opposite one.
func (b *bench) turns(field []contender, turn func(contender) (outcome, error)) (map[string][]outcome, error) {
	outcomes := map[string][]outcome{}
	for n := range b.rounds {
		order := slices.Clone(field)
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if !c.installed() {
				continue
			}
			o, err := turn(c)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", n+1, c.name, err)
			}
			b.say("  round %d  %-7s %6.2f s (sync %.2f s), %s MiB, %.2f s CPU",
				n+1, c.name, o.took.Seconds(), o.sync.Seconds(), number(float64(o.peak)/mib), o.cpu.Seconds())
			outcomes[c.name] = append(outcomes[c.name], o)
		}
	}
	return outcomes, nil
}

// once is one contender's turn: on a disk that has nothing left to write, in a
// directory that is emptied after judge has looked at it.
func (b *bench) once(ctx context.Context, c contender, s *server, judge func(outcome) error) (o outcome, err error) {
	dir, leave, err := b.scratch()
	if err != nil {
		return o, err
	}
	defer leave()
	if err := syncDisk(ctx, dir); err != nil {
		return o, err
	}
	if o, err = c.fetch(ctx, b, dir, s); err != nil {
		return o, err
	}
	return o, judge(o)
}

func results(field []contender, outcomes map[string][]outcome) (all []result) {
	for _, c := range field {
		r := result{Name: c.name}
		if done := outcomes[c.name]; len(done) > 0 {
			r.Installed = true
			r.Seconds = spreadOf(seconds(done))
			var cpu, sync []float64
			for _, o := range done {
				r.PeakMiB = max(r.PeakMiB, float64(o.peak)/mib)
				cpu, sync = append(cpu, o.cpu.Seconds()), append(sync, o.sync.Seconds())
			}
			r.CPU, r.Sync = spreadOf(cpu), spreadOf(sync).Median
		}
		all = append(all, r)
	}
	return all
}

func seconds(outcomes []outcome) (s []float64) {
	for _, o := range outcomes {
		s = append(s, o.took.Seconds())
	}
	return s
}
