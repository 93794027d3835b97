package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/get"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

func (a *app) getCommand() *cobra.Command {
	var output string
	var timeout time.Duration
	var forget bool
	cmd := &cobra.Command{
		Use:   "get [--output DIR] [--timeout D | --forget] RUN-ID...",
		Short: "fetch these runs now, in the foreground; no daemon needed",
		Long: `Waits for the runs to end and fetches their assets, with progress bars on a terminal. If it
is stopped, it resumes when called again with the same IDs. Runs that an earlier call left
and this one does not name are listed and not fetched; with --forget they are dropped, and
their stored files stay.

Exits with 3 if an asset was lost or a run that did not complete left something out, 4 if a
run failed, 5 if --timeout came first.`,
		Example: example("ASSETD_API_KEY=… assetd get omps2OH829", "assetd get --output renders --timeout 30m omps2OH829 Xk20aa9Lq1",
			"assetd get --output renders --forget omps2OH829"),
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if forget && timeout != 0 {
				return withCode(exitUsage, "--forget waits for nothing: leave out --timeout (see assetd get --help)")
			}
			if forget {
				return a.forget(cmd.Context(), output, args)
			}
			return a.get(cmd.Context(), output, timeout, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", ".", "store below this `directory`")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop after this `time`, such as 30m; what is not done is kept for the next call (0: never)")
	cmd.Flags().BoolVar(&forget, "forget", false, "fetch nothing: drop what an earlier call left of these runs in --output")
	return cmd
}

// forget drops runs that an earlier call left.
func (a *app) forget(ctx context.Context, output string, args []string) error {
	ids, err := runIDs(args)
	if err != nil {
		return err
	}
	c, err := a.loadOutput(output)
	if err != nil {
		return err
	}
	left, err := get.Forget(ctx, c, ids)
	if err != nil {
		return err
	}
	out := &printer{w: a.stdout}
	for _, id := range ids {
		out.printf("%s: forgotten\n", id)
	}
	for _, id := range left {
		out.printf("%s: still left by an earlier call\n", id)
	}
	return out.err
}

// errTimeout is the cause of a context that --timeout ended.
var errTimeout = errors.New("not finished within --timeout: call again to go on from here")

func (a *app) get(ctx context.Context, output string, timeout time.Duration, args []string) error {
	ids, err := a.readIDs(args)
	if err != nil {
		return err
	}
	if timeout < 0 {
		return withCode(exitUsage, "--timeout %v is negative", timeout)
	}
	c, key, err := a.loadForGet(output)
	if err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	show := newProgress(a.stdout, a.stderr, c.Storage.Dir, ids, timeout)
	runs, err := get.Run(ctx, get.Options{
		Config: c, Key: key, IDs: ids, Log: zap.NewNop(), Tell: show.event, Progress: show.transfers, Pulse: show.pulse, Waits: show.waits,
	})
	show.close()
	if err != nil {
		return getError(ctx, runs, err)
	}
	return getOutcome(runs)
}

// loadOutput is the configuration with the output directory for a volume.
func (a *app) loadOutput(output string) (*config.Config, error) {
	dir, err := filepath.Abs(output)
	if err != nil {
		return nil, withCode(exitUsage, "--output %s: %w", output, err)
	}
	a.set = append(a.set, "storage.dir="+dir, "storage.mounted=false")
	return a.load()
}

// loadForGet is the same with the key.
func (a *app) loadForGet(output string) (*config.Config, string, error) {
	c, err := a.loadOutput(output)
	if err != nil {
		return nil, "", err
	}
	key, err := c.APIKey()
	if err != nil {
		return nil, "", codedError{exitConfig, err}
	}
	return c, key, nil
}

// getError gives an early end its exit code and a word on how to go on.
func getError(ctx context.Context, runs []run.Run, err error) error {
	var sig interrupted
	switch {
	case errors.Is(err, errTimeout), errors.Is(context.Cause(ctx), errTimeout):
		return codedError{exitTimeout, unfinished(runs)}
	case errors.As(context.Cause(ctx), &sig):
		return withCode(exitInterrupted, "interrupted: call again to go on from here")
	case errors.Is(err, get.ErrKeyRefused):
		return fmt.Errorf("%w: set $ASSETD_API_KEY or api.key_file to a key that may read these runs", err)
	}
	return err
}

// unfinished is errTimeout with the runs that are not settled.
func unfinished(runs []run.Run) error {
	var open []run.ID
	for _, r := range runs {
		if !r.State.Settled() {
			open = append(open, r.ID)
		}
	}
	if len(open) == 0 {
		return errTimeout
	}
	return fmt.Errorf("%w: %s of %d not settled: %s", errTimeout, english.Plural(len(open), "run", ""), len(runs), namesOf(open))
}

// getOutcome is nil where every run was stored, else the error with its exit code:
// something lost or missing takes precedence over a run that failed.
func getOutcome(runs []run.Run) error {
	lost, incomplete, failed := 0, 0, 0
	bad := 0 // runs that are not stored completely
	var reasons []string
	for _, r := range runs {
		lost += r.Lost
		switch {
		case r.State == run.FailedRun:
			failed++
		case r.State == run.PartialRun && r.Lost == 0:
			incomplete++
		case r.State != run.PartialRun:
			continue
		}
		bad++
		if len(reasons) < namedRuns {
			reasons = append(reasons, fmt.Sprintf("%s: %s", r.ID, shortfall(r)))
		}
	}
	var text []string
	code := exitRunFailed
	if lost > 0 {
		text, code = append(text, english.Plural(lost, "asset", "")+" lost"), exitLost
	}
	if incomplete > 0 {
		text, code = append(text, fmt.Sprintf("%d of %s incomplete", incomplete, english.Plural(len(runs), "run", ""))), exitLost
	}
	if failed > 0 {
		text = append(text, fmt.Sprintf("%d of %s failed", failed, english.Plural(len(runs), "run", "")))
	}
	if len(text) == 0 {
		return nil
	}
	if more := bad - len(reasons); more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return withCode(code, "%s: the manifests say which and why\n  %s", strings.Join(text, ", "), strings.Join(reasons, "\n  "))
}

// shortfall says why a run is not stored completely.
func shortfall(r run.Run) string {
	var parts []string
	if r.Lost > 0 {
		parts = append(parts, english.Plural(r.Lost, "asset", "")+" lost")
	}
	switch message := clean(signedurl.Redact(r.ErrorMessage)); {
	case r.GaveUp != "":
		parts = append(parts, "given up: "+clean(r.GaveUp))
	case r.Status != run.Completed && message != "":
		parts = append(parts, fmt.Sprintf("the API says %s: %s", clean(string(r.Status)), message))
	case r.Status != run.Completed:
		parts = append(parts, fmt.Sprintf("the API says %s, and not why", clean(string(r.Status))))
	}
	if len(parts) == 0 { // completed, but not stored completely
		parts = append(parts, "not all that the API's answer lists was taken, see its manifest")
	}
	return string(r.State) + ": " + strings.Join(parts, "; ")
}
