package poller

import (
	stdcmp "cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

// samples are runs that took so many seconds, the newest last.
func samples(took ...float64) (all []run.Sample) {
	for _, s := range took {
		all = append(all, run.Sample{Took: time.Duration(s * float64(time.Second))})
	}
	return all
}

// walk is when a run of an app is asked, in seconds of its age, until it is as old
// as the last one; the first time left out.
func walk(p *plan, until float64) (ages []float64) {
	for age := time.Duration(0); age.Seconds() < until; {
		gap, ok := config.planned(p, age, 0.5)
		if !ok {
			return ages
		}
		age += gap
		ages = append(ages, age.Seconds())
	}
	return ages
}

func TestAnAppThatTakesAlwaysFourMinutesIsAskedAFewTimes(t *testing.T) {
	p := makePlan(samples(slices.Repeat([]float64{240}, 64)...), config)
	ages := walk(p, 240)
	if len(ages) > 6 || ages[len(ages)-1] > 242 {
		t.Errorf("asked at %v", ages)
	}
	for i, age := range ages[1:] {
		if age-ages[i] > config.MaxInterval.Seconds() {
			t.Errorf("asked more seldom than max_interval: %v", ages)
		}
	}
	if p.polls > 8 {
		t.Errorf("%v polls expected", p.polls)
	}
}

func TestTheHumpsAreAskedAtMoreOftenThanTheValley(t *testing.T) {
	p := makePlan(samples(slices.Repeat([]float64{29, 30, 31, 297, 300, 303}, 10)...), config)
	ages := walk(p, 303)
	for i, age := range ages[1:] {
		gap := age - ages[i]
		switch {
		case age > 28 && age < 34 && gap > 30, age > 297 && age < 304 && gap > 5:
			t.Errorf("asked %v s after the last time in a hump", gap)
		case ages[i] > 40 && age < 290 && gap < 12:
			t.Errorf("asked %v s after the last time in the valley", gap)
		}
	}
	if ages[len(ages)-1] < 300 || p.polls > 12 {
		t.Errorf("%v polls expected: %v", p.polls, ages)
	}
}

func TestARunThatIsSlowerThanEverIsAskedByItsAge(t *testing.T) {
	m := moment{now: noon.Add(10 * time.Minute), server: noon.Add(10 * time.Minute), plan: makePlan(samples(60, 60, 60), config)}
	r := run.Run{HandedIn: noon, Status: run.Running}
	if got, want := config.wait(r, nil, m), config.interval(10*time.Minute, 0); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAPlanKeepsItsBoundsWhateverItLearned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{MinInterval: time.Duration(rapid.Int64Range(int64(100*time.Millisecond), int64(10*time.Minute)).Draw(t, "min"))}
		c.MaxInterval = c.MinInterval + time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "more"))
		var all []run.Sample
		for _, ms := range rapid.SliceOfN(rapid.Int64Range(1, 1e10), 1, 64).Draw(t, "took") {
			all = append(all, run.Sample{Took: time.Duration(ms) * time.Millisecond})
		}
		p := makePlan(all, c)
		if len(p.ages) != len(p.next) || len(p.ages) > 5000 {
			t.Fatalf("%d ages, %d next", len(p.ages), len(p.next))
		}
		for range 20 {
			age := time.Duration(rapid.Int64().Draw(t, "age"))
			roll := rapid.Float64Range(0, 0.999999999).Draw(t, "roll")
			if gap, ok := c.planned(p, age, roll); ok && (gap < c.MinInterval || gap > c.MaxInterval) {
				t.Fatalf("%v at %v, outside of %v to %v", gap, age, c.MinInterval, c.MaxInterval)
			}
		}
	})
}

func TestARunThatHasNotBegunMayBeginNow(t *testing.T) {
	plan := makePlan(samples(slices.Repeat([]float64{40}, 64)...), config)
	soon := func(d time.Duration) bool { return d > 7*time.Second && d < 13*time.Second }
	at := func(after time.Duration, status run.Status, started string) time.Duration {
		m := moment{now: noon.Add(after), server: noon.Add(after), roll: 0.5, plan: plan}
		return config.wait(run.Run{HandedIn: noon}, &run.Answer{Status: status, StartedAt: started}, m)
	}
	soonest := at(0, run.Running, "")
	for _, c := range []struct {
		what string
		got  time.Duration
		want func(time.Duration) bool
	}{
		{"begun", soonest, func(d time.Duration) bool { return d > 37*time.Second && d < 42*time.Second }},
		{"waiting for 30 s", at(30*time.Second, run.Pending, ""), func(d time.Duration) bool { return d == soonest }},
		{"waiting for 10 min", at(10*time.Minute, run.Pending, ""), func(d time.Duration) bool { return d > soonest && d <= time.Minute }},
		{"begun 30 s ago", at(10*time.Minute, run.Running, noon.Add(570*time.Second).Format(time.RFC3339)), soon},
		{"a start in the future is none", at(30*time.Second, run.Running, noon.Add(time.Hour).Format(time.RFC3339)), soon},
		{"a start that is no time is none", at(30*time.Second, run.Running, "soon"), soon},
	} {
		if !c.want(c.got) {
			t.Errorf("%s: asked after %v", c.what, c.got)
		}
	}
}

func TestWhatAnEndTellsOfTheApp(t *testing.T) {
	began, ended := noon.Add(10*time.Second).Format(time.RFC3339), noon.Add(130*time.Second).Format(time.RFC3339)
	// Seen at 12:03:00, 20 s after it still went on.
	going := run.Polls{OpenFor: run.Stopwatch{Mark: 100 * time.Second, Running: true}}
	m := moment{now: noon.Add(3 * time.Minute), server: noon.Add(3 * time.Minute), service: 120 * time.Second}
	url := func(death time.Time) run.Listed { return run.Listed{Expiry: death} }
	for _, c := range []struct {
		what string
		run  run.Run
		is   run.Answer
		want run.Sample
	}{
		{"both dates", run.Run{}, run.Answer{StartedAt: began, CompletedAt: ended}, run.Sample{Took: 2 * time.Minute}},
		{"the start was told before", run.Run{StartedAt: began}, run.Answer{CompletedAt: ended}, run.Sample{Took: 2 * time.Minute}},
		{"the start alone", run.Run{Polls: going}, run.Answer{StartedAt: began}, run.Sample{Took: 160 * time.Second}},
		{"no date", run.Run{Polls: going}, run.Answer{}, run.Sample{Took: 170 * time.Second}},
		{"the end alone", run.Run{Polls: going}, run.Answer{CompletedAt: ended}, run.Sample{Took: 130 * time.Second}},
		{"the end alone, at the first poll", run.Run{}, run.Answer{CompletedAt: ended}, run.Sample{}},
		{"no date, at the first poll", run.Run{}, run.Answer{}, run.Sample{}},
		{"the start alone, at the first poll", run.Run{}, run.Answer{StartedAt: began}, run.Sample{}},
		{"it ended before it began", run.Run{}, run.Answer{StartedAt: ended, CompletedAt: began}, run.Sample{}},
		{"cancelled", run.Run{}, run.Answer{Status: run.Cancelled, StartedAt: began, CompletedAt: ended}, run.Sample{}},
		{"retried", run.Run{Revision: 1}, run.Answer{StartedAt: began, CompletedAt: ended}, run.Sample{}},
		{
			"the first URL to die counts",
			run.Run{},
			run.Answer{StartedAt: began, CompletedAt: ended, Assets: []run.Listed{url(noon.Add(9 * time.Hour)), url(noon.Add(time.Hour + 130*time.Second)), url(time.Time{}), url(noon)}},
			run.Sample{Took: 2 * time.Minute, Life: time.Hour},
		},
	} {
		c.run.HandedIn = noon
		c.is.Status = stdcmp.Or(c.is.Status, run.Completed)
		if got := sampleOf(c.run, c.is, m); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

func TestWhatCannotBeReadIsTakenForUnknown(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.samples["app"] = samples(240, 240, 240)
		w.queue.fail = func(method string, _ run.ID) error {
			if method == "Samples" {
				return errors.New("cannot be read")
			}
			return nil
		}
		w.api.answerWith(func(run.ID, int) reply {
			r := status(run.Running)
			r.answer.App = "app"
			return r
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(10 * time.Second)
		if diff := cmp.Diff(seconds(0, 3, 6, 9), w.api.times()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNewSettingsMakeNewPlans(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.samples["app"] = samples(slices.Repeat([]float64{600}, 20)...)
		w.api.answerWith(func(run.ID, int) reply {
			r := status(run.Running)
			r.answer.App = "app"
			return r
		})
		w.queue.add("run-a")
		w.begin()
		w.pass(2 * time.Minute)
		c := config
		c.MaxInterval = 10 * time.Second
		w.Configure(c)
		before := len(w.api.times())
		w.pass(2 * time.Minute)
		if before > 4 || len(w.api.times())-before < 7 {
			t.Errorf("asked at %v", w.api.times())
		}
	})
}

// The budget has room for one run at a time: first those whose URLs die first, as
// far as that can be told, in every fourth turn the one that is due for the longest.
func TestWhereTheBudgetIsShortTheNearestDeathComesFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		w.queue.samples["short-lived"] = []run.Sample{{Took: time.Minute, Life: 10 * time.Minute}}
		w.queue.samples["quick"] = samples(60)
		w.queue.samples["slow"] = samples(1200)
		tokens := w.byToken()
		apps := []string{"slow", "", "quick", "short-lived"}
		for n := range 3 {
			for _, app := range apps {
				id := run.ID(fmt.Sprintf("run-%d-%s", n, app))
				w.queue.add(id)
				w.queue.runs[id] = run.Run{ID: id, State: run.Waiting, HandedIn: time.Now(), App: app}
				w.pass(time.Second)
			}
		}
		w.api.answerWith(func(run.ID, int) reply { return status(run.Completed, "x") })
		w.begin()
		for range 12 {
			tokens <- struct{}{}
			w.pass(100 * time.Millisecond)
		}
		want := []run.ID{
			"run-0-short-lived", "run-1-short-lived", "run-2-short-lived", "run-0-slow",
			"run-0-", "run-1-", "run-2-", "run-0-quick",
			"run-1-quick", "run-2-quick", "run-1-slow", "run-2-slow",
		}
		if diff := cmp.Diff(want, w.api.order()); diff != "" {
			t.Error(diff)
		}
	})
}

// Runs that were just heard of cannot be dead as soon as those nobody asked since.
func TestARunThatNeverEndsDoesNotKeepOthersWaiting(t *testing.T) {
	var p Poller
	p.usuals.apps = map[string]*usual{"app": usualOf(samples(60, 60, 60))}
	m := moment{now: noon.Add(time.Hour), server: noon.Add(time.Hour), service: time.Hour}
	stuck := run.Run{App: "app", HandedIn: noon, Polls: run.Polls{OpenFor: run.Stopwatch{Mark: time.Hour - 5*time.Second, Running: true}}}
	fresh := run.Run{App: "app", HandedIn: noon.Add(50 * time.Minute), Polls: run.Polls{OpenFor: run.Stopwatch{Mark: 50 * time.Minute, Running: true}}}
	if !p.death(fresh, m).Before(p.death(stuck, m)) {
		t.Errorf("%v, %v", p.death(fresh, m), p.death(stuck, m))
	}
	if got, want := p.death(fresh, m), noon.Add(51*time.Minute+usualLife); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWhatIsKnownOfAppsIsBounded(t *testing.T) {
	u := usuals{apps: map[string]*usual{}}
	for i := range 4 * usualsMost {
		u.keep(fmt.Sprint(i), nil)
	}
	if len(u.apps) != usualsMost {
		t.Errorf("%d apps", len(u.apps))
	}
}
