package queuetest

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// model is what a queue ought to be, in memory and without indexes: each rule is
// written out by itself, and what a method finds is found by looking at all.
type model struct {
	now    time.Time
	runs   map[run.ID]*modelRun
	hooks  run.Hooks
	outbox []waiting // in the order in which things happened
	stands map[run.NoticeKind]bool
}

// waiting is a notice, without its place, and who is still to be told.
type waiting struct {
	run.Notice
	to run.Hooks
}

func (m *model) post(n run.Notice) {
	if m.hooks != 0 {
		m.outbox = append(m.outbox, waiting{n, m.hooks})
	}
}

// trouble is what Post does with a kind that begins or ends one.
func (m *model) trouble(n run.Notice) {
	ended := n.Kind.Ends()
	switch {
	case m.hooks == 0, n.Kind.Begins() && m.stands[n.Kind], ended != "" && !m.stands[ended]:
		return
	case n.Kind.Begins():
		m.stands[n.Kind] = true
	case ended != "":
		delete(m.stands, ended)
	}
	m.post(n)
}

type modelRun struct {
	run.Run
	due    time.Time
	given  map[run.Kind]int
	assets map[run.Key]run.Asset
}

var errRefused = errors.New("refused for another reason")

// count sets what follows from the assets, and the state that follows from that.
func (r *modelRun) count() {
	r.Assets, r.Stored, r.Lost, r.Bytes = len(r.assets), 0, 0, 0
	for _, a := range r.assets {
		switch a.State {
		case run.AssetStored:
			r.Stored++
			r.Bytes += a.Stored.Size
		case run.AssetLost:
			r.Lost++
		}
	}
	if r.State == run.Waiting && r.Ended() && r.Open() > 0 {
		r.State = run.Downloading
	}
}

func (r *modelRun) ready() bool { return !r.State.Settled() && r.Ended() && r.Open() == 0 }

func (r *modelRun) sorted() []run.Asset {
	return slices.SortedFunc(maps.Values(r.assets), func(a, b run.Asset) int {
		last := func(a run.Asset) int {
			if a.Index == 0 {
				return 1 << 30
			}
			return a.Index
		}
		return cmp.Or(
			slices.Index(run.Kinds(), a.Key.Kind)-slices.Index(run.Kinds(), b.Key.Kind),
			last(a)-last(b), strings.Compare(a.Key.ID, b.Key.ID))
	})
}

func (m *model) add(in []run.HandIn) (taken run.Taken) {
	// As Add does: in the order of the IDs, each ID's in the order they came.
	for _, h := range slices.SortedStableFunc(slices.Values(in), func(a, b run.HandIn) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
		r := m.runs[h.ID]
		if r == nil {
			taken.New++
			r = &modelRun{due: m.now, given: map[run.Kind]int{}, assets: map[run.Key]run.Asset{}}
			r.ID, r.State, r.HandedIn = h.ID, run.Waiting, m.now
			m.runs[h.ID] = r
		} else {
			taken.Known++
		}
		for name, value := range h.Labels {
			if r.Labels[name] == value {
				continue
			}
			if r.Dir != "" {
				taken.Late = append(taken.Late, h.ID)
				break
			}
			if r.Labels == nil {
				r.Labels = map[string]string{}
			}
			r.Labels[name] = value
		}
	}
	return taken
}

func (m *model) answered(id run.ID, v run.Verdict) (run.Change, error) {
	r := m.runs[id]
	if r == nil {
		return run.Change{}, run.ErrUnknown
	}
	if r.State.Settled() {
		return run.Change{Run: r.Run}, nil
	}
	ended, before := false, r.Ended()
	r.Polls, r.due = v.Polls, v.Next
	r.Polls.LastError = signedurl.Redact(v.Polls.LastError)
	if a := v.Answer; a != nil {
		if r.App == "" {
			r.App = a.App
		}
		if !r.Ended() || r.GaveUp != "" {
			set := func(field *string, value string) {
				if value != "" {
					*field = signedurl.Redact(value)
				}
			}
			set((*string)(&r.Status), string(a.Status))
			set(&r.StartedAt, a.StartedAt)
			set(&r.CompletedAt, a.CompletedAt)
			set(&r.ErrorMessage, a.ErrorMessage)
			if v.Terminal {
				ended, r.GaveUp = true, ""
			}
		}
	}
	if v.GiveUp != "" && !r.Ended() && !ended {
		ended, r.GaveUp = true, signedurl.Redact(v.GiveUp)
	}
	if ended && r.EndedAt.IsZero() {
		r.EndedAt, r.EndedService = v.At, v.Service
	}
	change := run.Change{Ended: ended}
	if v.Answer != nil || v.Unlisted || ended {
		order := m.see(r, v, r.Ended() && !before)
		if r.Ended() {
			for _, k := range order {
				a := r.assets[k]
				if a.Index == 0 {
					r.given[k.Kind]++
					a.Index = r.given[k.Kind]
					r.assets[k] = a
				}
			}
		}
		for _, a := range r.sorted() {
			if a.State == run.AssetWaiting {
				change.Assets = append(change.Assets, a)
			}
		}
	}
	r.count()
	change.Run = r.Run
	return change, nil
}

// see brings an answer's assets in, and gives all in the order of indexes.
func (m *model) see(r *modelRun, v run.Verdict, ends bool) []run.Key {
	for k, a := range r.assets {
		if ends {
			listed := v.Answer != nil && slices.ContainsFunc(v.Answer.Assets, func(l run.Listed) bool { return l.Kind == k.Kind && l.ID == k.ID })
			a.Unlisted = v.Terminal && v.Answer != nil && !listed
			if a.State.Open() {
				a.Evidence = run.Evidence{}
			}
			if a.State == run.AssetProvisional {
				a.State = run.AssetWaiting
			}
			r.assets[k] = a
		}
	}
	var order []run.Key
	if v.Answer != nil {
		for _, l := range v.Answer.Assets {
			k := run.Key{Run: r.ID, Kind: l.Kind, ID: l.ID}
			a, known := r.assets[k]
			if !known {
				a = run.Asset{Key: k, State: run.AssetWaiting}
			}
			a.Unlisted = false
			if a.State == run.AssetProvisional && l.URL != "" && a.Provisional.Object != signedurl.Object(l.URL) {
				a.State = run.AssetWaiting
			}
			if a.State.Open() {
				a = a.See(l, v.At)
			} else if l.Tool != "" {
				a.Tool = l.Tool
			}
			r.assets[k] = a
			if !slices.Contains(order, k) {
				order = append(order, k)
			}
		}
	}
	var rest []run.Asset
	for k, a := range r.assets {
		if !slices.Contains(order, k) {
			if a.State.Open() {
				a = a.Unseen(v.At)
				r.assets[k] = a
			}
			rest = append(rest, a)
		}
	}
	slices.SortFunc(rest, func(a, b run.Asset) int {
		return cmp.Or(a.FirstSeen.Compare(b.FirstSeen),
			strings.Compare(string(a.Key.Kind), string(b.Key.Kind)), strings.Compare(a.Key.ID, b.Key.ID))
	})
	for _, a := range rest {
		order = append(order, a.Key)
	}
	return order
}

func (m *model) place(id run.ID, wanted string) error {
	r := m.runs[id]
	if r == nil {
		return run.ErrUnknown
	}
	if r.Dir != "" {
		return nil
	}
	r.Dir = wanted
	for _, other := range m.runs {
		if other != r && strings.EqualFold(other.Dir, wanted) {
			r.Dir = "" // any that nobody has: the caller looks at it
		}
	}
	return nil
}

// change is what every method on one asset comes down to.
func (m *model) change(k run.Key, from []run.AssetState, to func(*run.Asset)) error {
	r := m.runs[k.Run]
	if r == nil {
		return run.ErrUnknown
	}
	a, ok := r.assets[k]
	if !ok {
		return run.ErrUnknown
	}
	if r.State.Settled() || !slices.Contains(from, a.State) {
		return run.ErrStale
	}
	to(&a)
	if a.Stored != nil {
		for _, b := range r.assets {
			if b.Key != k && b.Stored != nil && strings.EqualFold(b.Stored.File, a.Stored.File) {
				return run.ErrNameTaken
			}
		}
	}
	r.assets[k] = a
	r.count()
	return nil
}

func (m *model) tried(k run.Key, trial run.Trial) error {
	return m.change(k, []run.AssetState{run.AssetWaiting}, func(a *run.Asset) {
		a.Attempts++
		a.Evidence = a.Evidence.After(trial)
		a.LastError = signedurl.Redact(trial.Error)
		if trial.Quarantine != "" {
			a.Quarantine = trial.Quarantine
		}
	})
}

func (m *model) keepProvisional(k run.Key, p run.Provisional) error {
	return m.change(k, []run.AssetState{run.AssetWaiting}, func(a *run.Asset) {
		if a.Attempts++; !m.runs[k.Run].Ended() {
			a.State = run.AssetProvisional
		}
		a.Provisional, a.LastError = &p, ""
	})
}

func (m *model) verified(n run.Named) error {
	return m.change(n.Key, []run.AssetState{run.AssetWaiting}, func(a *run.Asset) {
		a.State, a.LastError = run.AssetVerified, ""
		a.Attempts++
		a.Stored = &run.Stored{File: n.File, Size: n.Size, SHA256: n.SHA256, DownloadedAt: n.At}
	})
}

func (m *model) stored(k run.Key) error {
	if r := m.runs[k.Run]; r != nil && r.assets[k].State == run.AssetStored {
		return nil
	}
	return m.change(k, []run.AssetState{run.AssetVerified}, func(a *run.Asset) { a.State, a.Provisional = run.AssetStored, nil })
}

func (m *model) again(k run.Key, reason string) error {
	return m.change(k, []run.AssetState{run.AssetWaiting, run.AssetProvisional, run.AssetVerified, run.AssetStored}, func(a *run.Asset) {
		kept := a.Provisional
		if a.State == run.AssetWaiting || a.State == run.AssetProvisional {
			kept = nil
		}
		if a.State != run.AssetWaiting || a.Provisional != nil {
			a.State, a.Stored, a.LastError = run.AssetWaiting, nil, reason
		}
		a.Provisional = kept
	})
}

func (m *model) lose(k run.Key, loss run.Loss) error {
	return m.change(k, []run.AssetState{run.AssetWaiting, run.AssetLost}, func(a *run.Asset) {
		if a.State == run.AssetWaiting {
			loss.Reason = signedurl.Redact(loss.Reason)
			a.State, a.Loss, a.LastError, a.Provisional = run.AssetLost, &loss, loss.Reason, nil
			r := m.runs[k.Run]
			m.post(run.Notice{
				Kind: run.LostAsset, At: loss.At, Run: r.ID, App: r.App, Dir: r.Dir, State: r.State,
				Asset: k, Rule: loss.Rule, Text: loss.Reason,
			})
		}
	})
}

func (m *model) adopt(id run.ID, found []run.Adopted) error {
	r := m.runs[id]
	if r == nil {
		return run.ErrUnknown
	}
	before := maps.Clone(r.assets)
	for _, f := range found {
		if r.assets[f.Key].State == run.AssetStored {
			continue
		}
		err := m.change(f.Key, []run.AssetState{run.AssetWaiting}, func(a *run.Asset) {
			a.State, a.LastError, a.Stored, a.Provisional = run.AssetStored, "", new(f.Stored), nil
		})
		if err != nil {
			r.assets = before
			r.count()
			return err
		}
	}
	return nil
}

func (m *model) settle(s run.Settlement) error {
	r := m.runs[s.Run]
	switch {
	case r == nil:
		return run.ErrUnknown
	case r.State.Settled():
		return nil
	case !r.ready():
		return run.ErrStale
	}
	r.State, r.Outcome, r.Revision, r.SettledAt, r.due = s.Outcome.State(), s.Outcome, s.Revision, s.At, time.Time{}
	m.post(run.Notice{
		Kind: run.NoticeKind("run." + string(s.Outcome)), At: s.At, Run: r.ID, App: r.App, Dir: r.Dir, State: r.State, Revision: r.Revision,
		Assets: r.Assets, Stored: r.Stored, Lost: r.Lost, Bytes: r.Bytes, Text: cmp.Or(r.GaveUp, r.ErrorMessage),
	})
	return nil
}

func (m *model) retry(id run.ID) error {
	r := m.runs[id]
	if r == nil {
		return run.ErrUnknown
	}
	if !r.State.Settled() {
		return run.ErrOpenRun
	}
	kept := run.Run{ID: r.ID, State: run.Waiting, Labels: r.Labels, HandedIn: r.HandedIn, App: r.App, StartedAt: r.StartedAt, Dir: r.Dir, Revision: r.Revision}
	r.Run, r.due = kept, m.now
	for k, a := range r.assets {
		if a.State == run.AssetLost {
			r.assets[k] = a.Again()
		}
	}
	r.count()
	return nil
}

func (m *model) remove(id run.ID, force bool) error {
	r := m.runs[id]
	if r == nil {
		return run.ErrUnknown
	}
	if !r.State.Settled() && !force {
		return run.ErrOpenRun
	}
	delete(m.runs, id)
	return nil
}

// kind is which of the promised errors an error is.
func kind(err error) error {
	for _, k := range []error{nil, run.ErrUnknown, run.ErrStale, run.ErrNameTaken, run.ErrOpenRun} {
		if errors.Is(err, k) {
			return k
		}
	}
	return errRefused
}
