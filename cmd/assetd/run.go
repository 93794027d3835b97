package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/daemon/logging"
	"github.com/assetd/assetd/internal/signals"
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

		Annotations: map[string]string{isDaemon: ""},
	}
}

// run runs the daemon. From where the configuration is known, all that is said on
// standard error is lines of the log.
func (a *app) run(ctx context.Context) error {
	boundMemory(a.getenv)
	c, warnings, err := a.read()
	if err != nil {
		a.warn(warnings)
		return err
	}
	log := newDaemonLog(a.stderr, c.Log)
	defer log.flush()
	log.warn(warnings)
	key, err := c.APIKey()
	secrets, err2 := secretsOf(c)
	_, err3 := c.Hook.Secret()
	if err = errors.Join(err, err2, err3); err != nil {
		log.Error("assetd does not start", zap.Error(err))
		return codedError{exitConfig, nil} // the log has said it
	}
	if ctx.Err() != nil {
		return nil // stopped before it began
	}
	err = daemon.Run(ctx, daemon.Options{
		Config: c, Key: key, Secrets: secrets, Log: log.Logger, Version: versionText(), Built: built(), Reload: signals.Hangup(), Relog: log.configure,
		Load: func() (*config.Config, string, error) {
			c, warnings, err := a.read()
			log.warn(warnings)
			if err != nil {
				return nil, "", err
			}
			key, err := c.APIKey()
			return c, key, err
		},
	})
	if err != nil {
		log.Error("assetd ends", zap.Error(err))
		return codedError{exitError, nil} // as above
	}
	return nil
}

// secretsOf reads the secrets of the HTTP side.
func secretsOf(c *config.Config) (daemon.Secrets, error) {
	token, err1 := c.Server.Token()
	add, err2 := c.Server.AddToken()
	webhook, err3 := c.Webhook.Keys()
	return daemon.Secrets{Token: token, AddToken: add, Webhook: webhook}, errors.Join(err1, err2, err3)
}

// daemonLog is the log with what can change of it while the daemon runs.
type daemonLog struct {
	*zap.Logger
	flush    func()
	terminal bool // somebody watches
	level    zap.AtomicLevel
	json     atomic.Bool
}

func newDaemonLog(w io.Writer, c config.Log) *daemonLog {
	l := &daemonLog{terminal: isTerminal(w), level: zap.NewAtomicLevel()}
	l.configure(c)
	l.Logger, l.flush = logging.New(w, l.level, &l.json)
	return l
}

// configure takes settings that config has checked. The automatic format is lines
// for people only on a terminal.
func (l *daemonLog) configure(c config.Log) {
	if level, err := zapcore.ParseLevel(c.Level); err == nil {
		l.level.SetLevel(level)
	}
	l.json.Store(c.Format == "json" || c.Format == "auto" && !l.terminal)
}

func (l *daemonLog) warn(warnings []config.Warning) {
	for _, w := range warnings {
		l.Warn(w.String())
	}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
