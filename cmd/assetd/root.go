package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/signals"
)

// app is what all commands share: the process they run in and the flags that all
// of them take.
type app struct {
	system
	configFile string
	set        []string
	warned     map[string]bool // each warning is printed once
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, sys system) int {
	out := &printer{w: sys.stdout} // cobra does not look whether a help text could be written
	root := newRoot(&app{system: sys, warned: map[string]bool{}}, out)
	root.SetArgs(args)
	err := cmp.Or(root.ExecuteContext(ctx), out.err)
	if errors.Is(err, syscall.EPIPE) {
		return exitDone // whoever read our output has seen enough
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintf(sys.stderr, "assetd: %s\n", err)
	}
	return exitCode(ctx, err)
}

// isDaemon annotates the command that runs the daemon.
const isDaemon = "daemon"

func newRoot(a *app, out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "assetd",
		Short: "download what Magnific runs produce to your own storage, before the URLs expire",
		Long: `assetd downloads every image, video and audio of the runs submitted to it to your
own storage, complete and verified, before the signed URLs expire.

See it work without a key: assetd demo
Documentation: https://github.com/assetd/assetd`,
		Example:       example("ASSETD_API_KEY=… assetd get omps2OH829", "assetd run", "assetd add omps2OH829"),
		Version:       versionText(),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if _, daemon := cmd.Annotations[isDaemon]; daemon {
				return // its warnings are log lines, and SIGHUP reads the configuration again
			}
			signals.DefaultHangup() // the terminal was closed
			if !strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) {
				a.warn(config.UnknownVariables(a.environ()))
			}
		},
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(out)
	root.SetErr(a.stderr)
	root.SetVersionTemplate(versionLine())
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "read this configuration `file`")
	root.PersistentFlags().StringArrayVar(&a.set, "set", nil, "set one `key=value` of the configuration; may be repeated")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withCode(exitUsage, "%w (see %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(
		a.runCommand(), a.getCommand(), a.addCommand(), a.listCommand(), a.showCommand(), a.retryCommand(), a.removeCommand(),
		a.verifyCommand(), a.checkCommand(), a.backupCommand(), a.restoreCommand(), a.configCommand(), a.demoCommand(), a.healthCommand(), a.versionCommand(), a.manCommand(),
	)
	root.SetHelpCommand(helpCommand())
	addCompletion(root)
	polish(root)
	return root
}

func unknownCommand(parent *cobra.Command, name string) error {
	hint := "see " + parent.CommandPath() + " --help"
	if near := parent.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return withCode(exitUsage, "unknown command %.40q: %s", name, hint)
}

// polish gives all commands what they have in common: wrong arguments end with the
// exit code for them and a word on where to look, and no file is proposed where
// none is meant.
func polish(c *cobra.Command) {
	for _, sub := range c.Commands() {
		polish(sub)
	}
	c.SuggestionsMinimumDistance = 2
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return withCode(exitUsage, "%w: write %s (see %s --help)", err, cmd.UseLine(), cmd.CommandPath())
		}
		return nil
	}
}

// load reads the configuration.
func (a *app) load() (*config.Config, error) {
	c, _, err := a.read()
	return c, err
}

// loadAndWarn reads the configuration and prints what is unwise in it: for the
// commands that are about the configuration.
func (a *app) loadAndWarn() (*config.Config, error) {
	c, warnings, err := a.read()
	a.warn(warnings)
	return c, err
}

func (a *app) warn(warnings []config.Warning) {
	for _, w := range warnings {
		if text := w.String(); !a.warned[text] {
			a.warned[text] = true
			fmt.Fprintf(a.stderr, "assetd: warning: %s\n", text)
		}
	}
}

func (a *app) read() (*config.Config, []config.Warning, error) {
	c, warnings, err := config.Load(config.Options{
		File: a.configFile, Set: a.set, Environ: a.environ(), UID: os.Geteuid(), Version: versionText(),
	})
	if err != nil {
		return nil, warnings, codedError{exitConfig, err}
	}
	return c, warnings, nil
}

// example indents the lines of an example as cobra shows them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
