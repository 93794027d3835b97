package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) listCommand() *cobra.Command {
	var state string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "list runs",
		Long:    "Lists the runs that the queue knows, in the order of their IDs, with or without a running daemon.",
		Example: example("assetd list", "assetd list --state partial", "assetd list --json | jq -r 'select(.lost > 0).run_id'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.list(cmd.Context(), run.State(state), asJSON) },
	}
	cmd.Flags().StringVar(&state, "state", "", "only runs in this `state`: waiting, downloading, stored, partial or failed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (a *app) list(ctx context.Context, state run.State, asJSON bool) error {
	if state != "" && !state.Valid() {
		return withCode(exitUsage, "--state %q is none of waiting, downloading, stored, partial, failed", state)
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	if asJSON {
		out := json.NewEncoder(a.stdout)
		return eachRun(ctx, c, state, func(r server.Run) error { return out.Encode(r) })
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tSTATE\tAPI\tSTORED\tLOST\tSIZE\tHANDED IN\tNOTE")
	err = eachRun(ctx, c, state, func(r server.Run) error {
		_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%d/%d\t%d\t%s\t%s\t%s\n", r.RunID, r.State, dash(clean(string(r.Status))),
			r.Stored, r.Assets, r.Lost, humanize.IBytes(uint64(r.Bytes)), r.HandedIn.Local().Format(time.DateTime), clean(note(r)))
		return err
	})
	return errors.Join(err, table.Flush())
}

// note is what a person should know first of a run that is not as it should be.
func note(r server.Run) string {
	switch {
	case r.GaveUp != "":
		return r.GaveUp
	case r.ErrorMessage != "":
		return r.ErrorMessage
	case r.NoAccess:
		return "no access"
	default:
		return r.LastError
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// eachRun calls f with each run, asking the daemon, or the queue itself where no
// daemon runs.
func eachRun(ctx context.Context, c *config.Config, state run.State, f func(server.Run) error) error {
	err := client(c).Runs(ctx, state, f)
	if !errors.Is(err, server.ErrNoDaemon) {
		return err
	}
	q, err := openQueue(c)
	if q == nil {
		return err
	}
	defer q.Close()
	after := run.ID("")
	for {
		runs, err := q.List(ctx, state, after, 1000)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			if err := f(server.ViewRun(r, nil)); err != nil {
				return err
			}
			after = r.ID
		}
	}
}

// openQueue opens the queue for reading where no daemon runs. Both results are
// nil where there is no queue yet: then nothing was ever handed in.
func openQueue(c *config.Config) (*queue.Queue, error) {
	q, err := queue.Open(c.State.Dir, queue.Options{ReadOnly: true})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: ask as root or as a member of the daemon's group", err)
	default:
		return q, err
	}
}

// clean is text from outside as a terminal may get it: without control characters.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
}
