package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// helpCommand is cobra's, but for it an unknown topic is a mistake.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "explain a command",
		Long:    "Explains a command, with its flags and an example, as COMMAND --help does.",
		Example: example("assetd help", "assetd help get"),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(topic, rest[0])
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if topic, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				names = commands(topic)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func commands(of *cobra.Command) (names []string) {
	for _, c := range of.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
		}
	}
	return names
}

// addCompletion adds cobra's completion command, but for it an unknown shell is a
// mistake.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Use, c.Short, c.Args = "completion SHELL", "print the script that completes commands in a shell", cobra.ArbitraryArgs
		c.Long = "Prints the script that completes commands, flags, states and run IDs in a shell;\nassetd completion SHELL --help says how to load it."
		c.Example = example("source <(assetd completion bash)", "assetd completion fish > ~/.config/fish/completions/assetd.fish")
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return withCode(exitUsage, "unknown shell %.40q (see %s --help)", args[0], cmd.CommandPath())
			}
			return withCode(exitUsage, "for which shell? (see %s --help)", cmd.CommandPath())
		}
	}
}

// How many run IDs a shell is offered at most, and how long it may wait for them.
const (
	mostProposed = 100
	proposeTime  = time.Second
)

var errEnough = errors.New("enough")

// completeRunIDs proposes the IDs that the daemon knows, or the queue where none
// runs. Who presses a key wants no messages: what is wrong proposes nothing.
func (a *app) completeRunIDs(cmd *cobra.Command, args []string, prefix string) (ids []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeMoreRunIDs(cmd, args, prefix)
}

// completeMoreRunIDs is the same for commands that take several, each once.
func (a *app) completeMoreRunIDs(cmd *cobra.Command, args []string, prefix string) (ids []cobra.Completion, _ cobra.ShellCompDirective) {
	c, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), proposeTime)
	defer cancel()
	_ = eachRun(ctx, c, server.Filter{}, before(prefix), func(r server.Run) error {
		if !strings.HasPrefix(string(r.RunID), prefix) || len(ids) == mostProposed {
			return errEnough
		}
		if slices.Contains(args, string(r.RunID)) {
			return nil
		}
		ids = append(ids, cobra.CompletionWithDesc(string(r.RunID), string(r.State)))
		return nil
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// before is what sorts before every ID that begins with prefix, and after those
// that sort before them but for a few.
func before(prefix string) run.ID {
	if prefix == "" {
		return ""
	}
	last := len(prefix) - 1
	return run.ID(prefix[:last] + string(prefix[last]-1) + "\x7f")
}
