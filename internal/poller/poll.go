package poller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

const (
	statusesMax = 256     // unknown statuses told; a later one is not
	stackMost   = 4 << 10 // bytes of a panic's stack told
)

// poll asks about one run and records what came of it.
func (p *Poller) poll(ctx context.Context, id run.ID) {
	renewal := p.begin(id)
	defer func() {
		if cause := recover(); cause != nil {
			p.recovered(ctx, id, renewal, cause)
		}
	}()
	changes := p.API.KeyChanges()
	answer, err := p.API.Get(ctx, id)
	by := p.API.Fingerprint(p.Salt) // of the path that this call may have found
	if p.API.KeyChanges() != changes {
		by = "" // what was said may be about either key
	}
	var what reply
	switch {
	case err == nil:
		what.answer = &answer
	case ctx.Err() != nil:
		return // nothing was learned
	case errors.As(err, &what.refusal):
	default:
		what.refusal = &run.Refusal{Kind: run.Unreachable, Cause: errors.New(signedurl.Redact(err.Error()))}
	}
	// What was answered is recorded, also while stopping: it was paid for, and
	// takes one commit.
	ctx = context.WithoutCancel(ctx)
	if next := p.learn(ctx, id, what, by); renewal && !next.IsZero() {
		p.mu.Lock()
		p.renewals.failed(id, next)
		p.mu.Unlock()
	}
}

// begin reports whether the run is asked for fresh URLs.
func (p *Poller) begin(id run.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.renewals.begin(id, p.now())
}

// learn notes the reply for all and records it for its run. next is when the run
// must be asked again because nothing was learned about it; zero: it need not.
func (p *Poller) learn(ctx context.Context, id run.ID, what reply, by string) (next time.Time) {
	var err error
	if what.proven, err = p.prove(ctx, what, by); err != nil {
		p.failing(ctx, id, err) // known too little: a 404 ends nothing
	}
	told, m, config := p.weigh(id, &what, by)
	p.tellAPI(told, what)
	m.api, m.server = p.apiTime(what), p.Clock.Server(p.API.Host())
	r, err := p.Queue.Get(ctx, id)
	if errors.Is(err, run.ErrUnknown) || err == nil && r.State.Settled() {
		return time.Time{} // gone meanwhile
	}
	if err != nil {
		return m.now.Add(p.failing(ctx, id, err))
	}
	app := appOf(r, what.answer)
	m.plan = p.planOf(app)
	v := judge(r, what, config, m)
	change, err := p.record(ctx, r, v)
	if errors.Is(err, run.ErrUnknown) {
		return time.Time{}
	}
	if err != nil {
		return p.notRecorded(ctx, id, m.now, config.MaxInterval, err)
	}
	p.mu.Lock()
	p.trouble = trouble{}
	if v.Sample.Took > 0 {
		p.usuals.learned(app)
	}
	p.mu.Unlock()
	if v.Answer != nil || v.Unlisted || change.Ended {
		p.Changed(change)
	}
	p.tell(what, v, change)
	switch what.meaning() {
	case answered, missing, rejected, noAccess:
		return time.Time{}
	}
	return v.Next
}

// weigh brings the reply into what is known of the API, and stops or starts the
// service clock accordingly: under mu, so that two replies cannot do that in the
// wrong order. It completes what with whose a 403 is.
func (p *Poller) weigh(id run.ID, what *reply, by string) (told run.EventKind, m moment, c Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.now, m.roll = p.now(), p.roll()
	what.own = p.gate.own(by, m.now)
	told = p.gate.note(id, *what, by, m.now)
	if p.gate.closed() {
		p.Service.Pause(pauseName)
	} else {
		p.Service.Resume(pauseName)
	}
	m.service = p.Service.Now()
	return told, m, p.config
}

// tellAPI tells what changed for all runs.
func (p *Poller) tellAPI(told run.EventKind, what reply) {
	if told == "" {
		return
	}
	e := run.Event{Kind: told, Host: p.API.Host()}
	switch told {
	case run.APIRefused:
		e.Err = what.refusal
		e.Hint = "check the key and what it may read: a new one in api.key_file is taken at a reload (SIGHUP), one in the environment or a systemd credential at a restart; until then one run at a time is tried"
	case run.APIDown:
		e.Err = what.refusal
		e.Hint = "nothing is lost meanwhile: time in which the API does not answer does not count"
	}
	p.Tell(e)
}

// prove notes that the fingerprint has answered, or looks whether it ever has.
func (p *Poller) prove(ctx context.Context, what reply, by string) (bool, error) {
	p.mu.Lock()
	known := by != "" && p.proven == by
	p.mu.Unlock()
	if known || by == "" {
		return known, nil
	}
	proven, err := p.Queue.Proven(by)
	if err == nil && !proven && what.answer != nil {
		err = p.Queue.Prove(ctx, by)
		proven = err == nil
	}
	if proven && err == nil {
		p.mu.Lock()
		p.proven = by
		p.mu.Unlock()
	}
	return proven, err
}

// apiTime is the API's clock when it replied.
func (p *Poller) apiTime(what reply) time.Time {
	switch {
	case what.answer != nil && !what.answer.Date.IsZero():
		return what.answer.Date
	case what.refusal != nil && !what.refusal.Date.IsZero():
		return what.refusal.Date
	}
	return p.Clock.Server(p.API.Host())
}

// record writes the answer's file, then the verdict.
func (p *Poller) record(ctx context.Context, r run.Run, v run.Verdict) (run.Change, error) {
	if v.Answer != nil {
		if err := p.save(r, *v.Answer); err != nil {
			return run.Change{}, err
		}
	}
	return p.Queue.Answered(ctx, r.ID, v)
}

// save puts the answer into the run's file, unless that would say nothing more
// than it does, or than a later answer will.
func (p *Poller) save(r run.Run, a run.Answer) error {
	before, ok, err := p.Queue.Answer(r.ID)
	if err != nil {
		return err
	}
	if r.Status.Terminal() {
		a.Status = r.Status // a first terminal status stands
	}
	switch {
	case ok:
		before.Date = a.Date // moves on with every answer
		if reflect.DeepEqual(before, before.Unite(a)) {
			return nil
		}
	case !a.Status.Terminal() && len(a.Assets)+len(a.Ignored)+len(a.Extra) == 0:
		return nil
	}
	return p.Queue.SaveAnswer(r.ID, a)
}

// tell tells what the reply did to the run.
func (p *Poller) tell(what reply, v run.Verdict, change run.Change) {
	r := change.Run
	if what.refusal != nil {
		e := run.Event{Kind: run.PollRefused, Run: r.ID, Host: p.API.Host(), Err: what.refusal}
		switch says := what.meaning(); {
		case says == noAccess:
			e.Note = "no access to this run, while others are answered"
		case (says == missing || says == rejected) && !what.proven:
			e.Note = "no run was answered yet at this URL with this key: check api.base_url, api.runs_path and the key"
		}
		p.Tell(e)
	}
	if v.Answer != nil && !v.Answer.Status.Known() && p.newStatus(v.Answer.Status) {
		p.Tell(run.Event{
			Kind: run.StatusUnknown, Run: r.ID, Note: fmt.Sprintf("%.64q", v.Answer.Status),
			Hint: "taken for not terminal: the run is asked on; please report it",
		})
	}
	if !change.Ended {
		return
	}
	if r.GaveUp != "" {
		p.Tell(run.Event{
			Kind: run.RunGivenUp, Run: r.ID, State: r.State, Count: r.Assets, Note: r.GaveUp,
			Hint: "is the run ID right, and may this key see it? assetd show " + string(r.ID) + " tells what was answered",
		})
		return
	}
	p.Tell(run.Event{Kind: run.RunEnded, Run: r.ID, State: r.State, Count: r.Assets, Note: string(v.Answer.Status)})
	if n := len(v.Answer.Ignored); n > 0 {
		p.Tell(run.Event{
			Kind: run.URLsKept, Run: r.ID, Count: n, Note: "in " + signedurl.Redact(v.Answer.IgnoredNames()),
			Hint: "they expire like those of assets: fetch by hand what is wanted, and please report it",
		})
	}
}

// newStatus reports whether an unknown status is seen for the first time.
func (p *Poller) newStatus(s run.Status) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = s.Canonical()
	if p.statuses[s] || len(p.statuses) >= statusesMax {
		return false
	}
	p.statuses[s] = true
	return true
}

// failing takes an error of the queue: it ends Run where the queue cannot go on,
// else it is told and nothing is asked for the time returned.
func (p *Poller) failing(ctx context.Context, id run.ID, err error) time.Duration {
	if ctx.Err() != nil {
		return sleepMost
	}
	if p.Broken(err) {
		p.fail(fmt.Errorf("polling: %w", err))
		return sleepMost
	}
	p.mu.Lock()
	now := p.now()
	p.trouble.failed(now)
	wait := p.trouble.until.Sub(now)
	p.mu.Unlock()
	p.Tell(run.Event{Kind: run.QueueTrouble, Run: id, Err: err, Note: fmt.Sprintf("polling waits %v", wait)})
	return wait
}

// notRecorded puts a run off whose verdict the queue did not take, so that the
// trouble of one run is not everybody's.
func (p *Poller) notRecorded(ctx context.Context, id run.ID, now time.Time, wait time.Duration, err error) time.Time {
	next := now.Add(wait)
	if p.Broken(err) || p.Queue.Reschedule(ctx, id, next) != nil {
		return now.Add(p.failing(ctx, id, err))
	}
	p.Tell(run.Event{Kind: run.QueueTrouble, Run: id, Err: err, Note: fmt.Sprintf("an answer could not be recorded; the run is asked again in %v", wait)})
	return next
}

// recovered keeps a panic to the run that it came from.
func (p *Poller) recovered(ctx context.Context, id run.ID, renewal bool, cause any) {
	stack := debug.Stack()
	p.Tell(run.Event{
		Kind: run.StageRecovered, Run: id, Err: fmt.Errorf("polling: panic: %s", signedurl.Redact(fmt.Sprint(cause))),
		Note: string(stack[:min(len(stack), stackMost)]),
	})
	next := p.putOff(id, renewal)
	if err := p.Queue.Reschedule(context.WithoutCancel(ctx), id, next); err != nil && !errors.Is(err, run.ErrUnknown) {
		p.failing(ctx, id, err)
	}
}

// putOff is when to ask a run again that nothing is known about.
func (p *Poller) putOff(id run.ID, renewal bool) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	next := now.Add(p.config.MaxInterval)
	if renewal {
		p.renewals.failed(id, next)
	}
	if p.gate.refused && p.gate.probing == id {
		p.gate.putOff(id, now)
	}
	return next
}
