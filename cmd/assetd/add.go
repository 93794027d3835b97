package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/run"
)

func (a *app) addCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add RUN-ID... | -",
		Short: "hand run IDs to the daemon",
		Long: `Hands run IDs in by writing a file into the drop directory, safely on disk before
the command ends. It works with and without a running daemon. With - the IDs are
read from standard input, one a line; # starts a comment.`,
		Example: example("assetd add omps2OH829 Xk20aa9Lq1", "cat ids.txt | assetd add -"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.add(args) },
	}
}

func (a *app) add(args []string) error {
	ids, err := a.readIDs(args)
	if err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	if err := inbox.Prepare(c.Drop.Dir); err != nil {
		return err
	}
	path, err := dropfile.Write(c.Drop.Dir, ids)
	if err != nil {
		return fmt.Errorf("nothing was handed in: %w", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%d handed in as %s\n", len(ids), path)
	return err
}

// readIDs is the IDs of the arguments, or of standard input. One that is none
// refuses all, so that a person sees at once what was mistyped.
func (a *app) readIDs(args []string) ([]run.HandIn, error) {
	words := args
	if len(args) == 1 && args[0] == "-" {
		var err error
		if words, err = lines(a.stdin); err != nil {
			return nil, fmt.Errorf("reading run IDs from standard input: %w", err)
		}
	}
	var ids []run.HandIn
	var faults []error
	for _, w := range words {
		if !run.ValidID(w) {
			faults = append(faults, fmt.Errorf("%.40q is no run ID: 4 to 64 of A-Z a-z 0-9 _ -", w))
			continue
		}
		ids = append(ids, run.HandIn{ID: run.ID(w)})
	}
	if len(faults) > 10 {
		faults = append(faults[:10], fmt.Errorf("and %d more", len(faults)-10))
	}
	switch {
	case len(faults) > 0:
		return nil, codedError{exitUsage, fmt.Errorf("nothing was handed in: %w", errors.Join(faults...))}
	case len(ids) == 0:
		return nil, withCode(exitUsage, "no run IDs on standard input, nothing to hand in")
	}
	return ids, nil
}

// lines are the words of r, one a line, without comments.
func lines(r io.Reader) ([]string, error) {
	var words []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		line, _, _ := strings.Cut(" "+in.Text(), " #")
		if line = strings.TrimSpace(line); line != "" {
			words = append(words, line)
		}
	}
	return words, in.Err()
}
