package daemon

import (
	"cmp"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/notify"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/storage"
)

// The keys of log fields.
const (
	keyRun     = "run_id"
	keyKind    = "kind"
	keyAsset   = "asset_id"
	keyHost    = "host"
	keyFile    = "file"
	keyState   = "state"
	keyCount   = "count"
	keyStored  = "stored"
	keyLost    = "lost"
	keyBytes   = "bytes"
	keySeconds = "seconds"
	keyNote    = "note"
	keyHint    = "hint"
	keyLeftOut = "left_out" // lines of this message not written in the last minute
)

// NewLogger is a logger that writes lines of JSON to w, or of text for people, as
// json says at that moment. It waits a second for a w that is behind, and not again
// before w has caught up: lines beyond that are dropped and counted. close flushes
// for at most a second. No sampling: a state change is always told.
func NewLogger(w io.Writer, level zapcore.LevelEnabler, json *atomic.Bool) (log *zap.Logger, close func()) {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.SecondsDurationEncoder
	machine := zapcore.NewJSONEncoder(enc)
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	enc.EncodeLevel = zapcore.CapitalLevelEncoder
	people := zapcore.NewConsoleEncoder(enc)
	out := &lineWriter{lines: make(chan []byte, linesWaiting), done: make(chan struct{}), epoch: time.Now()}
	core := formats{zapcore.NewCore(machine, out, level), zapcore.NewCore(people, out, level), json}
	go out.write(w, func(dropped int64) []byte {
		encoder := people
		if json.Load() {
			encoder = machine
		}
		line, err := encoder.EncodeEntry(zapcore.Entry{
			Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines dropped: whoever reads the log was too slow",
		}, []zapcore.Field{zap.Int64(keyCount, dropped)})
		if err != nil {
			return nil
		}
		return line.Bytes()
	})
	return zap.New(core), out.close
}

// formats is a core that writes in one of two formats.
type formats struct {
	zapcore.Core // JSON
	people       zapcore.Core
	json         *atomic.Bool
}

// With is the core with these fields on every line.
func (f formats) With(fields []zapcore.Field) zapcore.Core {
	return formats{f.Core.With(fields), f.people.With(fields), f.json}
}

// Check adds the core where the level is enabled.
func (f formats) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) {
		return ce.AddCore(e, f)
	}
	return ce
}

// Write writes a line in the format of the moment.
func (f formats) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if f.json.Load() {
		return f.Core.Write(e, fields)
	}
	return f.people.Write(e, fields)
}

// lineWriter hands lines to a writer that may block, without being blocked for long
// itself: a log pipe whose reader has stopped must not stop a download.
type lineWriter struct {
	lines   chan []byte
	done    chan struct{}
	dropped atomic.Int64
	epoch   time.Time
	behind  atomic.Int64 // since when the reader is, in ns from epoch on; 0: it is not
	once    sync.Once
}

// How many lines may wait for a slow reader; how long all who log wait together for
// one that is behind, as a file is where a commit accepts 10,000 runs; and how long
// a close waits for it.
const (
	linesWaiting = 4096
	patience     = time.Second
	flushTime    = time.Second
)

// write hands the lines on to w, until there is a nil one. lost is the line that
// tells how many were dropped.
func (l *lineWriter) write(w io.Writer, lost func(n int64) []byte) {
	defer close(l.done)
	for line := range l.lines {
		if line == nil {
			return
		}
		if n := l.dropped.Swap(0); n > 0 {
			w.Write(lost(n)) //nolint:errcheck // as below
		}
		w.Write(line) //nolint:errcheck // there is nobody to tell
		if len(l.lines) <= linesWaiting/2 {
			l.behind.Store(0)
		}
	}
}

// Write takes a line, or drops it.
func (l *lineWriter) Write(p []byte) (int, error) {
	line := append([]byte(nil), p...) // zap uses p again
	select {
	case l.lines <- line:
		return len(p), nil
	default:
	}
	since := max(time.Since(l.epoch), 1)
	if !l.behind.CompareAndSwap(0, int64(since)) {
		since = cmp.Or(time.Duration(l.behind.Load()), since) // it may have caught up just now
	}
	late := time.NewTimer(since + patience - time.Since(l.epoch))
	defer late.Stop()
	select {
	case l.lines <- line:
	case <-late.C:
		l.dropped.Add(1)
	}
	return len(p), nil
}

// Sync has nothing to do: lines are not kept back.
func (l *lineWriter) Sync() error { return nil }

func (l *lineWriter) close() {
	l.once.Do(func() {
		late := time.NewTimer(flushTime)
		defer late.Stop()
		select {
		case l.lines <- nil: // senders may still be there: the channel is never closed
		case <-late.C:
			return
		}
		select {
		case <-l.done:
		case <-late.C:
		}
	})
}

// teller turns events into log lines. Safe for concurrent use.
type teller struct {
	log *zap.Logger

	mu      sync.Mutex
	windows map[run.EventKind]*window
}

// window bounds how often one message that can repeat without end is written.
type window struct {
	start   time.Time
	lines   int
	leftOut int
}

// A message that can repeat is written so often a minute; the rest is counted.
const linesAMinute = 10

func newTeller(log *zap.Logger) *teller {
	return &teller{log: log, windows: map[run.EventKind]*window{}}
}

// Tell writes the event's line.
func (t *teller) Tell(e run.Event) {
	entry := t.log.Check(level(e.Kind), string(e.Kind))
	if entry == nil {
		return
	}
	leftOut, ok := t.pass(e.Kind)
	if !ok {
		return
	}
	f := eventFields(e)
	if leftOut > 0 {
		f = append(f, zap.Int(keyLeftOut, leftOut))
	}
	entry.Write(f...)
}

func (t *teller) pass(kind run.EventKind) (leftOut int, ok bool) {
	if !repeats(kind) {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.windows[kind]
	now := time.Now()
	if w == nil || now.Sub(w.start) >= time.Minute {
		next := &window{start: now, lines: 1}
		t.windows[kind] = next
		if w != nil {
			return w.leftOut, true
		}
		return 0, true
	}
	if w.lines >= linesAMinute {
		w.leftOut++
		return 0, false
	}
	w.lines++
	return 0, true
}

// repeats reports whether the event can happen without end while one thing is
// wrong. What happens to a run, and every loss, is always told.
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

func eventFields(e run.Event) []zap.Field {
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
	str(keyFile, e.File)
	str(keyState, string(e.State))
	switch {
	case e.Kind == run.RunSettled:
		f = append(f, zap.Int(keyStored, e.Count), zap.Int(keyLost, e.Lost), zap.Int64(keyBytes, e.Bytes))
	case e.Count != 0:
		f = append(f, zap.Int(keyCount, e.Count))
	}
	if e.Bytes != 0 && e.Kind != run.RunSettled {
		f = append(f, zap.Int64(keyBytes, e.Bytes))
	}
	if e.Took != 0 {
		f = append(f, zap.Float64(keySeconds, float64(e.Took.Milliseconds())/1000))
	}
	str(keyNote, e.Note)
	if e.Err != nil {
		f = append(f, zap.String("error", e.Err.Error()))
	}
	str(keyHint, e.Hint)
	return f
}
