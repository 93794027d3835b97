package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// The scarce world: a line that can move half of the bytes before the last URL
// dies. Half of the assets die then, in one second; the others die before.
const (
	scarceRate   = 6_000_000 // bytes a second
	scarceLife   = 20 * time.Second
	scarceFirst  = 6 * time.Second // the shortest life
	scarceBytes  = 2 * scarceRate * int64(scarceLife/time.Second)
	scarceLeast  = 100_000   // bytes of an asset
	scarceMost   = 8_000_000 // bytes of an asset
	scarceEach   = 4         // assets of a run
	scarceSeed   = 7
	scarceEnding = 3 * time.Minute // of a round
)

// judging is how the server judges tokens.
type judging int

const (
	started judging = iota // when a request starts
	cut                    // all the time: transfers are cut when they die
)

// scarce is work for which there is not enough time. No renewal comes, and no
// answer tells a size before it is asked for.
func scarce(j judging) measurement {
	m := measurement{
		name: "scarce", work: "twice as many bytes as the link can move before expiry; the server judges only the start",
		goal: atLeast(1, "of all assets saved"), each: 3 * scarceEnding,
		world: &world{options: scarceOptions(), fill: scarceRuns},
	}
	if j == cut {
		m.name, m.work = "cut", "twice as many bytes as the link can move before expiry; the server cuts at expiry"
		m.goal = atLeast(0.9, "of the most that can be saved")
		m.world.options = append(m.world.options, simulator.WithCutAtExpiry())
	}
	m.measure = func(ctx context.Context, b *bench) ([]row, error) {
		field := []contender{ours(), curl(16), aria2c("-j16")}
		savings := map[string][]saving{}
		outcomes, err := b.turns(field, func(c contender) (o outcome, err error) {
			o, s, err := b.save(ctx, m.name, c, j)
			savings[c.name] = append(savings[c.name], s)
			return o, err
		})
		if err != nil {
			return nil, err
		}
		return []row{scarceRow(m, field, outcomes, savings)}, nil
	}
	return m
}

func scarceOptions() []simulator.Option {
	return []simulator.Option{simulator.WithLinkRate(scarceRate), simulator.WithLatency(5*time.Millisecond, 5*time.Millisecond)}
}

// scarceRuns is the same for all: assets of sizes that are even by their
// logarithms, with lives that do not depend on them.
func scarceRuns(s *simulator.Sim) (ids []run.ID, err error) {
	dice := rand.New(rand.NewPCG(scarceSeed, 0))
	for left := scarceBytes; left > 0; {
		id := run.ID(fmt.Sprintf("scarce%04d", len(ids)))
		var assets []simulator.RunOption
		for n := range scarceEach {
			size := int64(scarceLeast * math.Pow(scarceMost/scarceLeast, dice.Float64()))
			life := scarceLife
			if dice.IntN(2) == 0 {
				life = scarceFirst + time.Duration(dice.Int64N(int64(scarceLife-scarceFirst)))
			}
			assets = append(assets, simulator.Video(fmt.Sprintf("v%d", n), size, simulator.Signing{Life: life}))
			left -= size
		}
		if err := s.AddRun(id, assets...); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// saving is how many assets a contender saved, and how many anybody could have.
type saving struct{ saved, possible int }

// save lets one contender save what it can of a world that begins with it.
func (b *bench) save(ctx context.Context, name string, c contender, j judging) (o outcome, found saving, err error) {
	s, err := startServer(ctx, name)
	if err != nil {
		return o, found, err
	}
	defer s.close()
	ctx, cancel := context.WithTimeoutCause(ctx, scarceEnding, fmt.Errorf("not done within %v", scarceEnding))
	defer cancel()
	o, err = b.once(ctx, c, s, func(o outcome) error {
		assets, err := s.assets()
		if err != nil {
			return err
		}
		found.possible = len(assets)
		if j == cut {
			found.possible = possible(jobs(assets), o.begun, scarceRate)
		}
		found.saved, err = saved(o.files, assets)
		b.say("  %s saved %d of %d", c.name, found.saved, found.possible)
		return err
	})
	return o, found, err
}

func jobs(assets []asset) (all []job) {
	for _, a := range assets {
		all = append(all, job{a.Size, a.Expiry})
	}
	return all
}

func scarceRow(m measurement, field []contender, outcomes map[string][]outcome, savings map[string][]saving) row {
	var shares []float64
	for _, s := range savings["assetd"] {
		shares = append(shares, float64(s.saved)/float64(s.possible))
	}
	r := rowOf(m.name, m.work, m.goal, shares)
	r.Contenders = results(field, outcomes)
	for i, c := range r.Contenders {
		if !c.Installed {
			continue
		}
		var saved, possible []float64
		for _, s := range savings[c.Name] {
			saved, possible = append(saved, float64(s.saved)), append(possible, float64(s.possible))
		}
		most, all := spreadOf(saved), spreadOf(possible)
		r.Contenders[i].Saved, r.Contenders[i].Saveable = &most, &all
	}
	return r
}
