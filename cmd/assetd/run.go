package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "run the daemon",
		Long: `Runs the daemon: takes run IDs from the drop directory, polls the runs, fetches their
assets. SIGTERM or Ctrl-C lets running transfers finish within shutdown_grace; a
second one ends at once, and nothing is lost by that. SIGHUP reads the configuration
and the key again.`,
		Example: example("ASSETD_API_KEY=… assetd run", "assetd run --config /etc/assetd/assetd.yaml --set log.level=debug"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context()) },
	}
}

func (a *app) run(ctx context.Context) error {
	c, err := a.loadAndWarn()
	if err != nil {
		return err
	}
	key, err := c.APIKey()
	if err != nil {
		return codedError{exitConfig, err}
	}
	if line := c.LaterSteps(); line != "" {
		fmt.Fprintf(a.stderr, "assetd: warning: %s\n", line)
	}
	level := zap.NewAtomicLevel()
	setLevel(level, c.Log.Level)
	log, flush := daemon.NewLogger(a.stderr, level, asJSON(c.Log.Format, a.stderr))
	defer flush()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	err = daemon.Run(ctx, daemon.Options{
		Config: c, Key: key, Log: log, Version: versionText(),
		Reload: hangup, Load: a.reload, Relevel: func(text string) { setLevel(level, text) },
	})
	if err != nil {
		log.Error("assetd ends", zap.Error(err))
		return codedError{exitError, nil} // the log has said it
	}
	return nil
}

// reload reads configuration and key anew.
func (a *app) reload() (*config.Config, string, error) {
	c, err := a.loadAndWarn()
	if err != nil {
		return nil, "", err
	}
	key, err := c.APIKey()
	return c, key, err
}

// setLevel takes a level that config has checked.
func setLevel(level zap.AtomicLevel, text string) {
	if l, err := zapcore.ParseLevel(text); err == nil {
		level.SetLevel(l)
	}
}

// asJSON decides the log's format: lines for people only on a terminal.
func asJSON(format string, w any) bool {
	if format == "auto" {
		return !isTerminal(w)
	}
	return format == "json"
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
