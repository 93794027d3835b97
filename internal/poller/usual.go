package poller

import (
	"cmp"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

const (
	usualsMost = 256            // apps of which what is known is kept in memory
	usualLife  = 12 * time.Hour // of a URL, where nothing is known of the app's (magnific-api: documented)
	startSkew  = time.Minute    // a start this far ahead of the API's clock is now
)

// usual is what is known of an app.
type usual struct {
	samples []run.Sample
	took    []time.Duration // in order
	life    time.Duration   // half of its URLs live longer
	plan    *plan           // nil: not made yet
}

// usuals are those of the apps asked about lately.
type usuals struct {
	apps  map[string]*usual // nil: nothing is known of the app
	ended int               // samples that came since the start
}

// usual is what is known of an app, nil where that is nothing, or cannot be read
// now: the calls that cannot do without the queue tell that.
func (p *Poller) usual(app string) *usual {
	if app == "" {
		return nil
	}
	p.mu.Lock()
	known, ok := p.usuals.apps[app]
	ended := p.usuals.ended
	p.mu.Unlock()
	if ok {
		return known
	}
	samples, err := p.Queue.Samples(app)
	if err != nil {
		return nil
	}
	if len(samples) > 0 {
		known = usualOf(samples)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.usuals.ended == ended { // else what was read may be old already
		p.usuals.keep(app, known)
	}
	return known
}

func usualOf(samples []run.Sample) *usual {
	u := &usual{samples: samples, life: usualLife}
	var lives []time.Duration
	for _, s := range samples {
		u.took = append(u.took, s.Took)
		if s.Life > 0 {
			lives = append(lives, s.Life)
		}
	}
	slices.Sort(u.took)
	slices.Sort(lives)
	if len(lives) > 0 {
		u.life = lives[(len(lives)-1)/2]
	}
	return u
}

// end is the age by which a quarter of the runs that reach the age given usually
// have ended: that age itself where none is known to.
func (u *usual) end(age time.Duration) time.Duration {
	from, _ := slices.BinarySearch(u.took, age)
	if left := u.took[from:]; len(left) > 0 {
		return left[(len(left)-1)/4]
	}
	return age
}

func (u *usuals) keep(app string, known *usual) {
	for other := range u.apps { // any
		if len(u.apps) < usualsMost {
			break
		}
		delete(u.apps, other)
	}
	u.apps[app] = known
}

// learned forgets what was known of an app: there is one sample more.
func (u *usuals) learned(app string) {
	u.ended++
	delete(u.apps, app)
}

// planOf is how the runs of an app are asked; nil where nothing is known of it.
func (p *Poller) planOf(app string) *plan {
	u := p.usual(app)
	if u == nil {
		return nil
	}
	p.mu.Lock()
	made, config := u.plan, p.config
	p.mu.Unlock()
	if made != nil {
		return made
	}
	made = makePlan(u.samples, config)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config == config {
		u.plan = made
	}
	return made
}

// age is how long a run has been going on, and whether it has: since it started,
// by the API's clock, or since it was handed in where no start is told. a is the
// answer at hand, if there is one.
func (m moment) age(r run.Run, a *run.Answer) (age time.Duration, going bool) {
	status, started := r.Status, r.StartedAt
	if a != nil {
		status, started = a.Status, cmp.Or(a.StartedAt, started)
	}
	if t, err := time.Parse(time.RFC3339, started); err == nil && t.Before(m.server.Add(startSkew)) {
		return max(m.server.Sub(t), 0), true
	}
	return m.now.Sub(r.HandedIn), !status.Is(run.Pending)
}

// wait is after how long to ask a run again that goes on: as its app's plan has
// it, else by its age. One that has not begun may begin now.
func (c Config) wait(r run.Run, a *run.Answer, m moment) time.Duration {
	age, going := m.age(r, a)
	byAge := c.interval(age, m.roll)
	if m.plan == nil {
		return byAge
	}
	if !going {
		soonest, _ := c.planned(m.plan, 0, m.roll)
		return max(soonest, byAge)
	}
	if planned, ok := c.planned(m.plan, age, m.roll); ok {
		return planned
	}
	return byAge
}

// sampleOf is what a terminal answer tells about the app: zero where it cannot be
// said when the run began or ended, and of runs that a person stopped or that are
// tried again.
func sampleOf(r run.Run, a run.Answer, m moment) (s run.Sample) {
	if a.Status.Is(run.Cancelled) || r.Revision > 0 {
		return s
	}
	age, _ := m.age(r, &a)
	seen := r.Polls.OpenFor // before it ended
	if !seen.Running && cmp.Or(a.StartedAt, r.StartedAt) == "" {
		return s // may be much older than its hand-in
	}
	var late time.Duration // since it ended
	if t, err := time.Parse(time.RFC3339, a.CompletedAt); err == nil {
		late = max(m.server.Sub(t), 0)
	} else if seen.Running {
		late = max(m.service-seen.Mark, 0) / 2
	} else {
		return s
	}
	if s.Took = age - late; s.Took <= 0 {
		return run.Sample{}
	}
	ended := m.server.Add(-late)
	for _, l := range a.Assets {
		if life := l.Expiry.Sub(ended); life > 0 && (s.Life == 0 || life < s.Life) {
			s.Life = life
		}
	}
	return s
}

// death is when the first URL of a run usually dies of which nothing was heard
// since it was still going on: it ended, or will, when such runs of its app do.
// Nothing being known of its app, it may have ended at once. It orders, and ends
// nothing.
func (p *Poller) death(r run.Run, m moment) time.Time {
	age, _ := m.age(r, nil)
	var heard time.Duration // the age at which it still went on
	if open := r.Polls.OpenFor; open.Running {
		heard = max(age-max(m.service-open.Mark, 0), 0)
	}
	end, life := heard, usualLife
	if u := p.usual(r.App); u != nil {
		end, life = u.end(heard), u.life
	}
	return m.now.Add(end - age + life)
}

// appOf is the app of a run that was answered: what was said first counts.
func appOf(r run.Run, a *run.Answer) string {
	if a == nil {
		return r.App
	}
	return cmp.Or(r.App, a.App)
}
