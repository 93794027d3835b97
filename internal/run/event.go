package run

import "time"

// Event is one thing that happened. Stages tell events; log lines, metrics and
// server-sent events are all made from this one stream. An event holds no secret:
// its texts are redacted by who tells it.
type Event struct {
	Kind  EventKind
	Run   ID            // empty: not about a run
	Asset Key           // zero: not about an asset
	Host  string        // the host it is about, if any
	File  string        // the file or directory it is about, if any
	Err   error         // the cause, if any
	Hint  string        // what a person can do
	Note  string        // further words
	State State         // of the run, where it changed
	Count int           // of what the kind says
	Lost  int           // assets lost, at Settled
	Rule  LossRule      // at AssetGone
	Bytes int64         // at Settled and AssetStored
	Runs  []ID          // at AtRisk: some of those concerned, the most urgent first
	Took  time.Duration // from hand-in, at Settled; of the transfer, at AssetStored
}

// Text is the kind with its cause, in one line.
func (e Event) Text() string {
	if e.Err == nil {
		return string(e.Kind)
	}
	return string(e.Kind) + ": " + e.Err.Error()
}

// EventKind names an event; it is also the log line's message.
type EventKind string

// What happens to runs and assets.
const (
	RunAccepted   EventKind = "run accepted"
	RunKnown      EventKind = "run already known"
	LabelsLate    EventKind = "labels came too late, ignored"
	RunEnded      EventKind = "run ended at the API" // first seen terminal
	RunGivenUp    EventKind = "run given up"
	RunSettled    EventKind = "run settled"
	RunRetried    EventKind = "run is tried again"
	RunRemoved    EventKind = "run removed"
	StatusUnknown EventKind = "status not documented"
	URLsKept      EventKind = "answer has URLs that are no known asset's, kept in the manifest as ignored"
	AssetStarted  EventKind = "asset started"
	AssetKept     EventKind = "asset stored"
	AssetEarly    EventKind = "asset fetched before its run ended, kept until then"
	AssetRetry    EventKind = "asset not there yet"
	AssetGone     EventKind = "asset lost"
	AssetAgain    EventKind = "asset fetched again"
	AtRisk        EventKind = "assets may not be there before their URLs die"
	RiskOver      EventKind = "no asset is at risk any more"
	Quarantined   EventKind = "not media, kept in quarantine"
)

// What happens around them. Those with a ...Back partner are told once, repeated
// at a bounded rate, and ended by the partner.
const (
	FileAccepted    EventKind = "drop file accepted"
	FileRejected    EventKind = "drop file rejected"
	FileSkipped     EventKind = "left alone: not a drop file"
	DropTrouble     EventKind = "drop directory cannot be read"
	DropBack        EventKind = "drop directory can be read again"
	DropHangs       EventKind = "drop directory does not answer"
	DropAnswers     EventKind = "drop directory answers again"
	PollRefused     EventKind = "poll refused"
	APIRefused      EventKind = "key not accepted, polling stopped"
	APIDown         EventKind = "API cannot be reached"
	APIBack         EventKind = "API answers again"
	RateLowered     EventKind = "API limits the rate"
	HostSlowed      EventKind = "host slows down, waiting"
	HostBack        EventKind = "host answers again"
	HostCuts        EventKind = "host ends transfers when their URLs die"
	VolumeOffline   EventKind = "volume offline, downloads wait"
	VolumeBack      EventKind = "volume is back"
	DiskLow         EventKind = "no room, downloads wait"
	DiskBack        EventKind = "room again"
	QueueTrouble    EventKind = "queue cannot be written"
	QueueCompacted  EventKind = "queue file made smaller"
	QueueLarge      EventKind = "queue file cannot be made smaller"
	BackupMade      EventKind = "queue copied"
	BackupTrouble   EventKind = "queue cannot be copied"
	BackupSkipped   EventKind = "queue not copied, the disk is low"
	BackupBack      EventKind = "queue is copied again"
	HistoryTrimmed  EventKind = "settled runs older than retention.runs left the history"
	DropTrimmed     EventKind = "accepted drop files older than drop.keep removed"
	RetentionHeld   EventKind = "retention waits, the clock cannot be trusted"
	RetentionFailed EventKind = "retention could not remove what is old"
	ManifestTrouble EventKind = "manifest cannot be written"
	ClockSkewed     EventKind = "local clock differs from the server's"
	StageRecovered  EventKind = "panic in a stage, carried on"
	ListenTrouble   EventKind = "server.listen cannot be opened"
	ListenBack      EventKind = "server.listen is open"
	WebhookOdd      EventKind = "webhook that names no run"
)

// Tell takes events as they happen. It must be safe for concurrent use and
// return quickly.
type Tell func(Event)
