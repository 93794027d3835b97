package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

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
	cmd.Flags().StringVar(&state, "state", "", "only runs in this `state`: "+strings.Join(states(), ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // it has this flag
	return cmd
}

// states are the states of a run, in the order it goes through them.
func states() []string {
	all := []string{}
	for _, s := range []run.State{run.Waiting, run.Downloading, run.StoredRun, run.PartialRun, run.FailedRun} {
		all = append(all, string(s))
	}
	return all
}

func (a *app) list(ctx context.Context, state run.State, asJSON bool) error {
	if state != "" && !state.Valid() {
		return withCode(exitUsage, "--state %.40q is none of %s (see assetd list --help)", state, strings.Join(states(), ", "))
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	// A row is many small writes, and a million rows would be as many system calls.
	out := bufio.NewWriterSize(narrow(a.stdout), 64<<10)
	if asJSON {
		out.Reset(a.stdout)
		line := json.NewEncoder(out)
		err = eachRun(ctx, c, state, "", func(r server.Run) error { return line.Encode(r) })
	} else {
		err = listTable(ctx, c, state, out)
	}
	if e := out.Flush(); err == nil { // what came before an error is printed, too
		err = e
	}
	return err
}

// tableRows is how many runs are aligned with each other: rows are shown as they
// come, and a long list takes no memory.
const tableRows = 1000

func listTable(ctx context.Context, c *config.Config, state run.State, out io.Writer) error {
	table, rows := newTable(out), 0
	head := func() { fmt.Fprintln(table, "RUN\tSTATE\tAPI\tSTORED\tLOST\tSIZE\tHANDED IN\tNOTE") }
	err := eachRun(ctx, c, state, "", func(r server.Run) error {
		if rows == 0 { // not before: a command that fails prints nothing else
			head()
		}
		rows++
		fmt.Fprintf(table, "%s\t%s\t%s\t%d/%d\t%d\t%s\t%s\t%s\n", r.RunID, r.State, dash(clean(string(r.Status))),
			r.Stored, r.Assets, r.Lost, humanize.IBytes(uint64(r.Bytes)), r.HandedIn.Local().Format(time.DateTime), clean(note(r)))
		if rows%tableRows == 0 {
			return table.Flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rows == 0 {
		head()
	}
	return table.Flush()
}

// note is what a person should know first of a run that is not as it should be.
func note(r server.Run) string {
	switch {
	case r.GaveUp != "":
		return r.GaveUp
	case len(r.HeldUp) > 0:
		return strings.Join(r.HeldUp, "; ")
	case r.ErrorMessage != "":
		return r.ErrorMessage
	case r.NoAccess:
		return "no access"
	default:
		return r.LastError
	}
}

// eachRun calls f with each run whose ID comes after the given one, asking the
// daemon, or the queue itself where no daemon runs.
func eachRun(ctx context.Context, c *config.Config, state run.State, after run.ID, f func(server.Run) error) error {
	err := client(c).Runs(ctx, state, after, f)
	if !errors.Is(err, server.ErrNoDaemon) {
		return err
	}
	q, err := openQueue(c)
	if q == nil {
		return err
	}
	defer q.Close()
	for {
		runs, err := q.List(ctx, state, after, 1000)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, r := range runs {
			if err := f(asleep(r, nil)); err != nil {
				return err
			}
			after = r.ID
		}
	}
}

// asleep is a run as the queue has it while no daemon runs.
func asleep(r run.Run, assets []run.Asset) server.Run {
	v := server.ViewRun(r, assets)
	if !r.State.Settled() {
		v.HeldUp = []string{server.ErrNoDaemon.Error() + ": start it with assetd run"}
	}
	return v
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
