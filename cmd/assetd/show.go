package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

func (a *app) showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show RUN-ID",
		Short: "show one run and its assets",
		Long: `Shows a run with each asset: its state, file, deadline, attempts and last error, and
what keeps it from going on. Of an answer that was no media it names the copy kept.`,
		Example: example("assetd show omps2OH829", "assetd show omps2OH829 --json"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.show(cmd.Context(), run.ID(args[0]), asJSON) },

		ValidArgsFunction: a.completeRunIDs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) show(ctx context.Context, id run.ID, asJSON bool) error {
	if !run.ValidID(string(id)) {
		return notAnID(string(id))
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	a.noteNoQueue(c)
	r, err := oneRun(ctx, c, id)
	if errors.Is(err, run.ErrUnknown) {
		return fmt.Errorf("run %s is not in the queue: add it with assetd add %s", id, id)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(r)
	}
	return a.printRun(r)
}

func (a *app) printRun(r server.Run) error {
	table := newTable(a.stdout)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", clean(name), clean(value))
		}
	}
	row("run", string(r.RunID))
	row("app", r.AppID)
	row("state", string(r.State))
	row("status", string(r.Status))
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		row("label "+name, r.Labels[name])
	}
	row("added", r.HandedIn.Local().Format(time.DateTime))
	row("ended", local(r.EndedAt))
	row("settled", local(r.SettledAt))
	row("directory", r.Dir)
	row("assets", fmt.Sprintf("%d, %d stored (%s), %d lost", r.Assets, r.Stored, humanize.IBytes(uint64(r.Bytes)), r.Lost))
	row("damaged", damage(r))
	row("polls", fmt.Sprint(r.Polls))
	if r.AtRisk > 0 {
		row("at risk", fmt.Sprintf("%s may not be there before their URLs expire", english.Plural(r.AtRisk, "asset", "")))
	}
	for _, why := range r.HeldUp {
		row("held up", why)
	}
	r.HeldUp, r.AtRisk, r.Damaged, r.BadRecord = nil, 0, 0, "" // have rows of their own
	row("note", note(r))
	if len(r.AssetList) > 0 {
		fmt.Fprintln(table, "\nASSET\tSTATE\tSIZE\tURL DIES\tTRIES\tFILE OR LAST ERROR")
	}
	for _, as := range r.AssetList {
		printAsset(table, as)
	}
	return table.Flush()
}

func printAsset(w io.Writer, as server.Asset) {
	what, size := as.LastError, "-"
	switch {
	case as.Loss != nil:
		what = as.Loss.Reason
	case as.HeldUp != "":
		what = as.HeldUp
	case as.State == run.AssetDownloading:
		size = humanize.IBytes(uint64(as.Received))
		if as.Total > 0 {
			size += " of " + humanize.IBytes(uint64(as.Total))
		}
	}
	if as.File != "" {
		size = humanize.IBytes(uint64(as.Size))
		if what == "" {
			what = as.File
		}
	}
	expires := "unknown"
	if as.Expiry != nil {
		expires = local(as.Expiry)
		if as.State.Open() {
			expires += " (" + until(*as.Expiry, time.Now()) + ")"
		}
	}
	fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%d\t%s\n", as.Kind, clean(as.ID), as.State, size, expires, as.Attempts, clean(what))
	if as.AtRisk {
		fmt.Fprintln(w, "\t\t\t\t\tat risk: it may not be there before its URL expires")
	}
	for _, more := range as.Warnings {
		fmt.Fprintf(w, "\t\t\t\t\twarning: %s\n", clean(more))
	}
	if as.Aside != "" {
		what := "not media, a"
		if strings.Contains(as.Aside, storage.DamagedExt) {
			what = "was damaged, the"
		}
		fmt.Fprintf(w, "\t\t\t\t\t%s copy is in storage.dir: %s\n", what, as.Aside)
	}
}

func local(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}
