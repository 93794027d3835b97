package poller

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

var (
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	config = Config{MinInterval: 3 * time.Second, MaxInterval: time.Minute, GiveUpAfter: 72 * time.Hour, NotFoundAfter: time.Hour}
)

// at is the moment so long after noon, by all clocks alike but for what tells
// them apart.
func at(d time.Duration) moment {
	return moment{now: noon.Add(d), api: noon.Add(d + time.Hour), service: d + time.Minute}
}

func waiting() run.Run { return run.Run{ID: "run-1", State: run.Waiting, HandedIn: noon} }

func ended() run.Run {
	r := waiting()
	r.State, r.Status, r.EndedAt = run.Downloading, run.Completed, noon
	return r
}

func status(s run.Status, assets ...string) reply {
	a := &run.Answer{Run: "run-1", Status: s}
	for _, id := range assets {
		a.Assets = append(a.Assets, run.Listed{Kind: run.Images, ID: id})
	}
	return reply{answer: a}
}

func refuse(kind run.RefusalKind, status int) reply {
	return reply{refusal: &run.Refusal{Kind: kind, Status: status, Cause: errors.New("said so")}}
}

var (
	notFound  = refuse(run.NotFound, 404)
	down      = refuse(run.ServerError, 503)
	netDown   = refuse(run.Unreachable, 0)
	htmlPage  = refuse(run.Unusable, 200)
	moved     = refuse(run.Unusable, 302)
	gone      = refuse(run.Rejected, 410)
	tooMany   = refuse(run.RateLimited, 429)
	badKey    = refuse(run.Unauthorized, 401)
	forbidden = refuse(run.Forbidden, 403)
)

func own(r reply) reply    { r.own = true; return r }
func proven(r reply) reply { r.proven = true; return r }

func retryAfter(r reply, d time.Duration) reply {
	refusal := *r.refusal
	refusal.RetryAfter = d
	r.refusal = &refusal
	return r
}

func TestAReplyMeansWhatTheDesignSays(t *testing.T) {
	running := run.Stopwatch{Total: time.Second, Mark: 10 * time.Second, Running: true}
	said := func(r reply) string { return r.refusal.Error() }
	for name, c := range map[string]struct {
		run   run.Run
		polls run.Polls // before
		reply reply
		at    time.Duration
		want  run.Verdict // Polls.Count, At, Service and Answer are filled in
	}{
		"not terminal": {
			run: waiting(), reply: status(run.Running), at: 10 * time.Second,
			want: run.Verdict{
				Next:  noon.Add(13 * time.Second),
				Polls: run.Polls{Answered: noon.Add(time.Hour + 10*time.Second), OpenFor: run.Stopwatch{Mark: 70 * time.Second, Running: true}},
			},
		},
		"not documented is not terminal": {
			run: waiting(), reply: status("paused", "a"), at: 1000 * time.Second,
			want: run.Verdict{
				Next:  noon.Add(1040 * time.Second), // two thirds of the most; the jitter fills the rest
				Polls: run.Polls{Answered: noon.Add(time.Hour + 1000*time.Second), OpenFor: run.Stopwatch{Mark: 1060 * time.Second, Running: true}},
			},
		},
		"an answer clears what failures left": {
			run: waiting(), reply: status(run.Pending), at: 10 * time.Second,
			polls: run.Polls{Answered: noon, Failures: 9, NotFound: 4, MissingFor: running, NoAccess: true, LastError: "x", OpenFor: running, Empty: 2, EmptyFor: running},
			want: run.Verdict{
				Next:  noon.Add(13 * time.Second),
				Polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: 61 * time.Second, Mark: 70 * time.Second, Running: true}},
			},
		},
		"completed": {
			run: waiting(), reply: status(run.Completed, "a"),
			want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon.Add(time.Hour)}},
		},
		"completed with errors, nothing listed": {
			run: waiting(), reply: status(run.CompletedWithErrors),
			want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon.Add(time.Hour)}},
		},
		"failed":    {run: waiting(), reply: status(run.Failed), want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon.Add(time.Hour)}}},
		"cancelled": {run: waiting(), reply: status(run.Cancelled), want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon.Add(time.Hour)}}},
		"completed, nothing listed, first time": {
			run: waiting(), reply: status(run.Completed),
			want: run.Verdict{
				Next:  noon.Add(3 * time.Second),
				Polls: run.Polls{Answered: noon.Add(time.Hour), Empty: 1, EmptyFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			},
		},
		"completed, nothing listed, third time but too soon": {
			run: waiting(), reply: status(run.Completed), at: 4 * time.Second,
			polls: run.Polls{Answered: noon, Empty: 2, EmptyFor: run.Stopwatch{Total: 0, Mark: time.Minute, Running: true}},
			want: run.Verdict{
				Next:  noon.Add(7 * time.Second),
				Polls: run.Polls{Answered: noon, Empty: 3, EmptyFor: run.Stopwatch{Total: 4 * time.Second, Mark: 64 * time.Second, Running: true}},
			},
		},
		"completed, nothing listed, third time": {
			run: waiting(), reply: status(run.Completed), at: 5 * time.Second,
			polls: run.Polls{Answered: noon, Empty: 2, EmptyFor: run.Stopwatch{Total: 0, Mark: time.Minute, Running: true}},
			want: run.Verdict{
				Terminal: true,
				Polls:    run.Polls{Answered: noon, Empty: 3, EmptyFor: run.Stopwatch{Total: 5 * time.Second, Mark: 65 * time.Second, Running: true}},
			},
		},
		"completed with assets after answers without": {
			run: waiting(), reply: status(run.Completed, "a"), polls: run.Polls{Answered: noon, Empty: 1, EmptyFor: running},
			want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon, Empty: 1, EmptyFor: running}},
		},
		"given up": {
			run: waiting(), reply: status(run.Running), at: 72 * time.Hour,
			polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{
				GiveUp: `still "running" 72h0m0s after its first answer`,
				Polls:  run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: 72 * time.Hour, Mark: 72*time.Hour + time.Minute, Running: true}},
			},
		},
		"not given up: most of that time nobody answered": {
			run: waiting(), reply: status(run.Running), at: 72 * time.Hour,
			polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: time.Hour, Mark: time.Minute}},
			want: run.Verdict{
				Next:  noon.Add(72*time.Hour + 40*time.Second),
				Polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: time.Hour, Mark: 72*time.Hour + time.Minute, Running: true}},
			},
		},
		"a body that cannot be used": {
			run: waiting(), reply: htmlPage, polls: run.Polls{Failures: 2, NotFound: 3, MissingFor: running, NoAccess: true, Empty: 1},
			want: run.Verdict{
				Next:  noon.Add(2 * time.Second), // half of 4 s
				Polls: run.Polls{Failures: 3, OpenFor: run.Stopwatch{Mark: time.Minute, Running: true}, LastError: said(htmlPage)},
			},
		},
		"bodies that cannot be used, given up": {
			run: waiting(), reply: htmlPage, at: 72 * time.Hour, polls: run.Polls{Failures: 99, OpenFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{
				GiveUp: "no answer that can be used 72h0m0s after its first one: " + said(htmlPage),
				Polls:  run.Polls{Failures: 100, OpenFor: run.Stopwatch{Total: 72 * time.Hour, Mark: 72*time.Hour + time.Minute, Running: true}, LastError: said(htmlPage)},
			},
		},
		"5xx ends nothing, however long": {
			run: waiting(), reply: proven(down), at: 1000 * time.Hour,
			polls: run.Polls{Failures: 999, NotFound: 9, MissingFor: run.Stopwatch{Total: 100 * time.Hour, Running: true}, OpenFor: run.Stopwatch{Total: 100 * time.Hour, Running: true}, EmptyFor: running},
			want: run.Verdict{
				Next: noon.Add(1000*time.Hour + 30*time.Second),
				Polls: run.Polls{
					Failures: 1000, NotFound: 9, MissingFor: run.Stopwatch{Total: 100 * time.Hour}, OpenFor: run.Stopwatch{Total: 100 * time.Hour},
					EmptyFor: running.Stop(), LastError: said(down),
				},
			},
		},
		"network":                       {run: waiting(), reply: netDown, want: run.Verdict{Next: noon.Add(500 * time.Millisecond), Polls: run.Polls{Failures: 1, LastError: said(netDown)}}},
		"a redirect":                    {run: waiting(), reply: moved, want: run.Verdict{Next: noon.Add(500 * time.Millisecond), Polls: run.Polls{Failures: 1, LastError: said(moved)}}},
		"503 that says when":            {run: waiting(), reply: retryAfter(down, 5*time.Minute), want: run.Verdict{Next: noon.Add(5 * time.Minute), Polls: run.Polls{Failures: 1, LastError: said(down)}}},
		"503 that says too soon a time": {run: waiting(), reply: retryAfter(down, time.Second), polls: run.Polls{Failures: 5}, want: run.Verdict{Next: noon.Add(16 * time.Second), Polls: run.Polls{Failures: 6, LastError: said(down)}}},
		"429": {
			run: waiting(), reply: tooMany, polls: run.Polls{Failures: 2, OpenFor: running},
			want: run.Verdict{Next: noon.Add(3 * time.Second), Polls: run.Polls{Failures: 2, OpenFor: running.Stop(), LastError: said(tooMany)}},
		},
		"429 that says when": {run: waiting(), reply: retryAfter(tooMany, 40*time.Second), want: run.Verdict{Next: noon.Add(40 * time.Second), Polls: run.Polls{LastError: said(tooMany)}}},
		"401": {
			run: waiting(), reply: badKey, polls: run.Polls{MissingFor: running, OpenFor: running},
			want: run.Verdict{Next: noon, Polls: run.Polls{MissingFor: running.Stop(), OpenFor: running.Stop(), LastError: said(badKey)}},
		},
		"403 that may be everybody's": {run: waiting(), reply: proven(forbidden), want: run.Verdict{Next: noon, Polls: run.Polls{LastError: said(forbidden)}}},
		"403 of this run alone": {
			run: waiting(), reply: own(proven(forbidden)), polls: run.Polls{Failures: 3, Empty: 1, EmptyFor: running},
			want: run.Verdict{
				Next:  noon.Add(time.Minute),
				Polls: run.Polls{NoAccess: true, NotFound: 1, MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}, LastError: said(forbidden)},
			},
		},
		"403 of this run alone, for long": {
			run: waiting(), reply: own(proven(forbidden)), at: time.Hour, polls: run.Polls{NotFound: 1, MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{
				GiveUp: `nothing but "forbidden (HTTP 403): said so" for 1h0m0s`,
				Polls:  run.Polls{NoAccess: true, NotFound: 2, MissingFor: run.Stopwatch{Total: time.Hour, Mark: 61 * time.Minute, Running: true}, LastError: said(forbidden)},
			},
		},
		"404": {
			run: waiting(), reply: proven(notFound), at: 10 * time.Second,
			want: run.Verdict{
				Next:  noon.Add(13 * time.Second),
				Polls: run.Polls{NotFound: 1, MissingFor: run.Stopwatch{Mark: 70 * time.Second, Running: true}, LastError: said(notFound)},
			},
		},
		"404 for long": {
			run: waiting(), reply: proven(notFound), at: time.Hour, polls: run.Polls{NotFound: 7, MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}, NoAccess: true},
			want: run.Verdict{
				GiveUp: `nothing but "not found (HTTP 404): said so" for 1h0m0s`,
				Polls:  run.Polls{NotFound: 8, MissingFor: run.Stopwatch{Total: time.Hour, Mark: 61 * time.Minute, Running: true}, LastError: said(notFound)},
			},
		},
		"404 for long where nothing was ever answered": {
			run: waiting(), reply: notFound, at: time.Hour, polls: run.Polls{NotFound: 7, MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{
				Next:  noon.Add(time.Hour + 40*time.Second),
				Polls: run.Polls{NotFound: 8, MissingFor: run.Stopwatch{Total: time.Hour, Mark: 61 * time.Minute, Running: true}, LastError: said(notFound)},
			},
		},
		"404 of a downloading run": {
			run: ended(), reply: proven(notFound), at: 100 * time.Hour, polls: run.Polls{Failures: 1, MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{Unlisted: true, Polls: run.Polls{MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}, LastError: said(notFound)}},
		},
		"410 of a downloading run": {
			run: ended(), reply: proven(gone), at: 100 * time.Hour, polls: run.Polls{MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}},
			want: run.Verdict{Unlisted: true, Polls: run.Polls{MissingFor: run.Stopwatch{Mark: time.Minute, Running: true}, LastError: said(gone)}},
		},
		"403 of a downloading run alone": {
			run: ended(), reply: own(forbidden),
			want: run.Verdict{Unlisted: true, Polls: run.Polls{NoAccess: true, LastError: said(forbidden)}},
		},
		"401 of a downloading run":               {run: ended(), reply: badKey, want: run.Verdict{Next: noon, Polls: run.Polls{LastError: said(badKey)}}},
		"5xx of a downloading run":               {run: ended(), reply: down, polls: run.Polls{Failures: 3}, want: run.Verdict{Next: noon.Add(4 * time.Second), Polls: run.Polls{Failures: 4, LastError: said(down)}}},
		"a garbled answer for a downloading run": {run: ended(), reply: htmlPage, at: 1000 * time.Hour, polls: run.Polls{OpenFor: running}, want: run.Verdict{Next: noon.Add(1000*time.Hour + 500*time.Millisecond), Polls: run.Polls{Failures: 1, OpenFor: running, LastError: said(htmlPage)}}},
		"a renewal":                              {run: ended(), reply: status(run.Completed, "a"), polls: run.Polls{Answered: noon, Failures: 3, LastError: "x"}, want: run.Verdict{Terminal: true, Polls: run.Polls{Answered: noon}}},
		"a renewal without assets":               {run: ended(), reply: status(run.Completed), polls: run.Polls{Answered: noon}, want: run.Verdict{Polls: run.Polls{Answered: noon}}},
		"a renewal that is running again":        {run: ended(), reply: status(run.Running, "a"), polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: 99 * time.Hour}}, want: run.Verdict{Polls: run.Polls{Answered: noon, OpenFor: run.Stopwatch{Total: 99 * time.Hour}}}},
	} {
		m := at(c.at)
		if says := c.reply.meaning(); c.reply.refusal != nil && says != missing && says != rejected {
			m.roll = 0.5 // of the backoff; intervals without jitter elsewhere
		}
		if c.reply.meaning() == limited {
			m.roll = 0
		}
		c.run.Polls = c.polls
		c.run.Polls.Count = 41
		c.want.Polls.Count = 42
		c.want.At, c.want.Service, c.want.Answer = m.api, m.service, c.reply.answer
		if diff := cmp.Diff(c.want, judge(c.run, c.reply, config, m)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNothingButAnAnswerEndsARun(t *testing.T) {
	replies := []reply{
		status(run.Running), status("odd"), status(run.Completed), status(run.Completed, "a"), status(run.Failed), notFound, proven(notFound),
		own(forbidden), own(proven(forbidden)), forbidden, badKey, down, netDown, htmlPage, moved, gone, proven(gone), tooMany, retryAfter(tooMany, time.Hour),
		{refusal: &run.Refusal{}},
	}
	watch := rapid.Custom(func(t *rapid.T) run.Stopwatch {
		d := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, name))
		}
		return run.Stopwatch{Total: d("total"), Mark: d("mark"), Running: rapid.Bool().Draw(t, "running")}
	})
	rapid.Check(t, func(t *rapid.T) {
		r := waiting()
		if rapid.Bool().Draw(t, "ended") {
			r = ended()
		}
		r.Polls = run.Polls{
			Failures: rapid.IntRange(0, 1<<40).Draw(t, "failures"), NotFound: rapid.IntRange(0, 99).Draw(t, "not found"), Empty: rapid.IntRange(0, 5).Draw(t, "empty"),
			EmptyFor: watch.Draw(t, "empty for"), MissingFor: watch.Draw(t, "missing for"), OpenFor: watch.Draw(t, "open for"),
		}
		what := rapid.SampledFrom(replies).Draw(t, "reply")
		m := at(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(200*time.Hour)).Draw(t, "at")))
		m.roll = rapid.Float64Range(0, 0.999999).Draw(t, "roll")
		v := judge(r, what, config, m)
		says := what.meaning()
		over := v.Terminal || v.GiveUp != "" || v.Unlisted
		switch {
		case v.Terminal && (says != answered || !what.answer.Status.Terminal()):
			t.Fatalf("terminal by %v", says)
		case v.GiveUp != "" && (r.Ended() || says == failed || says == limited || says == keyRefused):
			t.Fatalf("given up by %v", says)
		case v.GiveUp != "" && (says == missing || says == rejected || says == noAccess) && !what.proven:
			t.Fatal("given up though nothing was ever answered")
		case over && !v.Next.IsZero():
			t.Fatalf("over and asked again: %+v", v)
		case !over && !r.Ended() && v.Next.IsZero():
			t.Fatalf("never asked again: %+v", v)
		case r.Ended() && says != answered && says != missing && says != rejected && says != noAccess && v.Next.IsZero():
			t.Fatalf("a renewal that failed is not tried again: %+v", v)
		case v.Next.Before(m.now) && !v.Next.IsZero():
			t.Fatalf("asked again in the past: %v", v.Next)
		case v.Next.Sub(m.now) > max(config.MaxInterval, time.Hour):
			t.Fatalf("asked again after %v", v.Next.Sub(m.now))
		case (v.Answer != nil) != (says == answered):
			t.Fatalf("answer %v for %v", v.Answer, says)
		}
	})
}

func TestOnlyTheServiceClockCountsTowardsAnEnd(t *testing.T) {
	r := waiting()
	for i := range 5 {
		// A day passes between the polls, but the service clock stands still.
		m := at(time.Duration(i) * 24 * time.Hour)
		m.service = time.Hour
		v := judge(r, proven(notFound), config, m)
		if v.GiveUp != "" {
			t.Fatalf("given up: %s", v.GiveUp)
		}
		r.Polls = v.Polls
	}
	if r.Polls.NotFound != 5 {
		t.Errorf("%+v", r.Polls)
	}
}

func TestTheCountOf404BeginsAnewAfterAnyOtherAnswer(t *testing.T) {
	for name, between := range map[string]reply{"200": status(run.Pending), "a body that cannot be used": htmlPage} {
		r := waiting()
		step := func(what reply, after time.Duration) run.Verdict {
			v := judge(r, what, config, at(after))
			r.Polls = v.Polls
			return v
		}
		step(proven(notFound), 0)
		step(proven(notFound), 59*time.Minute)
		step(between, 60*time.Minute)
		step(proven(notFound), 61*time.Minute)
		if v := step(proven(notFound), 120*time.Minute); v.GiveUp != "" {
			t.Errorf("%s: %s", name, v.GiveUp)
		}
		if v := step(proven(notFound), 121*time.Minute); v.GiveUp == "" {
			t.Errorf("%s: not ended an hour after the first 404 after it: %+v", name, v.Polls)
		}
	}
}
