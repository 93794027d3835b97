package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/get"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/storage"
)

// progress shows people what assetd get does: bars for running transfers on a terminal, and
// lines for what is done. It is safe for concurrent use.
type progress struct {
	dir      string
	runs     map[run.ID]bool // the given runs
	out, err io.Writer
	bars     *mpb.Progress // nil: no terminal
	total    *mpb.Bar      // of all runs; lines are drawn above it
	ends     string        // when --timeout ends the call; empty: never

	mu     sync.Mutex
	shown  map[run.Key]*mpb.Bar
	warned map[string]time.Time // troubles, by what they are about
	waited map[string]time.Time // what is waited for, by what it is about
	last   time.Time            // when a line was printed
	coming int64                // bytes of the transfers under way
	closed bool
}

const (
	// warnInterval is how long the same trouble is not printed again.
	warnInterval = 30 * time.Second
	// namedRuns is up to how many runs have a line each when their status changes.
	namedRuns = 20
)

func newProgress(out, err io.Writer, dir string, ids []run.HandIn, timeout time.Duration) *progress {
	p := &progress{
		dir: dir, runs: map[run.ID]bool{}, out: out, err: err, shown: map[run.Key]*mpb.Bar{}, warned: map[string]time.Time{}, waited: map[string]time.Time{},
	}
	until := ", without --timeout"
	if timeout > 0 {
		p.ends = ", at the latest until " + clockTime(time.Now().Add(timeout), time.Now()) + " (--timeout)"
		until = p.ends
	}
	for _, h := range ids {
		p.runs[h.ID] = true
	}
	if isTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
		p.total = p.bars.AddBar(int64(len(p.runs)), mpb.BarPriority(1<<20),
			mpb.PrependDecorators(decor.CountersNoUnit("%d of %d runs settled", decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS)))
		p.out, p.err = p.bars, p.bars // lines go above the bars
	}
	p.line(p.out, "waiting for %s%s; Ctrl-C stops, and the next call resumes from there", english.Plural(len(p.runs), "run", ""), until)
	return p
}

// event prints what people want to know of an event.
func (p *progress) event(e run.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case get.RunStatus:
		p.status(e)
	case get.Leftover:
		p.line(p.out, "%s: %s: name them to resume them, or drop them with assetd get --forget --output %s RUN-ID...", e.Kind, e.Note, p.dir)
	case run.RunRetried:
		p.line(p.out, "%s: tried again", e.Run)
	case run.RunEnded:
		p.line(p.out, "%s: %s, %s", e.Run, clean(e.Note), english.Plural(e.Count, "asset", ""))
	case run.AssetKept:
		p.line(p.out, "%s: %s/%s (%s)", e.Asset.Run, e.Asset.Kind, clean(e.Asset.ID), humanize.IBytes(uint64(e.Bytes)))
	case run.RunSettled:
		p.settled(e.Run)
		text := fmt.Sprintf("%s: %s, %d stored, %d lost, %s in %s", e.Run, e.State, e.Count, e.Lost, humanize.IBytes(uint64(e.Bytes)), path.Join(p.dir, e.File))
		if e.State != run.StoredRun && e.Note != "" {
			text += ": " + clean(e.Note)
		}
		p.line(p.out, "%s", text)
	case run.AssetGone, run.RunGivenUp, run.Quarantined:
		p.line(p.err, "%s", trouble(e))
	case run.PollRefused, run.AssetRetry, run.APIDown, run.APIBack, run.HostSlowed, run.VolumeOffline, run.VolumeBack,
		run.DiskLow, run.DiskBack, run.RateLowered, run.StatusUnknown, run.URLsKept, run.ManifestTrouble,
		run.AssetAgain, run.StageRecovered, run.QueueTrouble, storage.NameTrouble:
		p.once(string(e.Kind)+e.Asset.String()+string(e.Run)+e.Host, trouble(e))
	}
}

// status prints the API's status of an open run, or that a run is settled already.
func (p *progress) status(e run.Event) {
	text := clean(e.Note)
	if e.State.Settled() {
		p.settled(e.Run)
		text = string(e.State) + " already"
	}
	if len(p.runs) <= namedRuns {
		p.line(p.out, "%s: %s", e.Run, text)
	}
}

// settled advances the bar of all runs.
func (p *progress) settled(id run.ID) {
	if p.total != nil && p.runs[id] {
		p.total.Increment()
	}
}

// pulse shows that it is still at work, where no bars do that and nothing else was
// printed for a while.
func (p *progress) pulse(runs []run.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil && time.Since(p.last) >= quiet {
		p.line(p.out, "%s", runsInShort(runs, p.coming))
	}
}

// How often the same wait is reported, on a terminal, where bars show that it is still at
// work, and elsewhere; how many different ones are at a time; and how many runs are named.
const (
	waitOnTerminal = 5 * time.Minute
	waitElsewhere  = time.Minute
	waitsAtOnce    = 5
	waitNames      = 3
)

// waits reports what is waited for and until when: what is new at once, the rest now and
// then.
func (p *progress) waits(all []get.Wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every, now := waitElsewhere, time.Now()
	if p.bars != nil {
		every = waitOnTerminal
	}
	before := p.waited
	p.waited = make(map[string]time.Time, len(all))
	lines, more := 0, 0
	for _, w := range all {
		last, known := before[w.About]
		if known && now.Sub(last) < every {
			p.waited[w.About] = last
			continue
		}
		if lines++; lines > waitsAtOnce {
			more += len(w.Runs)
			continue
		}
		p.waited[w.About] = now
		p.line(p.out, "waiting for %s: %s; until %s%s", namesOf(w.Runs), clean(w.For), w.Until, p.ends)
	}
	if more > 0 {
		p.line(p.out, "waiting for %s more", english.Plural(more, "run", ""))
	}
}

// namesOf names the first of some runs.
func namesOf(ids []run.ID) string {
	var names []string
	for _, id := range ids[:min(len(ids), waitNames)] {
		names = append(names, string(id))
	}
	text := strings.Join(names, " ")
	if more := len(ids) - waitNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// clockTime is a moment of today by the clock, another day's with its date.
func clockTime(t, now time.Time) string {
	if t.Sub(now) < 12*time.Hour && t.Day() == now.Day() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// quiet is for how long nothing else was printed, a little less than the time
// between two pulses.
const quiet = 50 * time.Second

// runsInShort sums up the runs, with the bytes of running transfers.
func runsInShort(runs []run.Run, coming int64) string {
	words := map[string]int{}
	all, stored, lost, bytes := 0, 0, 0, coming
	for _, r := range runs {
		switch {
		case r.State.Settled():
			words["settled"]++
		case r.Ended():
			words["downloading"]++
		default:
			words[cmp.Or(clean(string(r.Status)), "not answered yet")]++
		}
		all, stored, lost, bytes = all+r.Assets, stored+r.Stored, lost+r.Lost, bytes+r.Bytes
	}
	parts := make([]string, 0, len(words)+3)
	for _, word := range slices.Sorted(maps.Keys(words)) {
		parts = append(parts, fmt.Sprintf("%d %s", words[word], word))
	}
	if all > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s", stored, english.Plural(all, "asset", "")))
	}
	if lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", lost))
	}
	if bytes > 0 {
		parts = append(parts, humanize.IBytes(uint64(bytes)))
	}
	return english.Plural(len(runs), "run", "") + ": " + strings.Join(parts, ", ")
}

// once prints a line unless one about the same thing was printed lately.
func (p *progress) once(about, text string) {
	now := time.Now()
	if last, ok := p.warned[about]; ok && now.Sub(last) < warnInterval {
		return
	}
	if len(p.warned) > 1000 {
		clear(p.warned)
	}
	p.warned[about] = now
	p.line(p.err, "%s", text)
}

func (p *progress) line(w io.Writer, format string, args ...any) {
	if !p.closed {
		p.last = time.Now()
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// trouble is an event that is not as it should be, in one line.
func trouble(e run.Event) string {
	text := e.Text()
	switch {
	case e.Asset.ID != "":
		text = e.Asset.String() + ": " + text
	case e.Run != "":
		text = string(e.Run) + ": " + text
	case e.Host != "":
		text = e.Host + ": " + text
	}
	for _, more := range []string{e.Note, e.Hint} {
		if more != "" {
			text += ": " + more
		}
	}
	return clean(signedurl.Redact(text))
}

// transfers draws a bar for each transfer that runs.
func (p *progress) transfers(now []download.Transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming = 0
	for _, t := range now {
		p.coming += t.Bytes
	}
	if p.bars == nil || p.closed {
		return
	}
	running := make(map[run.Key]bool, len(now))
	for _, t := range now {
		running[t.Key] = true
		bar := p.shown[t.Key]
		if bar == nil {
			name := clean(string(t.Key.Run) + "/" + t.Key.ID)
			bar = p.bars.AddBar(max(t.Total, 0), mpb.BarRemoveOnComplete(),
				mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)),
				mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5})))
			p.shown[t.Key] = bar
		}
		if t.Total > 0 {
			bar.SetTotal(t.Total, false)
		}
		bar.SetCurrent(t.Bytes)
	}
	for key, bar := range p.shown {
		if !running[key] {
			bar.Abort(true)
			delete(p.shown, key)
		}
	}
}

// close ends the bars.
func (p *progress) close() {
	p.transfers(nil)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if p.bars != nil {
		p.total.Abort(false) // its last frame draws the lines that are still pending
		p.bars.Wait()
	}
}
