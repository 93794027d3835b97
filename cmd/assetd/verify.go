package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/daemon/verify"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) verifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [RUN-ID...]",
		Short: "hash what is stored against the manifests",
		Long: `Reads the stored files of all settled runs, or of the given ones. Compares size and
SHA-256 of each file with the queue, and manifest.json and SHA256SUMS with both. Damaged
and missing files are reported and marked, and assetd retry fetches them again; a marked
file that is intact again loses its mark. Changes no file. Works whether or not the daemon
is running, and as any user who may read the files.

Exits with 3 if a stored file is damaged or missing (lost assets are neither), with 1 if
one could not be read.`,
		Example: example("assetd verify", "assetd verify omps2OH829 || assetd retry omps2OH829",
			"assetd verify --json | jq -r 'select(.result != \"ok\").file'"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), args, asJSON) },

		ValidArgsFunction: a.completeMoreRunIDs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line, for each file")
	return cmd
}

func (a *app) verify(ctx context.Context, args []string, asJSON bool) error {
	ids, err := runIDs(args)
	if err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	a.noteNoQueue(c)
	b := verifyBackend{c, client(c)}
	where, err := b.volume(ctx)
	if err != nil {
		return err
	}
	if where.Queue == "" { // nothing was ever added
		if len(ids) > 0 {
			return notThere(ids[0])
		}
		fmt.Fprintln(a.stderr, "assetd: nothing is stored yet")
		return nil
	}
	v, err := verify.Open(where, b)
	if err != nil {
		return fmt.Errorf("nothing was verified: %w", err)
	}
	out := newVerifyOutput(a.stdout, a.stderr, asJSON)
	v.Report, v.Read, v.MarkFailed = out.report, out.read, out.markFailed
	if len(ids) > 0 {
		err = a.verifyThese(ctx, b, v, ids)
	} else {
		err = verifyAll(ctx, b, v)
	}
	err = errors.Join(err, out.close())
	return out.outcome(ctx, err)
}

// verifyThese verifies the runs of the arguments. One that is not there, or not
// settled, holds up no other.
func (a *app) verifyThese(ctx context.Context, b verifyBackend, v *verify.Verifier, ids []run.ID) error {
	var refused []error
	for _, id := range ids {
		r, err := b.Run(ctx, id)
		switch {
		case errors.Is(err, run.ErrUnknown):
			refused = append(refused, notThere(id))
			continue
		case err != nil:
			return err
		case !r.State.Settled():
			refused = append(refused, fmt.Errorf("run %s is %s: it can be verified once it has settled", id, r.State))
			continue
		}
		if err := v.Verify(ctx, r); err != nil {
			return err
		}
	}
	return errors.Join(refused...)
}

// runsAtOnce is how many runs are looked at at a time: small ones would not fill the
// disk otherwise.
const runsAtOnce = 4

func verifyAll(ctx context.Context, b verifyBackend, v *verify.Verifier) error {
	for after := run.ID(""); ; {
		runs, last, err := b.page(ctx, after)
		if err != nil {
			return err
		}
		if last == "" {
			return nil
		}
		if err := verifyPage(ctx, v, runs); err != nil {
			return err
		}
		after = last
	}
}

func verifyPage(ctx context.Context, v *verify.Verifier, runs []server.Run) error {
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(runsAtOnce)
	for _, r := range runs {
		if working.Err() != nil {
			break
		}
		g.Go(func() error { return v.Verify(working, r) })
	}
	return errors.Join(g.Wait(), ctx.Err())
}
