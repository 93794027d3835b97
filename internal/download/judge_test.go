package download

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

var (
	noon  = time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	rules = Config{GiveUpAfter: 30 * time.Minute, LostAfter: 168 * time.Hour}
)

// failedAs is a failure of the class, with its usual status.
func failedAs(c transfer.Class) *transfer.Failure {
	return &transfer.Failure{Class: c, Status: map[transfer.Class]int{
		transfer.Refused: 403, transfer.Throttled: 429, transfer.Gone: 404, transfer.Server: 500,
		transfer.NotMedia: 200, transfer.RedirectLoop: 302, unproven: 200,
	}[c], Err: errors.New("why")}
}

func classes() []transfer.Class {
	return []transfer.Class{
		transfer.Refused, transfer.Throttled, transfer.Gone, transfer.Server, transfer.Network, transfer.Stall,
		transfer.Rule, transfer.NotMedia, transfer.RedirectLoop, transfer.Nothing, unproven,
	}
}

// tried is an asset whose answers looked final n times, for so long, on a URL that
// dies at noon.
func tried(n int, forTime time.Duration, anew bool) run.Asset {
	return run.Asset{URLHash: "u", Expiry: noon, FirstSeen: noon.Add(-time.Hour), Evidence: run.Evidence{
		Finals: n, FinalFor: run.Stopwatch{Total: forTime}, Anew: anew, FinalAnew: anew,
	}}
}

func TestFinalAnswersLoseOnlyWhenAllOfTheRuleIsTrue(t *testing.T) {
	before := moment{server: noon.Add(-time.Minute), known: true}
	ripe := tried(3, 30*time.Minute, true)
	for name, c := range map[string]struct {
		before, after run.Asset
		class         transfer.Class
		m             moment
		lost          bool
	}{
		"all true":                   {ripe, ripe, transfer.Gone, before, true},
		"one second too early":       {ripe, tried(3, 30*time.Minute-time.Second, true), transfer.Gone, before, false},
		"two answers only":           {ripe, tried(2, time.Hour, true), transfer.Gone, before, false},
		"none on a URL anew":         {tried(2, time.Hour, false), tried(3, time.Hour, false), transfer.Gone, before, false},
		"anew only since it began":   {tried(2, time.Hour, false), tried(3, time.Hour, true), transfer.Gone, before, false},
		"the last is no final one":   {ripe, ripe, transfer.Server, before, false},
		"the last is a refusal":      {ripe, ripe, transfer.Refused, before, false},
		"while paused":               {ripe, ripe, transfer.Gone, moment{server: noon, known: true, paused: true}, false},
		"another URL came meanwhile": {tried(2, time.Hour, true), run.Asset{URLHash: "v", Evidence: ripe.Evidence}, transfer.Gone, before, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(rules, c.before, c.after, failedAs(c.class), c.m)
			if lost := v.lose == run.LossFinal; lost != c.lost || !lost && v.lose != "" {
				t.Errorf("%+v", v)
			}
		})
	}
	for _, class := range classes() {
		want := run.LossRule("")
		switch class {
		case transfer.Gone, transfer.NotMedia, transfer.RedirectLoop, transfer.Nothing, unproven:
			want = run.LossFinal
		case transfer.Rule:
			want = run.LossRefused
		}
		if got := judge(rules, ripe, ripe, failedAs(class), before).lose; got != want {
			t.Errorf("%s loses by %q, want %q", class, got, want)
		}
	}
}

func TestExpiredURLLosesOnlyAfterAPollAndOneMoreTry(t *testing.T) {
	polled := run.Asset{URLHash: "u", Expiry: noon, FirstSeen: noon.Add(-time.Hour), Evidence: run.Evidence{NoLaterURL: true}}
	unpolled := polled
	unpolled.Evidence.NoLaterURL = false
	later := polled
	later.URLHash, later.Evidence.NoLaterURL = "v", false
	unknown := polled
	unknown.Expiry, unknown.FirstSeen = time.Time{}, noon.Add(-12*time.Hour)
	after, before := moment{server: noon.Add(time.Second), known: true}, moment{server: noon, known: true}
	for name, c := range map[string]struct {
		before, after run.Asset
		class         transfer.Class
		m             moment
		lost          bool
	}{
		"403":                               {polled, polled, transfer.Refused, after, true},
		"404, 410, 451":                     {polled, polled, transfer.Gone, after, true},
		"unknown expiry, after 12 h":        {unknown, unknown, transfer.Refused, after, true},
		"unknown expiry, before":            {unknown, unknown, transfer.Refused, before, false},
		"no poll yet":                       {unpolled, unpolled, transfer.Refused, after, false},
		"the poll came while it was tried":  {unpolled, polled, transfer.Refused, after, false},
		"a later URL came":                  {polled, later, transfer.Refused, after, false},
		"alive by the host's clock":         {polled, polled, transfer.Refused, before, false},
		"host's clock not known: API's say": {polled, polled, transfer.Refused, moment{server: noon.Add(-time.Hour)}, true},
		"while paused":                      {polled, polled, transfer.Refused, moment{server: noon.Add(time.Hour), known: true, paused: true}, false},
		"503":                               {polled, polled, transfer.Throttled, after, false},
		"500":                               {polled, polled, transfer.Server, after, false},
		"no answer":                         {polled, polled, transfer.Network, after, false},
		"not media":                         {polled, polled, transfer.NotMedia, after, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(rules, c.before, c.after, failedAs(c.class), c.m)
			if lost := v.lose == run.LossExpired; lost != c.lost || !lost && v.lose != "" {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestTimeLosesWhateverTheFailure(t *testing.T) {
	a := run.Asset{URLHash: "u", Expiry: noon.Add(time.Hour)}
	late := moment{server: noon, known: true, ended: true, endedAt: time.Hour, service: 169 * time.Hour}
	for _, class := range classes() {
		m := late
		want := run.LossTime
		if class == transfer.Rule {
			want = run.LossRefused
		}
		if got := judge(rules, a, a, failedAs(class), m).lose; got != want {
			t.Errorf("%s: lost by %q, want %q", class, got, want)
		}
		m.paused = true
		if got := judge(rules, a, a, failedAs(class), m).lose; got != "" {
			t.Errorf("%s: lost by %q while paused", class, got)
		}
		if class == transfer.Rule {
			continue
		}
		m = late
		m.service -= time.Nanosecond
		if got := judge(rules, a, a, failedAs(class), m).lose; got != "" {
			t.Errorf("%s: lost by %q too early", class, got)
		}
		m = late
		m.ended = false
		if got := judge(rules, a, a, failedAs(class), m).lose; got != "" {
			t.Errorf("%s: lost by %q though its run has not ended", class, got)
		}
	}
}

// TestNothingElseLoses goes through every combination and holds each loss against
// the words of the design.
func TestNothingElseLoses(t *testing.T) {
	bools := []bool{false, true}
	losses := 0
	for _, class := range classes() {
		for _, finals := range []int{0, 2, 3} {
			for _, forTime := range []time.Duration{0, 30*time.Minute - 1, 30 * time.Minute} {
				for bits := range 1 << 8 {
					bit := func(n int) bool { return bits>>n&1 == 1 }
					before := tried(max(finals-1, 0), forTime, bit(0))
					after := tried(finals, forTime, bit(0))
					before.Evidence.NoLaterURL, after.Evidence.NoLaterURL = bit(1), bit(2)
					if bit(3) {
						after.URLHash = "v"
					}
					m := moment{known: bit(4), server: noon.Add(-time.Second), paused: bit(5), ended: bit(6), service: 200 * time.Hour}
					if bit(7) {
						m.server = noon.Add(time.Second)
					}
					for _, over := range bools {
						if m.endedAt = 100 * time.Hour; over {
							m.endedAt = 32 * time.Hour
						}
						v := judge(rules, before, after, failedAs(class), m)
						if v.lose == "" {
							continue
						}
						losses++
						gone := class == transfer.Refused || class == transfer.Gone
						why := map[run.LossRule]bool{
							run.LossRefused: class == transfer.Rule,
							run.LossFinal:   looksFinal(class, bit(7)) && finals == 3 && forTime == 30*time.Minute && bit(0),
							run.LossExpired: gone && bit(1) && bit(2) && (bit(7) || !bit(4)),
							run.LossTime:    bit(6) && over,
						}
						if !why[v.lose] || bit(5) || bit(3) || v.reason == "" {
							t.Errorf("%s, finals %d for %v, bits %08b: %+v", class, finals, forTime, bits, v)
						}
					}
				}
			}
		}
	}
	if losses == 0 {
		t.Error("no combination loses: the test holds nothing")
	}
}

// looksFinal says which classes do; past its expiry a URL that is gone is expired.
func looksFinal(c transfer.Class, past bool) bool {
	switch c {
	case transfer.Gone:
		return !past
	case transfer.NotMedia, transfer.RedirectLoop, transfer.Nothing, unproven:
		return true
	}
	return false
}

func TestFreshURLsAreAskedForByTheRules(t *testing.T) {
	alive, dead := moment{server: noon.Add(-time.Minute), known: true}, moment{server: noon.Add(time.Second), known: true}
	answering, clockless := alive, alive
	answering.answering, clockless.known = true, false
	url := func(refusals, finals int) run.Asset {
		return run.Asset{URLHash: "u", Expiry: noon, Evidence: run.Evidence{Refusals: refusals, Finals: finals}}
	}
	unknown := run.Asset{URLHash: "u", FirstSeen: noon}
	for name, c := range map[string]struct {
		a     run.Asset
		class transfer.Class
		m     moment
		want  verdict
	}{
		"refused after death":                     {url(1, 0), transfer.Refused, dead, verdict{renew: renewSpacing, park: true}},
		"refused, expiry unknown":                 {unknown, transfer.Refused, alive, verdict{renew: renewSpacing, park: true}},
		"refused before death":                    {url(1, 0), transfer.Refused, alive, verdict{}},
		"refused thrice, others are answered":     {url(3, 0), transfer.Refused, answering, verdict{renew: refusedSpacing}},
		"refused twice, others are answered":      {url(2, 0), transfer.Refused, answering, verdict{}},
		"refused thrice, as all are":              {url(3, 0), transfer.Refused, alive, verdict{}},
		"refused thrice, host's clock not known":  {url(3, 0), transfer.Refused, clockless, verdict{renew: refusedSpacing}},
		"gone once before death":                  {url(0, 1), transfer.Gone, alive, verdict{}},
		"gone twice":                              {url(0, 2), transfer.Gone, alive, verdict{renew: renewSpacing}},
		"gone once after death":                   {url(0, 1), transfer.Gone, dead, verdict{renew: renewSpacing, park: true}},
		"not media twice":                         {url(0, 2), transfer.NotMedia, alive, verdict{renew: renewSpacing}},
		"nothing to fetch twice":                  {url(0, 2), transfer.Nothing, alive, verdict{renew: renewSpacing}},
		"throttled":                               {url(0, 2), transfer.Throttled, alive, verdict{}},
		"no answer, even after death":             {url(0, 2), transfer.Network, dead, verdict{}},
		"broken server, even after death":         {url(0, 2), transfer.Server, dead, verdict{}},
		"refused by the rules, but nothing works": {url(0, 0), transfer.Rule, moment{paused: true}, verdict{}},
	} {
		if got := judge(rules, c.a, c.a, failedAs(c.class), c.m); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestTrialSaysWhatTheFailureWas(t *testing.T) {
	for _, class := range classes() {
		f := failedAs(class)
		got := trial(f, means(f, run.Asset{Expiry: noon}, moment{server: noon}), "sum", moment{service: time.Hour})
		want := run.Trial{UnprovenSum: "sum", Error: fmt.Sprintf("%s: why", class), Service: time.Hour}
		switch class {
		case transfer.Refused:
			want.Refused = true
		case transfer.Network, transfer.Stall:
			want.Unanswered = true
		case transfer.Gone, transfer.NotMedia, transfer.RedirectLoop, transfer.Nothing, unproven:
			want.Final = true
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", class, got, want)
		}
	}
}
