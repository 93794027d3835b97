// Package logging writes the daemon's log: it turns the events of the stages into log
// lines, limits how often one message repeats, and writes lines as JSON or as text to a
// writer that may block.
//
// It guarantees that every state change of a run and every loss is logged, that a reader
// who has stopped delays those who log by at most a second, and that lines lost to such a
// reader are counted in the log itself.
package logging

import (
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a logger that writes lines to w: as JSON while json is true, else as text
// for people. It waits up to a second in all for a slow w, and again only once w has
// caught up; further lines are dropped and counted. Nothing is sampled. close flushes for
// at most a second. The logger is safe for concurrent use.
func New(w io.Writer, level zapcore.LevelEnabler, json *atomic.Bool) (log *zap.Logger, close func()) {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.SecondsDurationEncoder
	asJSON := zapcore.NewJSONEncoder(enc)
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	enc.EncodeLevel = zapcore.CapitalLevelEncoder
	text := zapcore.NewConsoleEncoder(enc)
	out := &lineWriter{lines: make(chan []byte, bufferedLines), done: make(chan struct{}), epoch: time.Now()}
	core := formats{zapcore.NewCore(asJSON, out, level), zapcore.NewCore(text, out, level), json}
	go out.write(w, func(dropped int64) []byte {
		encoder := text
		if json.Load() {
			encoder = asJSON
		}
		line, err := encoder.EncodeEntry(zapcore.Entry{
			Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines dropped: whoever reads the log was too slow",
		}, []zapcore.Field{zap.Int64(KeyCount, dropped)})
		if err != nil {
			return nil
		}
		return line.Bytes()
	})
	return zap.New(core), out.close
}

// formats is a core that writes each line in the format that json selects at that
// moment.
type formats struct {
	zapcore.Core // JSON
	text         zapcore.Core
	json         *atomic.Bool
}

// With returns the core with these fields on every line.
func (f formats) With(fields []zapcore.Field) zapcore.Core {
	return formats{f.Core.With(fields), f.text.With(fields), f.json}
}

// Check adds the core if the level is enabled.
func (f formats) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) {
		return ce.AddCore(e, f)
	}
	return ce
}

// Write writes one line.
func (f formats) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if f.json.Load() {
		return f.Core.Write(e, fields)
	}
	return f.text.Write(e, fields)
}
