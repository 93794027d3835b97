package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manual is what assetd(1) says besides what its help does, in Markdown. Exit codes are
// those of deploy/OPERATIONS.md, the order of configuration files that of configs/README.md.
const manual = `

# FILES

**/etc/assetd/assetd.yaml**
: the configuration, where neither --config nor $ASSETD_CONFIG names another; else $XDG_CONFIG_HOME/assetd/assetd.yaml

**/etc/assetd/api-key**
: the API key that the system service is given, readable by root alone

**/var/lib/assetd**
: with the system service: drop (where runs are submitted), state (the queue and the socket) and assets

**/usr/share/doc/assetd**
: README.md, configs/README.md (every key), deploy/OPERATIONS.md (monitoring, alerts, runbook, security),
internal/server/README.md (drop files, HTTP API, webhooks, hooks)

# ENVIRONMENT

**ASSETD_API_KEY**, **MAGNIFIC_API_KEY**
: the API key

**ASSETD_CONFIG**
: the configuration file

Every key of the configuration can be set: storage.run_dir by **ASSETD_STORAGE_RUN_DIR**.

# EXIT STATUS

0 done, 1 error, 2 usage, 3 an asset was lost or is damaged, 4 a run failed, 5 not finished within --timeout,
78 configuration, 130 interrupted.
`

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the manual's pages into a directory",
		Hidden: true, // for who makes packages
		Long: `Writes a manual page for each command into a directory that is there. They are
dated by $SOURCE_DATE_EPOCH, in seconds since 1970, else by today.`,
		Example: example("assetd man /usr/local/share/man/man1"),
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	}
}

func writeManual(root *cobra.Command, dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a directory: make it first", dir)
	}
	var commands strings.Builder
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&commands, "**%s**\n: %s\n\n", c.Use, c.Short)
		}
	}
	root.Long += "\n\n# COMMANDS\n\n" + commands.String() + manual
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "assetd " + versionText(), Manual: "assetd"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("write the manual into %s: %w", dir, err)
	}
	return nil
}
