package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/run"
)

func (a *app) getCommand() *cobra.Command {
	var output string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "get [--output DIR] [--timeout D] RUN-ID...",
		Short: "fetch these runs now, in the foreground; no daemon needed",
		Long: `Waits for the runs to end and fetches what they made, with progress bars on a
terminal. Stopped in the middle, it goes on from there when called again.

Ends with 3 where an asset was lost, 4 where a run failed, 5 where --timeout came first.`,
		Example: example("ASSETD_API_KEY=… assetd get omps2OH829", "assetd get --output renders --timeout 30m omps2OH829 Xk20aa9Lq1"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.get(cmd.Context(), output, timeout, args) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", ".", "store below this `directory`")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop after this `time`, such as 30m; what is not done is kept for the next call (0: never)")
	return cmd
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
	show := newProgress(a.stdout, a.stderr, c.Storage.Dir, ids)
	runs, err := daemon.Get(ctx, daemon.GetOptions{
		Config: c, Key: key, IDs: ids, Log: zap.NewNop(), Tell: show.tell, Progress: show.transfers, Pulse: show.pulse,
	})
	show.close()
	if err != nil {
		return getError(ctx, err)
	}
	return getOutcome(runs)
}

// loadForGet is the configuration with the output directory for a volume.
func (a *app) loadForGet(output string) (*config.Config, string, error) {
	dir, err := filepath.Abs(output)
	if err != nil {
		return nil, "", withCode(exitUsage, "--output %s: %w", output, err)
	}
	a.set = append(a.set, "storage.dir="+dir, "storage.mounted=false")
	c, err := a.load()
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
func getError(ctx context.Context, err error) error {
	var sig interrupted
	switch {
	case errors.Is(err, errTimeout), errors.Is(context.Cause(ctx), errTimeout):
		return codedError{exitTimeout, errTimeout}
	case errors.As(context.Cause(ctx), &sig):
		return withCode(exitInterrupted, "interrupted: call again to go on from here")
	case errors.Is(err, daemon.ErrKeyRefused):
		return fmt.Errorf("%w: set $ASSETD_API_KEY or api.key_file to a key that may read these runs", err)
	}
	return err
}

// getOutcome is nil where every run was stored, else the error with its exit code.
func getOutcome(runs []run.Run) error {
	lost, failed := 0, 0
	for _, r := range runs {
		lost += r.Lost
		if r.State == run.FailedRun {
			failed++
		}
	}
	switch {
	case lost > 0:
		return withCode(exitLost, "%s lost: the manifests say which and why", english.Plural(lost, "asset", ""))
	case failed > 0:
		return withCode(exitRunFailed, "%d of %d runs failed: the manifests say why", failed, len(runs))
	}
	return nil
}
