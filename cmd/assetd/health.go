package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/server"
)

// healthTimeout is how long an answer may take for which a person or a health check waits.
const healthTimeout = 5 * time.Second

// client returns the client of this configuration's daemon.
func client(c *config.Config) *server.Client {
	return server.NewClient(c.State.Socket())
}

func (a *app) healthCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "exit 0 when the daemon is alive (or ready)",
		Long: `Asks the running daemon through its socket. Alive means that its loops run; an API that
does not answer or a slow volume does not change that. Ready (--ready) means that it can do
its work: the key is accepted, the volume is there and has free space.`,
		Example: example("assetd health", "assetd health --ready"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.health(cmd.Context(), ready) },
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can do its work")
	return cmd
}

func (a *app) health(ctx context.Context, ready bool) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	h, err := client(c).Health(ctx, ready)
	if errors.Is(err, server.ErrNoDaemon) {
		return fmt.Errorf("no daemon runs with state.dir %s: start it with assetd run", c.State.Dir)
	}
	if err != nil {
		return err
	}
	state := "alive"
	if ready {
		state = "ready"
	}
	if !h.OK {
		return fmt.Errorf("not %s: %s", state, strings.Join(h.Reasons, "; "))
	}
	_, err = fmt.Fprintln(a.stdout, state)
	return err
}
