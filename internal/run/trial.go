package run

import (
	"errors"
	"time"
)

// Errors that pass between stages, which do not know each other.
var (
	ErrVolumeOffline = errors.New("volume offline")          // marker missing or foreign: nothing is written
	ErrNoRoom        = errors.New("no room")                 // storage.min_free would be crossed
	ErrNameTaken     = errors.New("name taken")              // another asset or a foreign file has it
	ErrUnknown       = errors.New("unknown")                 // no such run or asset in the queue
	ErrStale         = errors.New("changed in the meantime") // the record no longer stands where the caller saw it
	ErrOpenRun       = errors.New("the run is not settled")
)

// Because returns an error of a class, one of those above, that says its cause alone:
// where it is reported the class has been named already. errors.Is knows both.
func Because(class, cause error) error { return &classified{class, cause} }

type classified struct{ class, cause error }

func (e *classified) Error() string   { return e.cause.Error() }
func (e *classified) Unwrap() []error { return []error{e.class, e.cause} }

// Trial is how one attempt at an asset ended without its bytes.
type Trial struct {
	Early       bool          // it began before the run ended: it is no evidence for a loss
	Final       bool          // the answer looked final (4.4 b)
	Refused     bool          // 401 or 403
	Unanswered  bool          // no answer at all: network, stall, cut
	UnprovenSum string        // SHA-256 of a body without proof of its end, or that its digest contradicts
	Quarantine  string        // where what came was put aside; empty: nowhere now
	Error       string        // redacted, for people
	Service     time.Duration // the service clock
}

// After is the evidence with one more trial in it.
func (e Evidence) After(t Trial) Evidence {
	switch {
	case t.Early:
		return e
	case t.Final:
		e.Finals++
		e.FinalFor = e.FinalFor.Tick(t.Service)
		e.FinalAnew = e.FinalAnew || e.Anew
	case t.Unanswered:
		e.FinalFor = e.FinalFor.Stop()
	}
	if t.UnprovenSum != "" {
		e.UnprovenSum = t.UnprovenSum
	}
	if t.Refused {
		e.Refusals++
	}
	return e
}

// FinalsBeforeRenewal is after how many final-looking answers an asset gets a
// URL fetched anew; FinalsBeforeLoss is how many a loss by rule (b) needs.
const (
	FinalsBeforeRenewal = 2
	FinalsBeforeLoss    = 3
)

// See is the asset after an answer at the API's time at that listed it as l: a
// URL that differs replaces the one at hand and clears what spoke against it; an
// answer with the same URL counts as anew too.
func (a Asset) See(l Listed, at time.Time) Asset {
	a.Tool = either(l.Tool, a.Tool)
	a.CreatedAt = either(l.CreatedAt, a.CreatedAt)
	if l.Width != nil {
		a.Width = l.Width
	}
	if l.Height != nil {
		a.Height = l.Height
	}
	if l.Duration != nil {
		a.Duration = l.Duration
	}
	hash := l.URLHash()
	if hash == "" {
		if a.FirstSeen.IsZero() {
			a.FirstSeen = at
		}
		if a.URLHash == "" {
			// Nothing to fetch, said once more: that is an answer anew.
			a.Evidence.Anew = a.Evidence.Anew || a.Evidence.Finals >= FinalsBeforeRenewal
			return a
		}
		return a.Unseen(at)
	}
	later := hash != a.URLHash && (l.Expiry.IsZero() || a.Expiry.IsZero() || l.Expiry.After(a.Expiry))
	dead := a.URLHash != "" && at.After(a.Death())
	if hash != a.URLHash {
		a.URLHash, a.Source, a.Expiry, a.FirstSeen = hash, l.Source, l.Expiry, at
		a.Evidence.Refusals = 0
	}
	a.Evidence.Anew = a.Evidence.Anew || a.Evidence.Finals >= FinalsBeforeRenewal
	a.Evidence.NoLaterURL = !later && (dead || a.Evidence.NoLaterURL)
	return a
}

// Unseen is the asset after an answer at the API's time at that brought no URL
// for it.
func (a Asset) Unseen(at time.Time) Asset {
	if at.After(a.Death()) {
		a.Evidence.NoLaterURL = true
	}
	return a
}

// AtEnd is the asset as its run ends: what it is worth is decided from here on, so
// that nothing which came before speaks against it, and what is provisional has to
// be looked at again.
func (a Asset) AtEnd() Asset {
	if a.State == AssetProvisional {
		a.State = AssetWaiting
	}
	if a.State.Open() {
		a.Evidence = Evidence{}
	}
	return a
}

// Again is the asset set back to waiting with all counts anew, as by retry.
func (a Asset) Again() Asset {
	a.State, a.Attempts, a.Evidence, a.Stored, a.Loss, a.Marked = AssetWaiting, 0, Evidence{}, nil, nil, false
	return a
}

// PartMark is what stands beside a part before its first byte: by it a later
// request can tell whether the object is still the same.
type PartMark struct {
	ETag  string `json:"etag,omitempty"` // strong only; empty: the part cannot be resumed
	Total int64  `json:"total"`          // bytes; -1: not told

	Object string `json:"object,omitempty"` // signedurl.Object of the URL that it came from
	Early  bool   `json:"early,omitempty"`  // it was begun before the run ended
}

// Span is bytes of an object that stand together.
type Span struct {
	From, To int64 // the first, and the first behind it
}

// Len is how many bytes there are.
func (s Span) Len() int64 { return s.To - s.From }

// Whole says what is in a part that is complete.
type Whole struct {
	Key         Key
	Size        int64  // bytes
	SHA256      string // hex
	Ext         string // with its dot
	ContentType string // what the bytes are
	Warnings    []string
	At          time.Time // when the last byte came
}

// Named is a whole asset with the name chosen for it, on its way to `verified`.
type Named struct {
	Whole
	File string // relative to the run's directory, slashes
}
