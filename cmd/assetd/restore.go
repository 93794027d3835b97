package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/daemon/maintenance"
)

func (a *app) restoreCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "replace the queue by a copy",
		Long: `Replaces the queue by a copy of it (of assetd backup FILE, or one in <state.dir>/backups).
The replaced file is kept under another name. Drop files that were taken since the copy was
made are put back into the drop directory: their runs are taken again at the next start.
FILE is checked first. Nothing is changed if it is not a complete copy, or if it is a copy
of another queue and --force is not given. Stop the daemon first.`,
		Example: example("assetd restore queue.db"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.restore(args[0], force) },
	}
	cmd.ValidArgsFunction = proposeFiles
	cmd.Flags().BoolVar(&force, "force", false, "also a copy of another queue")
	return cmd
}

func (a *app) restore(file string, force bool) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	r, err := maintenance.RestoreQueue(c, file, force)
	if err != nil {
		return err
	}
	out := &printer{w: a.stdout}
	out.printf("restored queue %s with %s, %s\n", r.ID, english.Plural(r.Runs, "run", ""), since(r.At))
	if r.Aside != "" {
		out.printf("the queue that was there is now %s\n", r.Aside)
	}
	out.printf("%d drop files were put back: %s\n", r.Back.Files, maintenance.RestoreNote)
	for _, path := range r.Back.Left {
		out.printf("%s: %s: %s\n", clean(path), maintenance.NotPutBack, maintenance.NotPutBackHint)
	}
	if r.Foreign != "" {
		fmt.Fprintf(a.stderr, "assetd: warning: this is a copy of another queue: the volume %s, or the queue that was there, is of queue %s. Downloads wait until you take the volume on purpose: assetd check --adopt-volume\n",
			c.Storage.Dir, r.Foreign)
	}
	out.printf("start the daemon: assetd run\n")
	return out.err
}

// since returns the time of a copy, for people.
func since(at time.Time) string {
	if at.IsZero() {
		return "its time is unknown, so all drop files are taken again"
	}
	return "as it was at " + at.Format("2006-01-02 15:04:05Z")
}
