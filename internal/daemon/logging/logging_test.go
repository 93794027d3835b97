package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged renders events as JSON lines.
func logged(t *testing.T, level zap.AtomicLevel, events func(log run.Tell)) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	log, flush := New(&out, level, format(true))
	events(NewEvents(log).Log)
	flush()
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

func TestEvents_SettledRunIsOneLineWithItsFigures(t *testing.T) {
	lines := logged(t, zap.NewAtomicLevel(), func(log run.Tell) {
		log(run.Event{Kind: run.RunSettled, Run: "abcd", State: run.PartialRun, Count: 2, Lost: 1, Bytes: 30, Took: 1500 * time.Millisecond})
		log(run.Event{Kind: run.AssetGone, Asset: run.Key{Run: "abcd", Kind: run.Images, ID: "x"}, Err: errors.New("410"), Hint: "do"})
		log(run.Event{Kind: run.AssetKept, Asset: run.Key{Run: "abcd", Kind: run.Images, ID: "y"}}) // debug
	})
	if len(lines) != 2 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for key, want := range map[string]any{
		"msg": "run settled", "run_id": "abcd", "state": "partial", "stored": 2.0, "lost": 1.0, "bytes": 30.0, "seconds": 1.5, "level": "info",
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
	for key, want := range map[string]any{"run_id": "abcd", "kind": "images", "asset_id": "x", "error": "410", "hint": "do", "level": "error"} {
		if lines[1][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[1][key], want)
		}
	}
}

func TestEvents_RepeatedMessagesAreLimitedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logged(t, zap.NewAtomicLevel(), func(log run.Tell) {
			for range 1000 {
				log(run.Event{Kind: run.PollRefused, Run: "abcd"})
				log(run.Event{Kind: run.RunSettled, Run: "abcd"})
			}
			time.Sleep(time.Minute)
			log(run.Event{Kind: run.PollRefused, Run: "abcd"})
		})
		refused, settled := 0, 0
		for _, l := range lines {
			switch l["msg"] {
			case string(run.PollRefused):
				refused++
			case string(run.RunSettled):
				settled++
			}
		}
		if refused != linesPerMinute+1 || settled != 1000 {
			t.Errorf("%d refusals and %d settled runs logged, want %d and 1000", refused, settled, linesPerMinute+1)
		}
		if last := lines[len(lines)-1]; last[keyLeftOut] != float64(1000-linesPerMinute) {
			t.Errorf("the last line says %v left out", last[keyLeftOut])
		}
	})
}

// blocked is a writer that blocks until free is closed.
type blocked struct {
	free chan struct{}
	bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.free
	return b.Buffer.Write(p)
}

func TestNew_StoppedReaderDelaysLittleAndDropsAreCounted(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { logToStoppedReader(t, asJSON) })
	}
}

func logToStoppedReader(t *testing.T, asJSON bool) {
	t.Helper()
	w := &blocked{free: make(chan struct{})}
	log, flush := New(w, zap.NewAtomicLevel(), format(asJSON))
	start := time.Now()
	for range bufferedLines + 100 {
		log.Info("a line")
	}
	if took := time.Since(start).Round(time.Millisecond); took != maxDelay {
		t.Errorf("logging took %v, want %v in all", took, maxDelay)
	}
	close(w.free)
	l := strings.Count(waitFlush(flush, w), "a line")
	if l < bufferedLines || l > bufferedLines+1 {
		t.Errorf("%d lines written, want %d or one more", l, bufferedLines)
	}
	lost := 0
	for line := range strings.Lines(w.String()) {
		if strings.Contains(line, "log lines dropped: whoever reads the log was too slow") {
			lost++
		}
		if json.Valid([]byte(line)) != asJSON {
			t.Errorf("JSON: %v, and the line is %s", asJSON, line)
		}
	}
	if lost != 1 {
		t.Errorf("drops are reported %d times", lost)
	}
}

// slow is a writer that takes a fixed time for each line.
type slow struct {
	each time.Duration
	bytes.Buffer
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.each)
	return s.Buffer.Write(p)
}

func TestNew_BurstIsWrittenCompletelyToASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{each: 20 * time.Microsecond} // as a file does
		log, flush := New(w, zap.NewAtomicLevel(), format(true))
		const burst = 4 * bufferedLines
		for range burst {
			log.Info("a line")
		}
		flush()
		if l := strings.Count(w.String(), "\n"); l != burst {
			t.Errorf("%d of %d lines written", l, burst)
		}
	})
}

func TestNew_ReaderThatStaysBehindIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{each: 10 * time.Millisecond}
		log, flush := New(w, zap.NewAtomicLevel(), format(true))
		start := time.Now()
		for range 4 * bufferedLines {
			log.Info("a line")
		}
		if took := time.Since(start).Round(time.Millisecond); took > maxDelay {
			t.Errorf("logging took %v, want at most %v until the reader has caught up", took, maxDelay)
		}
		time.Sleep(time.Minute)
		flush()
	})
}

func TestNew_FormatCanChangeWhileLogging(t *testing.T) {
	var out bytes.Buffer
	asJSON := format(false)
	log, flush := New(&out, zap.NewAtomicLevel(), asJSON)
	log = log.With(zap.String("who", "me"))
	log.Info("one")
	asJSON.Store(true)
	log.Info("two")
	log.Debug("not logged")
	flush()
	lines := slices.Collect(strings.Lines(out.String()))
	if len(lines) != 2 || json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) {
		t.Errorf("the lines are %q", lines)
	}
	for _, line := range lines {
		if !strings.Contains(line, `"me"`) {
			t.Errorf("a field is missing: %s", line)
		}
	}
}

func format(asJSON bool) *atomic.Bool {
	var b atomic.Bool
	b.Store(asJSON)
	return &b
}

func waitFlush(flush func(), w *blocked) string {
	flush()
	return w.String()
}

func TestNew_ClosedWriterIsNoError(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	log, flush := New(w, zap.NewAtomicLevel(), format(true))
	log.Info("nobody reads")
	flush()
	log.Info("nor this")
}
