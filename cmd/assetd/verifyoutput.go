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

	"github.com/assetd/assetd/internal/daemon/verify"
	"github.com/assetd/assetd/internal/run"
)

// verifyOutput prints what verify finds: a line for each file that is not intact, or with
// --json one for each file, and on a terminal the progress. It is safe for concurrent use.
type verifyOutput struct {
	writing  sync.Mutex // of lines; before mu
	out, err io.Writer
	lines    *json.Encoder // nil: for people
	bars     *mpb.Progress // nil: no terminal
	bar      *mpb.Bar

	mu       sync.Mutex // held for a moment only: the bar reads, too
	counts   map[verify.Result]int
	files    int
	bytes    int64
	unmarked error // set once findings could not be recorded
}

func newVerifyOutput(out, err io.Writer, asJSON bool) *verifyOutput {
	s := &verifyOutput{out: out, err: err, counts: map[verify.Result]int{}}
	if asJSON {
		s.lines = json.NewEncoder(out)
		return s
	}
	if isTerminal(out) {
		s.bars = mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(200*time.Millisecond))
		s.bar = s.bars.AddSpinner(0,
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return s.summary() + " " })),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS)))
		s.out, s.err = s.bars, s.bars // lines appear above it
	}
	return s
}

// read counts bytes.
func (s *verifyOutput) read(n int) {
	s.mu.Lock()
	s.bytes += int64(n)
	s.mu.Unlock()
}

// report counts a file and prints what was found.
func (s *verifyOutput) report(v verify.File) error {
	s.mu.Lock()
	if v.Kind != "" {
		s.files++
	}
	if v.Kind != "" || v.Result != verify.OK { // an intact record is not a stored file
		s.counts[v.Result]++
	}
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.lines != nil {
		return s.lines.Encode(v)
	}
	if v.Result == verify.OK {
		return nil
	}
	_, err := fmt.Fprintf(s.out, "%s: %s: %s (%s)\n", v.Result, clean(v.File), clean(v.Detail), clean(whose(v)))
	return err
}

// whose names the run or asset that the file belongs to.
func whose(v verify.File) string {
	if v.Kind == "" {
		return "run " + string(v.RunID)
	}
	return run.Key{Run: v.RunID, Kind: v.Kind, ID: v.ID}.String()
}

// markFailed reports findings that are not in the queue.
func (s *verifyOutput) markFailed(id run.ID, err error) {
	s.writing.Lock()
	fmt.Fprintf(s.err, "assetd: run %s: what was found is not marked, so assetd retry does not know of it: %v\n", id, err)
	s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmarked == nil {
		s.unmarked = errors.New("what was found could not be marked")
	}
}

// summary is the progress and the findings so far, in one line.
func (s *verifyOutput) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := []string{english.Plural(s.files, "file", ""), humanize.IBytes(uint64(s.bytes))}
	for _, r := range []verify.Result{verify.Damaged, verify.Missing, verify.Unreadable} {
		if n := s.counts[r]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, r))
		}
	}
	if len(parts) == 2 {
		parts = append(parts, "all intact")
	}
	return strings.Join(parts, ", ")
}

// close ends the bar and prints the summary, unless the output is JSON.
func (s *verifyOutput) close() error {
	out := s.out
	if s.bars != nil {
		fmt.Fprintln(s.bars, s.summary())
		s.bar.Abort(true) // its last frame draws the lines that are still pending
		s.bars.Wait()
		return nil
	}
	if s.lines != nil {
		return nil
	}
	_, err := fmt.Fprintln(out, s.summary())
	return err
}

// outcome is the error, and with it the exit code, of assetd verify.
func (s *verifyOutput) outcome(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad, unreadable := s.counts[verify.Damaged]+s.counts[verify.Missing], s.counts[verify.Unreadable]
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: what was found until then is marked")
	case bad > 0:
		found := fmt.Errorf("%s damaged or missing: assetd retry fetches them again, and moves damaged files to quarantine", english.Plural(bad, "file", ""))
		return codedError{exitLost, errors.Join(found, err)}
	case err != nil:
		return err
	case unreadable > 0:
		return fmt.Errorf("%s could not be read: nothing can be said of what is in them", english.Plural(unreadable, "file", ""))
	}
	return s.unmarked
}
