package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) retryCommand() *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "retry RUN-ID... | --all",
		Short: "try what was lost or given up again",
		Long: `Tries settled runs again: the API is asked again, lost assets are fetched, and so are
files that verify found damaged or missing, or that are missing or have another size now. A
damaged file is first moved to .assetd/quarantine below storage.dir. Intact files stay, and
all counts start again. With --all every settled run is tried that has lost or damaged
assets, failed or was given up. Works whether or not the daemon is running.`,
		Example: example("assetd retry omps2OH829", "assetd retry --all", "assetd retry --all --json | jq -r .run_id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return withCode(exitUsage, "which runs? name them, or all that can be repaired with --all (see assetd retry --help)")
			}
			return a.retry(cmd.Context(), args, asJSON)
		},
		ValidArgsFunction: a.completeMoreRunIDs,
	}
	cmd.Flags().BoolVar(&all, "all", false, "every settled run with lost or damaged assets, or that failed or was given up")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

// retry tries the runs of the arguments again; without any all that can be repaired.
func (a *app) retry(ctx context.Context, args []string, asJSON bool) error {
	ids, err := runIDs(args)
	if err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	a.noteNoQueue(c)
	return withBackend(ctx, c, func(b backend) error {
		var mu sync.Mutex
		tried := 0
		work := a.newBulk(func(ctx context.Context, id run.ID) error {
			r, err := b.Retry(ctx, id)
			if errors.Is(err, run.ErrUnknown) {
				return notThere(id)
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if r.Tried {
				tried++
			}
			if asJSON {
				return json.NewEncoder(a.stdout).Encode(r)
			}
			_, err = fmt.Fprintf(a.stdout, "%s: %s\n", id, retried(r))
			return err
		})
		for _, id := range ids {
			work.add(ctx, id)
		}
		var listErr error
		if len(ids) == 0 {
			listErr = b.each(ctx, func(r server.Run) error {
				if repairable(r) {
					work.add(ctx, r.RunID)
				}
				return nil
			})
		}
		if err := work.wait(ctx); err != nil {
			return err
		}
		switch _, daemon := b.(remoteBackend); {
		case listErr != nil:
			return listErr
		case work.all == 0:
			fmt.Fprintln(a.stderr, "assetd: nothing to try again: no settled run has lost or damaged assets, failed or was given up")
		case tried > 0 && !daemon:
			fmt.Fprintf(a.stderr, "assetd: no daemon runs with state.dir %s at the moment: they are tried when one starts (assetd run)\n", c.State.Dir)
		}
		return nil
	})
}

// repairable is run.Run.Repairable of a run that is shown.
func repairable(r server.Run) bool {
	return run.Run{State: r.State, Lost: r.Lost, Marked: r.Damaged, BadRecord: r.BadRecord, GaveUp: r.GaveUp}.Repairable()
}

// retried says what a retry did.
func retried(r server.Retried) string {
	switch {
	case !r.Tried && r.State.Settled():
		return "is stored, every file is there with its size: there is nothing to try again (assetd verify reads the files)"
	case !r.Tried:
		return fmt.Sprintf("is %s: it is being tried anyway", r.State)
	}
	var what []string
	if r.LostAgain > 0 {
		what = append(what, english.Plural(r.LostAgain, "lost asset", ""))
	}
	if r.DamagedAgain > 0 {
		what = append(what, english.Plural(r.DamagedAgain, "damaged or missing file", ""))
	}
	text := "is tried again"
	if len(what) > 0 {
		text += ": " + strings.Join(what, ", ")
	}
	if len(r.Aside) > 0 {
		text += "; moved to " + strings.Join(r.Aside, ", ") + " below storage.dir"
	}
	return text
}
