package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// listing is what the list command was asked for.
type listing struct {
	filter  server.Filter
	sort    string
	reverse bool
	limit   int // 0: all
	json    bool
}

func (a *app) listCommand() *cobra.Command {
	var l listing
	var only, labels []string
	var since string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list runs",
		Long: `Lists the runs that the queue knows, with or without a running daemon: all, or those
for which every given flag holds. --at-risk takes a running daemon: those are runs of
which an asset may not be there before its URL expires.`,
		Example: example("assetd list", "assetd list --state partial --since 24h", "assetd list --at-risk --sort dies",
			"assetd list --state partial,failed", "assetd list --damaged",
			"assetd list --label shot=12 --sort handed-in --reverse --limit 20", "assetd list --json | jq -r 'select(.lost > 0).run_id'"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if l.filter.States, err = server.ParseStates(only); err != nil {
				return withCode(exitUsage, "--%w (see assetd list --help)", err)
			}
			l.filter.Apps = server.ParseList(l.filter.Apps)
			if l.filter.Labels, err = server.ParseLabels(labels); err != nil {
				return withCode(exitUsage, "--label: %w (see assetd list --help)", err)
			}
			if l.filter.Since, err = moment(since, time.Now()); err != nil {
				return withCode(exitUsage, "--since: %w (see assetd list --help)", err)
			}
			return a.list(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&only, "state", nil, "only runs in this `STATE`: "+strings.Join(states(), ", ")+"; may be repeated or hold commas")
	f.StringArrayVar(&l.filter.Apps, "app", nil, "only runs of the app with this `ID`; may be repeated or hold commas")
	f.StringArrayVar(&labels, "label", nil, "only runs with this label, as `NAME=VALUE`; may be repeated: each name must fit, with one of its values")
	f.StringVar(&since, "since", "", "only runs added since `TIME`: a date, a date and a time, or how long ago, like 90m or 7d")
	f.BoolVar(&l.filter.AtRisk, "at-risk", false, "only runs of which an asset may not be there before its URL expires")
	f.BoolVar(&l.filter.Damaged, "damaged", false, "only runs of which verify found a file damaged or missing")
	f.StringVar(&l.sort, "sort", orderID, "in the order of `KEY`: "+strings.Join(orders(), ", "))
	f.BoolVar(&l.reverse, "reverse", false, "the last one first")
	f.IntVar(&l.limit, "limit", 0, "the first `N` alone; 0: all")
	f.BoolVar(&l.json, "json", false, "print one JSON object per line")
	for name, values := range map[string][]string{"state": states(), "sort": orders()} {
		cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // it has this flag
	}
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

// check names what cannot be asked for.
func (l listing) check() error {
	switch {
	case !slices.Contains(orders(), l.sort):
		return withCode(exitUsage, "--sort %.40q is none of %s (see assetd list --help)", l.sort, strings.Join(orders(), ", "))
	case l.limit < 0:
		return withCode(exitUsage, "--limit %d: at least 0 (see assetd list --help)", l.limit)
	}
	return nil
}

func (a *app) list(ctx context.Context, l listing) error {
	if err := l.check(); err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	a.noteNoQueue(c)
	// A row is many small writes, and a million rows would be as many system calls.
	var out *bufio.Writer
	var to rows
	if l.json {
		out = bufio.NewWriterSize(a.stdout, 64<<10)
		to = jsonRows{json.NewEncoder(out)}
	} else {
		out = bufio.NewWriterSize(narrow(a.stdout), 64<<10)
		to = newTableRows(out, width(a.stdout), time.Now())
	}
	err = l.each(ctx, c, to.row)
	if err == nil {
		err = to.end()
	}
	if e := out.Flush(); err == nil { // what came before an error is printed, too
		err = e
	}
	return err
}

// each calls f with the runs that were asked for, in their order. Runs in the order
// of their IDs come one by one; for any other all are gathered first.
func (l listing) each(ctx context.Context, c *config.Config, f func(server.Run) error) error {
	if l.sort == orderID && !l.reverse {
		n := 0
		err := eachRun(ctx, c, l.filter, "", func(r server.Run) error {
			if err := f(r); err != nil {
				return err
			}
			if n++; n == l.limit {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	top := newTop(l.sort, l.reverse, l.limit)
	if err := eachRun(ctx, c, l.filter, "", func(r server.Run) error { top.add(r); return nil }); err != nil {
		return err
	}
	for _, r := range top.sorted() {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// note is what a person should know first of a run that is not as it should be.
func note(r server.Run) string {
	switch {
	case r.GaveUp != "":
		return r.GaveUp
	case len(r.HeldUp) > 0:
		return strings.Join(r.HeldUp, "; ")
	case r.Damaged > 0 || r.BadRecord != "":
		return damage(r) + ": assetd retry " + string(r.RunID)
	case r.AtRisk > 0:
		return english.Plural(r.AtRisk, "asset", "") + " at risk"
	case r.ErrorMessage != "":
		return r.ErrorMessage
	case r.NoAccess:
		return "no access"
	default:
		return r.LastError
	}
}

// damage says what verify found of a run's files, or "" if they are intact.
func damage(r server.Run) string {
	var found []string
	if r.Damaged > 0 {
		found = append(found, english.Plural(r.Damaged, "file", "")+" damaged or missing")
	}
	if r.BadRecord != "" {
		found = append(found, r.BadRecord)
	}
	return strings.Join(found, ", ")
}
