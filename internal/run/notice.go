package run

import (
	"fmt"
	"strings"
	"time"
)

// Notice is one thing that others are told: it waits in the outbox until each
// hook that was set when it was written has taken it. It is a snapshot, small
// enough for one page of the queue; what is large of a run (its labels) is read
// when it is told. It holds no secret.
type Notice struct {
	Seq  uint64 // its place in the outbox, never given twice; 0: not there yet
	Kind NoticeKind
	At   time.Time // when it happened, UTC, to the millisecond, by the clock of who says so

	Run   ID     // empty: not about one run
	App   string // of the run; empty: not known, or long
	Dir   string // of the run, below storage.dir, slashes; empty: none yet, or long
	State State  // of the run at that moment
	// What became of a settled run; its error message, or why it was given up, is Text.
	Revision, Assets, Stored, Lost int

	Asset Key      // of LostAsset
	Rule  LossRule // the same

	Runs  []ID      // of AssetsAtRisk: some of the runs concerned, the most urgent first
	Count int       // of AssetsAtRisk: how many assets
	Dies  time.Time // of AssetsAtRisk: when the first of their URLs dies
	Host  string    // whose fault it is, if any host's

	Bytes int64  // stored of a settled run; still to come of AssetsAtRisk
	Text  string // for people: why, and what to do
}

// NoticeKind names what others are told, in the words of the API's own webhooks:
// what it is about, a dot, what happened.
type NoticeKind string

// What others are told.
const (
	RunStored  NoticeKind = "run.stored"
	RunPartial NoticeKind = "run.partial"
	RunFailed  NoticeKind = "run.failed"

	LostAsset    NoticeKind = "asset.lost"
	URLsIgnored  NoticeKind = "asset.ignored"   // a terminal answer has URLs that are no known asset's
	AssetsAtRisk NoticeKind = "asset.at_risk"   // once for a set of assets
	AssetsSafe   NoticeKind = "asset.risk_over" // no asset is at risk any more

	NoRoomLeft   NoticeKind = "disk.low"
	RoomAgain    NoticeKind = "disk.ok"
	VolumeGone   NoticeKind = "volume.offline"
	VolumeOnline NoticeKind = "volume.online"
	KeyRefused   NoticeKind = "api.refused"
	KeyAccepted  NoticeKind = "api.accepted"
)

// Notice is the kind of notice that tells of a run with this outcome.
func (o Outcome) Notice() NoticeKind { return NoticeKind("run." + string(o)) }

// Begins reports whether the kind begins a trouble that another kind ends.
func (k NoticeKind) Begins() bool {
	return k == NoRoomLeft || k == VolumeGone || k == KeyRefused
}

// Ends is the kind of the trouble that this kind ends; empty where it ends none.
func (k NoticeKind) Ends() NoticeKind {
	switch k {
	case RoomAgain:
		return NoRoomLeft
	case VolumeOnline:
		return VolumeGone
	case KeyAccepted:
		return KeyRefused
	}
	return ""
}

// Key is the notice's idempotency key within the queue of that ID: the same at
// every try and after every restart, and another one for every other notice, also
// for those that a queue restored from a copy gives the same place. It holds
// nothing but a-z, 0-9 and -.
func (n Notice) Key(queue string) string {
	return fmt.Sprintf("%.16s-%d-%x", queue, n.Seq, n.At.UnixMilli())
}

// Lane is what the notice is sent in order with: the run it is about, or, of what is about
// none or about many, its subject (like "disk.", which is no run's ID).
func (n Notice) Lane() ID {
	if n.Run != "" {
		return n.Run
	}
	subject, _, _ := strings.Cut(string(n.Kind), ".")
	return ID(subject + ".")
}

// Hooks is a set of ways by which others are told.
type Hooks uint8

// The ways there are.
const (
	CommandHook Hooks = 1 << iota // hook.command
	URLHook                       // hook.url
	AllHooks    = CommandHook | URLHook
)

// String is the setting's name.
func (h Hooks) String() string {
	switch h {
	case CommandHook:
		return "hook.command"
	case URLHook:
		return "hook.url"
	}
	return fmt.Sprintf("hooks %b", uint8(h))
}
