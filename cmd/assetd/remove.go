package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) removeCommand() *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "remove RUN-ID...",
		Short: "remove a run from the queue; files stay",
		Long: `Removes runs from the queue. Their stored files and manifests stay; their parts and
quarantined files in .assetd below storage.dir are removed. A run that is not settled needs
--force: its transfers are stopped. A removed run comes back when it is added again, not
through a drop file that was taken before. Works whether or not the daemon is running.`,
		Example: example("assetd remove omps2OH829", "assetd remove --force omps2OH829 Xk20aa9Lq1"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.remove(cmd.Context(), args, force, asJSON) },

		ValidArgsFunction: a.completeMoreRunIDs,
	}
	cmd.Flags().BoolVar(&force, "force", false, "also runs that are not settled")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

// removed is a run as it was, in --json.
type removed struct {
	server.Run
	Removed bool `json:"removed"`
}

func (a *app) remove(ctx context.Context, args []string, force, asJSON bool) error {
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
		work := a.newBulk(func(ctx context.Context, id run.ID) error {
			r, err := b.Remove(ctx, id, force)
			switch {
			case errors.Is(err, run.ErrUnknown):
				return fmt.Errorf("run %s is not in the queue: there is nothing to remove", id)
			case errors.Is(err, run.ErrOpenRun), errors.Is(err, run.ErrStale):
				return fmt.Errorf("run %s is not settled: assetd remove --force %s removes it anyway, and stops its transfers", id, id)
			case err != nil:
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if asJSON {
				return json.NewEncoder(a.stdout).Encode(removed{r, true})
			}
			_, err = fmt.Fprintf(a.stdout, "%s: removed%s\n", id, left(r))
			return err
		})
		for _, id := range ids {
			work.add(ctx, id)
		}
		return work.wait(ctx)
	})
}

// left says what stays of a removed run.
func left(r server.Run) string {
	if r.Stored == 0 || r.Dir == "" {
		return ""
	}
	verb := "stay"
	if r.Stored == 1 {
		verb = "stays"
	}
	return fmt.Sprintf("; %s %s in %s below storage.dir", english.Plural(r.Stored, "file", ""), verb, r.Dir)
}
