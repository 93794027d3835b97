package main

import (
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// progress shows a person what happens: bars for what is under way on a terminal,
// and plain lines for what is done. Safe for concurrent use.
type progress struct {
	dir      string
	out, err io.Writer
	bars     *mpb.Progress // nil: no terminal
	whole    *mpb.Bar      // of all; while it is there, lines are drawn above it

	mu     sync.Mutex
	shown  map[run.Key]*mpb.Bar
	told   map[string]time.Time // troubles, by what they are about
	closed bool
}

// The same trouble is told again after so long.
const tellAgain = 30 * time.Second

func newProgress(out, err io.Writer, dir string, runs int) *progress {
	p := &progress{dir: dir, out: out, err: err, shown: map[run.Key]*mpb.Bar{}, told: map[string]time.Time{}}
	if isTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
		p.whole = p.bars.AddBar(int64(runs), mpb.BarPriority(1<<20),
			mpb.PrependDecorators(decor.CountersNoUnit("%d of %d runs settled", decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS)))
		p.out, p.err = p.bars, p.bars // lines go above the bars
	}
	p.line(p.out, "waiting for %s; Ctrl-C stops, and the next call goes on from there", english.Plural(runs, "run", ""))
	return p
}

// tell prints what a person wants to know of an event.
func (p *progress) tell(e run.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case run.RunEnded:
		p.line(p.out, "%s: %s, %s", e.Run, clean(e.Note), english.Plural(e.Count, "asset", ""))
	case run.AssetKept:
		p.line(p.out, "%s: %s/%s (%s)", e.Asset.Run, e.Asset.Kind, clean(e.Asset.ID), humanize.IBytes(uint64(e.Bytes)))
	case run.RunSettled:
		if p.whole != nil {
			p.whole.Increment()
		}
		p.line(p.out, "%s: %s, %d stored, %d lost, %s in %s", e.Run, e.State, e.Count, e.Lost, humanize.IBytes(uint64(e.Bytes)), path.Join(p.dir, e.File))
	case run.AssetGone, run.RunGivenUp, run.Quarantined:
		p.line(p.err, "%s", trouble(e))
	case run.PollRefused, run.AssetRetry, run.APIDown, run.APIBack, run.HostSlowed, run.VolumeOffline, run.VolumeBack,
		run.DiskLow, run.DiskBack, run.RateLowered, run.StatusUnknown, run.ListIgnored, run.ManifestTrouble,
		run.AssetAgain, run.StageRecovered, run.QueueTrouble:
		p.once(string(e.Kind)+e.Asset.String()+string(e.Run)+e.Host, trouble(e))
	}
}

// once prints a line unless one about the same thing was printed lately.
func (p *progress) once(about, text string) {
	now := time.Now()
	if last, ok := p.told[about]; ok && now.Sub(last) < tellAgain {
		return
	}
	if len(p.told) > 1000 {
		clear(p.told)
	}
	p.told[about] = now
	p.line(p.err, "%s", text)
}

func (p *progress) line(w io.Writer, format string, args ...any) {
	if !p.closed {
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
		p.whole.SetTotal(-1, true) // its last frame takes the lines along that were not yet drawn
		p.bars.Wait()
	}
}
