package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) addCommand() *cobra.Command {
	var labels []string
	cmd := &cobra.Command{
		Use:   "add [--label NAME=VALUE]... RUN-ID... | -",
		Short: "add runs to the queue",
		Long: `Adds runs by writing a file into the drop directory, which is safely on disk before the
command ends. It works whether or not the daemon is running. With - the IDs are read from
standard input, any number of them, one per line; # starts a comment. Nothing is added if
one of them is not a run ID. If a daemon runs, the runs are in its queue when the command
ends. The labels apply to all of the runs.`,
		Example: example("assetd add omps2OH829 Xk20aa9Lq1", "assetd add --label project=Spring omps2OH829", "cat ids.txt | assetd add -"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.add(cmd.Context(), args, labels) },
	}
	cmd.Flags().StringArrayVar(&labels, "label", nil, "a `NAME=VALUE` that names and manifests can use; may be repeated")
	return cmd
}

func (a *app) add(ctx context.Context, args, labels []string) error {
	ids, err := a.readIDs(args)
	if err != nil {
		return err
	}
	set, err := readLabels(labels)
	if err != nil {
		return err
	}
	for i := range ids {
		ids[i].Labels = set
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	made, err := inbox.Prepare(c.Drop.Dir)
	a.noteMade(made)
	if err != nil {
		return fmt.Errorf("nothing was added: %w", dropfile.Explain(c.Drop.Dir, err))
	}
	paths, err := dropfile.Write(c.Drop.Dir, ids)
	if err != nil && len(paths) == 0 {
		return fmt.Errorf("nothing was added: %w", err)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "%d added as %s\n", len(ids), strings.Join(paths, " ")); err != nil {
		return err
	}
	if waitTaken(ctx, paths, func() bool { return daemonThere(ctx, c) }) {
		return nil
	}
	if daemonThere(ctx, c) {
		fmt.Fprintf(a.stderr, "assetd: they are safe on disk, but the daemon has not taken them yet: assetd health --ready says what keeps it\n")
		return nil
	}
	fmt.Fprintf(a.stderr, "assetd: no daemon runs with state.dir %s at the moment: they are taken when one starts (assetd run)\n", c.State.Dir)
	return nil
}

// So long add waits for a daemon that may have been started in the same moment, for one
// that is there to take the IDs, and between two looks.
const (
	startTime = 300 * time.Millisecond
	takeTime  = 10 * time.Second
	takeLook  = 10 * time.Millisecond
)

// waitTaken waits until the drop files have left the drop directory: then their IDs are
// in the queue, where list and show find them. It reports whether they have.
func waitTaken(ctx context.Context, paths []string, daemon func() bool) bool {
	begun, there := time.Now(), false
	for {
		paths = slices.DeleteFunc(paths, func(path string) bool {
			_, err := os.Lstat(path)
			return errors.Is(err, fs.ErrNotExist)
		})
		if len(paths) == 0 {
			return true
		}
		waited := time.Since(begun)
		if !there && waited >= startTime {
			if there = daemon(); !there {
				return false
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(takeLook):
		}
		if waited >= takeTime {
			return false
		}
	}
}

// daemonThere reports whether a daemon runs, or is starting: then it holds its state
// directory before its socket answers.
func daemonThere(ctx context.Context, c *config.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	_, err := client(c).Health(ctx, false)
	return !errors.Is(err, server.ErrNoDaemon) || boltkv.Locked(c.State.Dir)
}

// readLabels is the labels of --label.
func readLabels(flags []string) (map[string]string, error) {
	var labels map[string]string
	for _, flag := range flags {
		name, value, ok := strings.Cut(flag, "=")
		if !ok {
			return nil, withCode(exitUsage, "--label %s: write it as NAME=VALUE", dropfile.Quote(flag))
		}
		if _, twice := labels[name]; twice {
			return nil, withCode(exitUsage, "--label %s: given twice", dropfile.Quote(name))
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	if err := run.CheckLabels(labels); err != nil {
		return nil, withCode(exitUsage, "--label: %w", err)
	}
	return labels, nil
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
		return nil, fmt.Errorf("nothing was added: read run IDs from standard input: %w", err)
	}
	var faults []error
	for _, f := range r.Faults {
		faults = append(faults, errors.New(f.String()))
	}
	if len(faults) == 0 && len(r.HandIns) == 0 {
		return nil, withCode(exitUsage, "no run IDs on standard input, nothing to add")
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
	return codedError{exitUsage, fmt.Errorf("nothing was added: %w", errors.Join(faults...))}
}
