package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/daemon/admin"
	"github.com/assetd/assetd/internal/daemon/doctor"
	"github.com/assetd/assetd/internal/run"
)

func (a *app) checkCommand() *cobra.Command {
	var offline, adopt bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "is this machine ready? configuration, key, clock, volume",
		Long: `Checks configuration, directories, volume and what it can do, free space, key, API, clock,
CDN and backlog, and says for each problem what to do. It changes nothing, except with
--adopt-volume: then the volume at storage.dir belongs to this queue from now on, whatever
it was before.`,
		Example: example("assetd check", "assetd check --offline", "assetd check --adopt-volume"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if adopt {
				return a.adoptVolume(cmd.Context())
			}
			return a.check(cmd.Context(), offline)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the API, nor a CDN")
	cmd.Flags().BoolVar(&adopt, "adopt-volume", false, "take the volume at storage.dir for this queue, on purpose; stop the daemon first")
	return cmd
}

func (a *app) check(ctx context.Context, offline bool) error {
	c, err := a.loadAndWarn()
	if err != nil {
		return err
	}
	results := []doctor.Check{{About: "configuration", Grade: doctor.Good, Text: "file: " + orNone(c.File())}}
	key, keyErr := c.APIKey()
	results = append(results, doctor.Run(ctx, c, key, keyErr, offline)...)
	bad := 0
	out := &printer{w: a.stdout}
	for _, f := range results {
		out.printf("%-4s  %-13s  %s\n", f.Grade, f.About, clean(f.Text))
		if f.Hint != "" {
			out.printf("%-4s  %-13s  -> %s\n", "", "", clean(f.Hint))
		}
		if f.Grade == doctor.Bad {
			bad++
		}
	}
	if bad > 0 {
		return errors.Join(out.err, fmt.Errorf("not ready: %d of %d checks are bad", bad, len(results)))
	}
	out.printf("this machine is ready\n")
	return out.err
}

func orNone(s string) string {
	if s == "" {
		return "none, all defaults"
	}
	return s
}

func (a *app) adoptVolume(ctx context.Context) error {
	c, err := a.loadAndWarn()
	if err != nil {
		return err
	}
	err = admin.AdoptVolume(ctx, c, func(e run.Event) {
		fmt.Fprintf(a.stdout, "%s: %s (%s)\n", e.File, e.Kind, e.Note)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s belongs to the queue in %s\n", c.Storage.Dir, c.State.Dir)
	return err
}
