package download

import (
	"fmt"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// unproven is the class of a body without proof of its end, which transfer gives
// back as a Result.
const unproven transfer.Class = "no proof of its end"

// trial is what the queue records of a failure that means that.
func trial(f *transfer.Failure, means meaning, sum string, m moment) run.Trial {
	return run.Trial{
		Early:       m.early,
		Final:       means.asset == last,
		Refused:     means.asset == denied || means.asset == expired,
		Unanswered:  f.Class == transfer.Network || f.Class == transfer.Stall,
		UnprovenSum: sum,
		Error:       f.Error(),
		Service:     m.service,
	}
}

// The spacings of fresh URLs for one run, and how many refusals of a URL that
// should live make it worth asking for another.
const (
	renewSpacing   = 30 * time.Second
	refusedSpacing = time.Hour
	manyRefusals   = 3
)

// moment is when a failure came, on each clock that has a say.
type moment struct {
	server    time.Time // the answering host's; the local one where it is not known
	known     bool      // it is known
	service   time.Duration
	paused    bool // API or volume cannot be used: nothing is lost
	early     bool // the run had not ended when the attempt began: nothing is lost
	ended     bool // the run ended
	endedAt   time.Duration
	answering bool // the host has answered others since it last refused this asset
}

// urlExpired reports whether the URL is past its expiry, known or not. It decides what
// to wait for, and ends nothing.
func (m moment) urlExpired(a run.Asset) bool { return m.server.After(a.Death()) }

// verdict is what follows from a failure.
type verdict struct {
	lose   run.LossRule // by this rule; empty: not lost
	reason string       // of the loss
	again  bool         // another URL came in the meantime: try that at once
	renew  time.Duration
	park   bool // until fresh URLs come, as trying before is in vain
}

// judge says what follows from the failure of an attempt at an asset: before is
// the asset as the attempt began, after is it with the attempt recorded. It is the
// only place where the four rules of loss stand.
func judge(c Config, before, after run.Asset, f *transfer.Failure, m moment) verdict {
	if after.URLHash != before.URLHash {
		return verdict{again: true}
	}
	means := means(f, after, m)
	if !m.paused && !m.early {
		if rule, reason := loss(c, before, after, f, means, m); rule != "" {
			return verdict{lose: rule, reason: reason}
		}
	}
	switch {
	case means.asset == expired:
		return verdict{renew: renewSpacing, park: true}
	case means.asset == denied && after.Evidence.Refusals >= manyRefusals && (m.answering || !m.known):
		return verdict{renew: refusedSpacing}
	case means.asset == last && after.Evidence.Finals >= run.FinalsBeforeRenewal:
		return verdict{renew: renewSpacing}
	}
	return verdict{}
}

// loss is the rule by which the asset is lost, empty where it is not.
func loss(c Config, before, after run.Asset, f *transfer.Failure, means meaning, m moment) (run.LossRule, string) {
	was, is := before.Evidence, after.Evidence
	switch {
	case means.asset == ruled:
		return run.LossRefused, "refused by the rules"
	case means.asset == last && is.Finals >= run.FinalsBeforeLoss && is.FinalFor.Total >= c.GiveUpAfter && (was.Anew || was.FinalAnew):
		// was: this attempt, or one before, was made on a URL fetched again. What came
		// while it was under way does not count.
		return run.LossFinal, fmt.Sprintf("%d answers looked final, for %s", is.Finals, is.FinalFor.Total.Round(time.Second))
	case expires(f) && was.NoLaterURL && is.NoLaterURL && (m.urlExpired(after) || !m.known):
		// A poll has said so by the API's clock, before this attempt was made.
		return run.LossExpired, "its URL has expired and the API gives no later one"
	case overdue(c, m):
		return run.LossTime, lostByTime(m)
	}
	return "", ""
}

// overdue reports whether the time in which an asset of an ended run has to be
// stored is over.
func overdue(c Config, m moment) bool { return m.ended && m.service-m.endedAt >= c.LostAfter }

func lostByTime(m moment) string {
	return fmt.Sprintf("not stored in %s since its run ended", (m.service - m.endedAt).Round(time.Second))
}
