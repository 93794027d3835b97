package logging

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/notify"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
)

// The keys of log fields. They are contract: people filter by them.
const (
	KeyFile  = "file"
	KeyCount = "count"
	KeyNote  = "note"
	KeyHint  = "hint"

	keyRun     = "run_id"
	keyKind    = "kind"
	keyAsset   = "asset_id"
	keyHost    = "host"
	keyState   = "state"
	keyStored  = "stored"
	keyLost    = "lost"
	keyBytes   = "bytes"
	keySeconds = "seconds"
	keyLeftOut = "left_out" // lines of this message not written in the last minute
)

// Events writes events as log lines. It is safe for concurrent use.
type Events struct {
	log *zap.Logger

	mu      sync.Mutex
	minutes map[run.EventKind]*minute
}

// minute counts the lines of one message since start.
type minute struct {
	start   time.Time
	lines   int
	leftOut int
}

// linesPerMinute is how often a message that can repeat without end is written; further
// ones are counted.
const linesPerMinute = 10

// NewEvents returns Events that write to log.
func NewEvents(log *zap.Logger) *Events {
	return &Events{log: log, minutes: map[run.EventKind]*minute{}}
}

// Log writes the line of an event, unless its level is disabled or its message was
// written too often in the last minute.
func (l *Events) Log(e run.Event) {
	entry := l.log.Check(level(e.Kind), string(e.Kind))
	if entry == nil {
		return
	}
	leftOut, ok := l.allow(e.Kind)
	if !ok {
		return
	}
	f := fields(e)
	if leftOut > 0 {
		f = append(f, zap.Int(keyLeftOut, leftOut))
	}
	entry.Write(f...)
}

// allow reports whether a line of this kind may be written now, and how many were left
// out since the last one.
func (l *Events) allow(kind run.EventKind) (leftOut int, ok bool) {
	if !repeats(kind) {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.minutes[kind]
	now := time.Now()
	switch {
	case m == nil:
		l.minutes[kind] = &minute{start: now, lines: 1}
	case now.Sub(m.start) >= time.Minute:
		l.minutes[kind] = &minute{start: now, lines: 1}
		return m.leftOut, true
	case m.lines >= linesPerMinute:
		m.leftOut++
		return 0, false
	default:
		m.lines++
	}
	return 0, true
}

// repeats reports whether an event can happen without end while one thing is wrong. What
// happens to a run, and every loss, is always logged.
func repeats(k run.EventKind) bool {
	switch k {
	case run.PollRefused, run.AssetRetry, run.APIRefused, run.APIDown, run.RateLowered, run.HostSlowed, run.HostBack,
		run.DropTrouble, run.DropHangs, run.FileSkipped, inbox.FileTrouble, run.QueueTrouble, run.ManifestTrouble, storage.NameTrouble, run.ClockSkewed, run.StageRecovered, run.ListenTrouble, run.WebhookOdd, notify.Failed:
		return true
	}
	return false
}

func level(k run.EventKind) zapcore.Level {
	switch k {
	case run.AssetStarted, run.AssetKept, run.AssetEarly, run.RunKnown, run.BackupMade, notify.Told:
		return zapcore.DebugLevel
	case run.AssetGone, run.AtRisk, run.APIRefused, run.VolumeOffline, run.DiskLow, run.QueueTrouble, run.ManifestTrouble,
		run.StageRecovered, run.RunGivenUp, run.DropTrouble, run.DropHangs, run.BackupTrouble, run.ListenTrouble, notify.GivenUp, notify.Gone:
		return zapcore.ErrorLevel
	case run.QueueLarge, run.PollRefused, run.AssetRetry, run.APIDown, run.RateLowered, run.HostSlowed, run.HostCuts, run.FileRejected, run.FileSkipped,
		inbox.FileTrouble, inbox.WatchLost, storage.SyncUnsupported, storage.NameTrouble,
		run.StatusUnknown, run.URLsKept, run.Quarantined, run.LabelsLate, run.ClockSkewed, run.AssetAgain,
		run.BackupSkipped, run.RetentionHeld, run.RetentionFailed, run.WebhookOdd, notify.Failed, notify.Forgotten:
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

func fields(e run.Event) []zap.Field {
	f := make([]zap.Field, 0, 8)
	str := func(key, value string) {
		if value != "" {
			f = append(f, zap.String(key, value))
		}
	}
	id := e.Run
	if id == "" {
		id = e.Asset.Run
	}
	str(keyRun, string(id))
	str(keyKind, string(e.Asset.Kind))
	str(keyAsset, e.Asset.ID)
	str(keyHost, e.Host)
	str(KeyFile, e.File)
	str(keyState, string(e.State))
	switch {
	case e.Kind == run.RunSettled:
		f = append(f, zap.Int(keyStored, e.Count), zap.Int(keyLost, e.Lost), zap.Int64(keyBytes, e.Bytes))
	case e.Count != 0:
		f = append(f, zap.Int(KeyCount, e.Count))
	}
	if e.Bytes != 0 && e.Kind != run.RunSettled {
		f = append(f, zap.Int64(keyBytes, e.Bytes))
	}
	if e.Took != 0 {
		f = append(f, zap.Float64(keySeconds, float64(e.Took.Milliseconds())/1000))
	}
	str(KeyNote, e.Note)
	if e.Err != nil {
		f = append(f, zap.String("error", e.Err.Error()))
	}
	str(KeyHint, e.Hint)
	return f
}
