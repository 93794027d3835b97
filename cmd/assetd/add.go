package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) addCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add RUN-ID... | -",
		Short: "hand run IDs to the daemon",
		Long: `Hands run IDs in by writing a file into the drop directory, safely on disk before
the command ends. It works with and without a running daemon. With - the IDs are
read from standard input, any number of them, one a line; # starts a comment.
Nothing is handed in where one of them is no run ID.`,
		Example: example("assetd add omps2OH829 Xk20aa9Lq1", "cat ids.txt | assetd add -"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.add(cmd.Context(), args) },
	}
}

func (a *app) add(ctx context.Context, args []string) error {
	ids, err := a.readIDs(args)
	if err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	made, err := inbox.Prepare(c.Drop.Dir)
	a.noteMade(made)
	if err != nil {
		return fmt.Errorf("nothing was handed in: %w", dropfile.Explain(c.Drop.Dir, err))
	}
	paths, err := dropfile.Write(c.Drop.Dir, ids)
	if err != nil && len(paths) == 0 {
		return fmt.Errorf("nothing was handed in: %w", err)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "%d handed in as %s\n", len(ids), strings.Join(paths, " ")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	if _, err := client(c).Health(ctx, false); errors.Is(err, server.ErrNoDaemon) {
		fmt.Fprintf(a.stderr, "assetd: no daemon runs with state.dir %s at the moment: they are taken when one starts (assetd run)\n", c.State.Dir)
	}
	return nil
}

// noteMade says what a daemon of another user needs before it can use what root
// has made here, with nobody above it to whom it could be given.
func (a *app) noteMade(made string) {
	var st syscall.Stat_t
	if made == "" || os.Geteuid() != 0 || syscall.Stat(made, &st) != nil || st.Uid != 0 {
		return
	}
	fmt.Fprintf(a.stderr, "assetd: %s was made and belongs to root: if the daemon runs as another user, run chown -R USER:GROUP %s (systemd does that for its StateDirectory)\n", made, made)
}

// readIDs is the IDs of the arguments, or of standard input, each once. A fault
// refuses all, so that a person sees at once what was mistyped.
func (a *app) readIDs(args []string) ([]run.HandIn, error) {
	if len(args) == 1 && args[0] == "-" {
		return a.readText()
	}
	var ids []run.HandIn
	var faults []error
	seen := map[string]bool{}
	for _, w := range args {
		switch {
		case !run.ValidID(w):
			faults = append(faults, notAnID(w))
		case !seen[w]:
			seen[w] = true
			ids = append(ids, run.HandIn{ID: run.ID(w)})
		}
	}
	return ids, refusal(faults, 0)
}

// notAnID is the mistake of a word that cannot be a run ID.
func notAnID(word string) error {
	return withCode(exitUsage, "%s is no run ID: 4 to 64 of A-Z a-z 0-9 _ -", dropfile.Quote(word))
}

// readText is the IDs of standard input.
func (a *app) readText() ([]run.HandIn, error) {
	r, err := dropfile.ReadText(a.stdin)
	if err != nil {
		return nil, fmt.Errorf("nothing was handed in: read run IDs from standard input: %w", err)
	}
	var faults []error
	for _, f := range r.Faults {
		faults = append(faults, errors.New(f.String()))
	}
	if len(faults) == 0 && len(r.HandIns) == 0 {
		return nil, withCode(exitUsage, "no run IDs on standard input, nothing to hand in")
	}
	return r.HandIns, refusal(faults, r.Hidden)
}

// refusal is the error for faults, hidden ones not among them; nil where there is none.
func refusal(faults []error, hidden int) error {
	if len(faults) == 0 {
		return nil
	}
	const shown = 10
	if n := len(faults) - shown + hidden; n > 0 {
		faults = append(faults[:shown:shown], fmt.Errorf("and %d more", n))
	}
	return codedError{exitUsage, fmt.Errorf("nothing was handed in: %w", errors.Join(faults...))}
}
