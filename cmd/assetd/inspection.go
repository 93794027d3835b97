package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/run"
)

// inspection shows what verify finds: a line for each file that is not as it should
// be, or with --json one for each file, and on a terminal how far it is. Safe for
// concurrent use.
type inspection struct {
	writing  sync.Mutex // of lines; before mu
	out, err io.Writer
	lines    *json.Encoder // nil: for people
	bars     *mpb.Progress // nil: no terminal
	bar      *mpb.Bar

	mu       sync.Mutex // held for a moment only: the bar asks, too
	counts   map[daemon.Result]int
	files    int
	bytes    int64
	unmarked error // the first finding that could not be recorded
}

func newInspection(out, err io.Writer, asJSON bool) *inspection {
	s := &inspection{out: out, err: err, counts: map[daemon.Result]int{}}
	if asJSON {
		s.lines = json.NewEncoder(out)
		return s
	}
	if isTerminal(out) {
		s.bars = mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(200*time.Millisecond))
		s.bar = s.bars.AddSpinner(0,
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return s.summary() + " " })),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS)))
		s.out, s.err = s.bars, s.bars // lines go above it
	}
	return s
}

// read counts bytes.
func (s *inspection) read(n int) {
	s.mu.Lock()
	s.bytes += int64(n)
	s.mu.Unlock()
}

// tell counts a file and prints what was found of it.
func (s *inspection) tell(v daemon.Verified) error {
	s.mu.Lock()
	if v.Kind != "" {
		s.files++
	}
	if v.Kind != "" || v.Result != daemon.ResultOK { // a record that is right is no stored file
		s.counts[v.Result]++
	}
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.lines != nil {
		return s.lines.Encode(v)
	}
	if v.Result == daemon.ResultOK {
		return nil
	}
	_, err := fmt.Fprintf(s.out, "%s: %s: %s (%s)\n", v.Result, clean(v.File), clean(v.Detail), clean(whose(v)))
	return err
}

// whose names what the file is of.
func whose(v daemon.Verified) string {
	if v.Kind == "" {
		return "run " + string(v.RunID)
	}
	return run.Key{Run: v.RunID, Kind: v.Kind, ID: v.ID}.String()
}

// notRecorded tells that a finding is not in the queue.
func (s *inspection) notRecorded(id run.ID, err error) {
	s.writing.Lock()
	fmt.Fprintf(s.err, "assetd: run %s: what was found is not marked, so assetd retry does not know of it: %v\n", id, err)
	s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmarked == nil {
		s.unmarked = errors.New("what was found could not be marked")
	}
}

// summary is how far it is, and what was found.
func (s *inspection) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := []string{english.Plural(s.files, "file", ""), humanize.IBytes(uint64(s.bytes))}
	for _, r := range []daemon.Result{daemon.ResultDamaged, daemon.ResultMissing, daemon.ResultUnreadable} {
		if n := s.counts[r]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, r))
		}
	}
	if len(parts) == 2 {
		parts = append(parts, "all whole")
	}
	return strings.Join(parts, ", ")
}

// close ends the bar, and sums up for people.
func (s *inspection) close() error {
	out := s.out
	if s.bars != nil {
		fmt.Fprintln(s.bars, s.summary())
		s.bar.Abort(true) // its last frame takes the lines along that were not yet drawn
		s.bars.Wait()
		return nil
	}
	if s.lines != nil {
		return nil
	}
	_, err := fmt.Fprintln(out, s.summary())
	return err
}

// outcome is the error that verify ends with.
func (s *inspection) outcome(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad, dark := s.counts[daemon.ResultDamaged]+s.counts[daemon.ResultMissing], s.counts[daemon.ResultUnreadable]
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: what was found until then is marked")
	case bad > 0:
		found := fmt.Errorf("%s damaged or missing: assetd retry fetches them anew, and what is there moves to quarantine", english.Plural(bad, "file", ""))
		return codedError{exitLost, errors.Join(found, err)}
	case err != nil:
		return err
	case dark > 0:
		return fmt.Errorf("%s could not be read: nothing can be said of what is in them", english.Plural(dark, "file", ""))
	}
	return s.unmarked
}
