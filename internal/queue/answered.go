package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Answered records what one poll means for a run, in one transaction: its polls,
// when it is polled next, what the API said of it and of its assets, and its end,
// with what that tells of its app (Samples).
// What is known is never taken back: a first terminal status stands, and so do
// the indexes given with it. After a verdict that brought an answer, or ended the
// run, the change holds all its waiting assets. For a run that is settled it
// changes nothing: the answer came too late.
func (q *Queue) Answered(ctx context.Context, id run.ID, v run.Verdict) (run.Change, error) {
	weight := 1
	if v.Answer != nil {
		weight += len(v.Answer.Assets)
	}
	var c run.Change
	err := q.update(ctx, weight, func(t *txn) error {
		e, err := t.edit(id)
		if err != nil {
			return err
		}
		if !e.rec.State.Settled() {
			err = e.answered(v, &c)
			if err == nil && c.Ended && e.rec.Ignored > 0 {
				err = t.post(q.told(), ignoredNotice(&e.rec, v))
			}
		}
		c.Run = e.rec.Run
		return err
	})
	if errors.Is(err, run.ErrUnknown) { // removed while it was asked: nobody else knows of its answer
		q.answers.Remove(id)
	}
	if err != nil {
		return run.Change{}, err
	}
	if c.Run.State.Settled() {
		q.answers.Remove(id)
	}
	return c, nil
}

func (e *edit) answered(v run.Verdict, c *run.Change) error {
	r := &e.rec
	r.Polls, r.due = v.Polls, millis(v.Next)
	before := r.Ended()
	c.Ended = r.learn(v)
	if c.Ended && v.Sample.Took > 0 {
		if err := e.t.sample(r.App, v.Sample, v.At); err != nil {
			return err
		}
	}
	if v.Answer == nil && !v.Unlisted && !c.Ended {
		return e.save()
	}
	known, err := e.t.assets(r.ID)
	if err != nil {
		return err
	}
	assets := see(known, v, r, r.Ended() && !before)
	if r.Ended() {
		r.giveIndexes(assets)
	}
	for _, a := range assets {
		if a.was == nil || a.is != *a.was {
			if err := e.put(a.was, &a.is); err != nil {
				return err
			}
		}
		if a.is.State == run.AssetWaiting {
			c.Assets = append(c.Assets, a.is)
		}
	}
	slices.SortFunc(c.Assets, byIndex)
	return e.save()
}

// learn takes over what a verdict says of the run itself, and reports whether
// the run ended by it. A terminal answer ends also a run that was given up: then
// it ended by itself after all, but its time counts from the giving up.
func (r *record) learn(v run.Verdict) (ended bool) {
	closed := r.Ended() && r.GaveUp == ""
	if a := v.Answer; a != nil {
		r.App = cmp.Or(r.App, a.App)
		if !closed {
			r.Status = cmp.Or(a.Status, r.Status)
			r.StartedAt = cmp.Or(a.StartedAt, r.StartedAt)
			r.CompletedAt = cmp.Or(a.CompletedAt, r.CompletedAt)
			r.ErrorMessage = cmp.Or(a.ErrorMessage, r.ErrorMessage)
			if v.Terminal {
				ended, r.GaveUp, r.Ignored = true, "", len(a.Ignored)
			}
		}
	}
	if !ended && !r.Ended() && v.GiveUp != "" {
		ended, r.GaveUp = true, v.GiveUp
	}
	if ended && !r.Ended() {
		r.EndedAt, r.EndedService = v.At, v.Service
	}
	return ended
}

// assetName is an asset within its run.
type assetName struct {
	kind run.Kind
	id   string
}

// seen is one asset of a run before and after an answer.
type seen struct {
	was *run.Asset // nil: new
	is  run.Asset
}

// see gives all assets of a run after a verdict, by which it has just ended or not:
// those listed in the answer's order, then the others by first sight.
func see(known []run.Asset, v run.Verdict, r *record, ends bool) []seen {
	place := make(map[assetName]*run.Asset, len(known))
	for i := range known {
		place[assetName{known[i].Key.Kind, known[i].Key.ID}] = &known[i]
	}
	var all []seen
	listed := make(map[assetName]int)
	if v.Answer != nil {
		all = make([]seen, 0, max(len(known), len(v.Answer.Assets)))
		for _, l := range v.Answer.Assets {
			name := assetName{l.Kind, l.ID}
			if i, twice := listed[name]; twice {
				all[i].is = listen(all[i].is, l, v)
				continue
			}
			listed[name] = len(all)
			s := seen{was: place[name]}
			switch {
			case s.was == nil:
				s.is = run.Asset{Key: run.Key{Run: r.ID, Kind: l.Kind, ID: l.ID}, State: run.AssetWaiting}
			case ends:
				s.is = s.was.AtEnd()
			default:
				s.is = *s.was
			}
			s.is = listen(s.is, l, v)
			all = append(all, s)
		}
	}
	rest := all[len(all):]
	for i := range known {
		a := &known[i]
		if _, ok := listed[assetName{a.Key.Kind, a.Key.ID}]; ok {
			continue
		}
		is := *a
		if ends {
			is = is.AtEnd()
			is.Unlisted = v.Answer != nil && v.Terminal
		}
		if is.State.Open() {
			is = is.Unseen(v.At)
		}
		rest = append(rest, seen{a, is})
	}
	slices.SortStableFunc(rest, func(a, b seen) int { return a.is.FirstSeen.Compare(b.is.FirstSeen) })
	return append(all, rest...)
}

// listen is an asset after it was listed. Of one that is stored or lost only the
// description is news: its URL is nobody's concern any more. A provisional one is
// fetched again where another object is listed now.
func listen(a run.Asset, l run.Listed, v run.Verdict) run.Asset {
	a.Unlisted = false
	if a.State == run.AssetProvisional && l.URL != "" && a.Provisional.Object != "" && signedurl.Object(l.URL) != a.Provisional.Object {
		a.State = run.AssetWaiting
	}
	if a.State.Open() {
		return a.See(l, v.At)
	}
	told := a.See(l, v.At)
	a.Tool, a.CreatedAt = told.Tool, told.CreatedAt
	a.Width, a.Height, a.Duration = told.Width, told.Height, told.Duration
	return a
}

// giveIndexes numbers the assets that have no index yet, in their order, on from
// the last one given of their kind.
func (r *record) giveIndexes(assets []seen) {
	for i := range assets {
		a := &assets[i].is
		if k := slot(a.Key.Kind); a.Index == 0 && k >= 0 {
			r.given[k]++
			a.Index = int(r.given[k])
		}
	}
}
