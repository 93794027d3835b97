package poller

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

const (
	probesFrom = 1024                 // runs read to choose a probe from
	someday    = 365 * 24 * time.Hour // a probe may take a run that is not due yet
	inARow     = 3                    // renewals; then a run that is due has its turn
)

// pick is the most urgent run to ask at this moment, or how long there is none.
func (p *Poller) pick(ctx context.Context) (run.ID, time.Duration) {
	p.mu.Lock()
	now := p.now()
	wait := p.trouble.until.Sub(now)
	refused, probe := p.gate.refused, p.gate.next.Sub(now)
	if p.gate.probing != "" {
		probe = sleepMost
	}
	urgent, later := p.renewals.next(now, p.flying)
	p.mu.Unlock()
	switch {
	case wait > 0:
		return "", wait
	case refused && probe > 0:
		return "", probe
	case refused:
		return p.pickProbe(ctx, now)
	case urgent != "" && p.renewed < inARow:
		return urgent, 0
	}
	// Where a whole CDN answers 404, renewals of a few hundred runs would take all of
	// the budget for half an hour, and nobody would see other runs end.
	id, wait := p.pickDue(ctx, now)
	if id == "" && urgent != "" {
		return urgent, 0
	}
	if id == "" && !later.IsZero() {
		wait = min(wait, later.Sub(now))
	}
	return id, wait
}

func (p *Poller) pickProbe(ctx context.Context, now time.Time) (run.ID, time.Duration) {
	p.batch.runs = nil
	runs, _, err := p.Queue.Due(ctx, now.Add(someday), p.turns, probesFrom)
	if err != nil {
		return "", p.failing(ctx, "", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	runs = slices.DeleteFunc(runs, func(r run.Due) bool { return p.flying[r.ID] })
	var wanted []run.ID
	for id, r := range p.renewals {
		if r.wanted && !p.flying[id] {
			wanted = append(wanted, id)
		}
	}
	slices.Sort(wanted)
	if id := p.gate.choose(runs, wanted); id != "" {
		return id, 0
	}
	return "", sleepMost
}

func (p *Poller) pickDue(ctx context.Context, now time.Time) (run.ID, time.Duration) {
	if !p.batch.old(now) {
		return p.batch.first(), 0
	}
	p.mu.Lock()
	// As of before the read: what lands meanwhile is in it with its old time.
	flying := maps.Clone(p.flying)
	m := moment{now: now, server: p.Clock.Server(p.API.Host()), service: p.Service.Now()}
	limit := batchSize + len(flying)
	farAway := max(p.config.MaxInterval, farthest) + time.Minute
	p.mu.Unlock()
	due, next, err := p.Queue.Due(ctx, now, p.turns, limit)
	if err == nil && len(due) == 0 && next.Sub(now) > farAway {
		// Nobody puts a run off that far: the clock was set back since.
		due, _, err = p.Queue.Due(ctx, next, p.turns, limit)
		next = now.Add(sleepMost)
	}
	if err != nil {
		return "", p.failing(ctx, "", err)
	}
	p.batch.read, p.batch.runs = now, p.batch.runs[:0]
	for _, r := range due {
		if !flying[r.ID] {
			p.batch.runs = append(p.batch.runs, ahead{r.ID, r.Turn, r.Submission, p.death(r.Run, m)})
		}
	}
	if id := p.batch.first(); id != "" {
		return id, 0
	}
	if next.IsZero() {
		return "", sleepMost
	}
	return "", max(next.Sub(now), time.Millisecond) // times in the queue are whole milliseconds
}
