package run

import (
	"fmt"
	"strings"
	"unicode"
)

// Status is the API's word for where a run stands, in the API's own spelling.
type Status string

// The documented statuses. Any other value is not terminal.
const (
	Pending             Status = "pending"
	Running             Status = "running"
	Completed           Status = "completed"
	CompletedWithErrors Status = "completed_with_errors"
	Failed              Status = "failed"
	Cancelled           Status = "cancelled"
)

// spellings are the documented statuses, and the American "canceled", in lower
// case and without what separates words.
var spellings = map[string]Status{
	"pending": Pending, "running": Running, "failed": Failed,
	"completed": Completed, "completedwitherrors": CompletedWithErrors,
	"cancelled": Cancelled, "canceled": Cancelled,
}

// Canonical returns the documented status that s spells, without regard to case,
// to blanks, hyphens and underscores, and to American spelling:
// "Completed-With-Errors" is CompletedWithErrors. Of any other status it returns
// the same in lower case, so that two spellings of one status compare equal.
func (s Status) Canonical() Status {
	if known, ok := spellings[string(s)]; ok {
		return known
	}
	plain := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsSpace(r) || unicode.IsControl(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, string(s))
	if known, ok := spellings[plain]; ok {
		return known
	}
	return Status(plain)
}

// Is reports whether s is a spelling of the documented status known.
func (s Status) Is(known Status) bool { return s.Canonical() == known }

// Terminal reports whether the API will not go on with the run.
func (s Status) Terminal() bool {
	switch s.Canonical() {
	case Completed, CompletedWithErrors, Failed, Cancelled:
		return true
	}
	return false
}

// Known reports whether the status is documented, in whatever spelling.
func (s Status) Known() bool { return s.Terminal() || s.Is(Pending) || s.Is(Running) }

// State is where a run stands with us.
type State string

// The states of a run.
const (
	Waiting     State = "waiting"
	Downloading State = "downloading"
	StoredRun   State = "stored"
	PartialRun  State = "partial"
	FailedRun   State = "failed"
)

// Settled reports whether the run has its manifest.
func (s State) Settled() bool { return s == StoredRun || s == PartialRun || s == FailedRun }

// Valid reports whether s is a state of a run.
func (s State) Valid() bool { return s == Waiting || s == Downloading || s.Settled() }

// Move returns an error unless a run may go from one state to the other. Staying
// is always legal.
func (s State) Move(to State) error {
	switch {
	case s == to && s.Valid():
	case s == Waiting && (to == Downloading || to.Settled()):
	case s == Downloading && to.Settled():
	case s.Settled() && to == Waiting: // retry
	default:
		return fmt.Errorf("a run cannot go from %q to %q", s, to)
	}
	return nil
}

// AssetState is where an asset stands.
type AssetState string

// The states of an asset. AssetDownloading is in memory only: the queue says
// AssetWaiting, so that a restart needs no recovery.
const (
	AssetWaiting     AssetState = "waiting"
	AssetDownloading AssetState = "downloading"
	AssetProvisional AssetState = "provisional" // whole, without a final name, until its run ends
	AssetVerified    AssetState = "verified"
	AssetStored      AssetState = "stored"
	AssetLost        AssetState = "lost"
)

// Open reports whether the asset is neither stored nor lost.
func (s AssetState) Open() bool {
	return s == AssetWaiting || s == AssetDownloading || s == AssetProvisional || s == AssetVerified
}

// Move returns an error unless an asset may go from one state to the other.
// AssetDownloading reads as AssetWaiting. Staying is always legal. From stored an
// asset goes back to waiting when its file is gone or was marked damaged.
func (s AssetState) Move(to AssetState) error {
	from := s
	if from == AssetDownloading {
		from = AssetWaiting
	}
	switch {
	case from == to && from != "":
	case from == AssetWaiting && (to == AssetVerified || to == AssetLost || to == AssetDownloading || to == AssetProvisional):
	case from == AssetProvisional && to == AssetWaiting: // its run ended, or the API lists another object
	case from == AssetVerified && (to == AssetStored || to == AssetWaiting):
	case from == AssetStored && to == AssetWaiting:
	case from == AssetLost && to == AssetWaiting: // retry
	default:
		return fmt.Errorf("an asset cannot go from %q to %q", s, to)
	}
	return nil
}

// Outcome is how a settled run ended, in the manifest's word.
type Outcome string

// The outcomes, each of which is also the settled run's State.
const (
	OutcomeStored  Outcome = "stored"
	OutcomePartial Outcome = "partial"
	OutcomeFailed  Outcome = "failed"
)

// State is the settled state that goes with the outcome.
func (o Outcome) State() State { return State(o) }

// Judge is the outcome of a run none of whose assets is open, the first that
// fits: failed, where nothing is stored and the API said failed or cancelled, or
// the run was given up; partial, where an asset was lost or the API said anything
// but completed, or nothing
// but URLs that are no known asset's; stored.
func (r Run) Judge() Outcome {
	switch {
	case r.Stored == 0 && (r.Status.Is(Failed) || r.Status.Is(Cancelled) || r.GaveUp != ""):
		return OutcomeFailed
	case r.Lost > 0 || !r.Status.Is(Completed) || r.Assets == 0 && r.Ignored > 0:
		return OutcomePartial
	default:
		return OutcomeStored
	}
}
